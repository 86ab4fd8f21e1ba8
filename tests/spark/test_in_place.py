"""Columns corrected where they stand, night after night."""

from datetime import date
from decimal import Decimal

from jobs.to_do import states
from tests.scripted_endpoint import Asked, Said
from tests.shop import TOPIC, Shop, column, counts

CITY = {"task": "clean", "name": "city", "rules": "lower case, no blanks around", "context": ["country"]}
COUNTRY = {"task": "impute", "name": "country", "from": ["city", "text"], "labels": ["Spain", "France"]}
ABOUT = {**TOPIC, "from": ["text", "city", "country"]}
ROWS = [
    (1, "refund please", " Berlin ", "de"),
    (2, "delivery late", "paris", None),
    (3, "delivery late", "paris", ""),
    (4, "hello", None, "fr"),
    (5, "  ", " Köln", None),
    (6, None, None, None),
]
DDL = "id long, text string, city string, country string"


def test_three_nights_over_the_same_columns_ask_once_and_a_hand_edit_is_kept(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY, COUNTRY, ABOUT)
    first = shop.run(job)
    assert shop.endpoint.taken() == {"correct": 4, "fill": 2, "choose": 5}
    assert counts(first, "city") == {"accepted": 2, "unchanged": 2, "skipped": 2}
    assert counts(first, "country") == {"accepted": 3, "skipped": 3}
    assert counts(first, "topic") == {"accepted": 5, "skipped": 1}
    rows = shop.rows()
    assert column(rows, "city") == ["berlin", "paris", "paris", None, "köln", None]
    assert column(rows, "country") == ["de", "France", "France", "fr", "France", None]
    assert column(rows, "topic") == ["refund", "delivery", "delivery", "other", "other", None]
    version = shop.version()
    for _ in range(2):
        again = shop.run(job)
        assert (again.progress.questions, shop.version(), again.complete) == (0, version, True)
        assert {name: counts(again, name) for name in again.columns} == {
            name: counts(first, name) for name in first.columns
        }
        assert sum(one["changed"] for one in again.columns.values()) == 0
    assert not shop.endpoint.taken()

    shop.sql("UPDATE {t} SET city = 'Bonn ' WHERE id = 1")
    shop.sql("UPDATE {t} SET topic = 'mine' WHERE id = 2")
    edited = shop.run(job)
    assert counts(edited, "city")["kept"] == counts(edited, "topic")["kept"] == 1
    # the city is an input of row 1's topic, which nobody edited
    assert shop.endpoint.taken() == {"choose": 1}
    rows = shop.rows()
    assert (rows[1]["city"], rows[2]["topic"]) == ("Bonn ", "mine")
    version = shop.version()
    quiet = shop.run(job)
    assert counts(quiet, "city")["kept"] == 1
    assert shop.version() == version
    # a look at one column alone sees what the look at all of them sees
    for at, task in enumerate(quiet.prepared.tasks):
        assert states(quiet.prepared.cells.alone(at)) == {task.name: quiet.prepared.states[task.name]}

    forced = shop.run(job, overwrite_edits=True, only=("city",))
    assert shop.endpoint.taken() == {"correct": 1}
    assert (shop.rows()[1]["city"], shop.rows()[2]["topic"]) == ("bonn", "mine")
    assert shop.changes(job, forced.run_id) == {('{"id":1}', "city", "Bonn ", "bonn")}


def test_a_reference_table_fills_without_asking_and_is_counted_apart(shop: Shop) -> None:
    reference = str(shop.folder / "cities")
    known = [("paris", "fr"), ("bonn", "de"), ("bonn", "de"), ("twin", "de"), ("twin", "fr"), ("odd", None)]
    shop.spark.createDataFrame(known, "name string, land string").write.format("delta").save(reference)
    cities = ["paris", "bonn", "twin", "odd", "de"]
    shop.write([(at, name, None) for at, name in enumerate(cities)], "id long, city string, country string")
    task = {"task": "impute", "name": "country", "from": ["city"], "labels": ["de", "fr"]}
    task["reference"] = {"table": reference, "keys": {"city": "name"}, "value": "land"}
    job = shop.job(task)
    result = shop.run(job)
    assert shop.endpoint.taken() == {"fill": 3}
    assert result.columns["country"]["from_reference"] == 2
    assert result.columns["country"]["not_scored"] == 0
    assert counts(result, "country") == {"accepted": 5}
    rows = shop.rows()
    assert column(rows, "country") == ["fr", "de", "fr", "fr", "de"]
    assert [rows[at]["country_confidence"] is None for at in range(5)] == [True, True, False, False, False]
    assert rows[0]["country_meta"]["notes"] == ["reference"]
    version = shop.version()
    again = shop.run(job)
    assert (again.progress.questions, shop.version()) == (0, version)


def test_guards_send_to_review_and_the_cell_stays(shop: Shop) -> None:
    rows = [(1, "Ab", "Xy", "Long one", "Ok"), (2, "9", "b", "c", "d")]
    shop.write(rows, "id long, p string, d string, e string, u string")
    rules = {"task": "clean", "rules": "lower case"}

    def script(asked: Asked) -> Said:
        return {"Long one": "short", "Ok": ("ok", 0.3), "9": " ", "d": ("d", 0.1)}.get(asked.cell)

    shop.endpoint.script = script
    job = shop.job(
        {**rules, "name": "p", "pattern": "^[A-Z]+$"},
        {**rules, "name": "d", "domain": ["a", "b"]},
        {**rules, "name": "e", "max_edit_distance": 2},
        {**rules, "name": "u"},
    )
    result = shop.run(job)
    found = shop.rows()
    assert [found[1][name] for name in "pdeu"] == ["Ab", "Xy", "Long one", "Ok"]
    assert [found[1][f"{name}_meta"]["proposed"] for name in "pdeu"] == ["ab", "xy", "short", "ok"]
    assert [found[1][f"{name}_meta"]["notes"] for name in "pdeu"] == [
        ["guard:pattern"],
        ["guard:domain"],
        ["guard:edit_distance"],
        [],
    ]
    assert [found[1][f"{name}_meta"]["status"] for name in "pdeu"] == ["review"] * 4
    assert found[2]["p_meta"]["status"] == "review"
    assert [found[2][f"{name}_meta"]["status"] for name in "deu"] == ["unchanged"] * 3
    assert result.columns["p"]["changed"] == 0
    version = shop.version()
    assert shop.run(job).progress.questions == 0
    assert shop.version() == version


def test_numbers_and_dates_keep_their_type_and_what_does_not_convert_is_held_back(shop: Shop) -> None:
    ddl = "id long, n int, price decimal(10,2), day date, share double"
    rows = [
        (1, 7, Decimal("1.50"), date(2024, 1, 2), 0.5),
        (2, 8, Decimal("2.00"), date(2024, 1, 3), 1.5),
        (3, 9, None, None, None),
    ]
    shop.write(rows, ddl)
    said = {"7": "70", "8": "many", "1.50": "1.75", "2024-01-02": "2025-01-02", "2024-01-03": "soon", "0.5": "0.25"}
    shop.endpoint.script = lambda asked: said.get(asked.cell)
    rules = {"task": "clean", "rules": "make it right"}
    job = shop.job(*[{**rules, "name": name} for name in ("n", "price", "day", "share")])
    shop.run(job)
    written = shop.frame()
    assert [written.schema[name].dataType.simpleString() for name in ("n", "price", "day", "share")] == [
        "int",
        "decimal(10,2)",
        "date",
        "double",
    ]
    found = shop.rows()
    assert [found[1][name] for name in ("n", "price", "day", "share")] == [70, Decimal("1.75"), date(2025, 1, 2), 0.25]
    assert [found[2][name] for name in ("n", "price", "day", "share")] == [8, Decimal("2.00"), date(2024, 1, 3), 1.5]
    assert [found[2][f"{name}_meta"]["status"] for name in ("n", "price", "day", "share")] == [
        "review",
        "unchanged",
        "review",
        "unchanged",
    ]
    assert found[2]["n_meta"]["notes"] == ["guard:type"]
    shop.endpoint.taken()
    version = shop.version()
    assert shop.run(job).progress.questions == 0
    assert shop.version() == version


def test_what_a_later_run_writes_moves_no_question_of_an_earlier_one(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY, COUNTRY, ABOUT, limits={"max_failed_share": 0.9})
    shop.endpoint.script = lambda asked: 503 if asked.topic == "correct" else None
    shop.run(job)
    shop.endpoint.script = lambda asked: None
    shop.endpoint.taken()
    # the cities are written a night after what reads them, or by a run of their own
    second = shop.run(job, only=("city",))
    # two cells are one question now that their countries are filled in
    assert shop.endpoint.taken() == {"correct": 3}
    assert counts(second, "city") == {"accepted": 2, "unchanged": 2, "skipped": 2}
    third = shop.run(job)
    assert (shop.endpoint.taken(), third.progress.questions) == ({}, 0)
    assert third.complete


def test_a_guard_that_was_wrong_is_lifted_without_asking(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    strict = shop.run(shop.job({**CITY, "pattern": "^[A-Z]+$"}))
    assert counts(strict, "city") == {"review": 4, "skipped": 2}
    shop.endpoint.taken()
    narrow = shop.run(shop.job({**CITY, "domain": ["berlin"]}))
    assert counts(narrow, "city") == {"accepted": 1, "review": 3, "skipped": 2}
    lifted = shop.run(shop.job({**CITY, "pattern": "^[a-zö]+$"}))
    assert counts(lifted, "city") == {"accepted": 2, "unchanged": 2, "skipped": 2}
    assert (shop.endpoint.taken(), column(shop.rows(), "city")[:2]) == ({}, ["berlin", "paris"])


def test_an_edit_that_is_taken_back_is_no_new_question(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY)
    first = shop.run(job)
    shop.endpoint.taken()
    shop.sql("UPDATE {t} SET city = 'Bonn ' WHERE id = 1")
    assert counts(shop.run(job), "city")["kept"] == 1
    shop.sql("UPDATE {t} SET city = 'berlin' WHERE id = 1")
    back = shop.run(job)
    assert (shop.endpoint.taken(), shop.rows()[1]["city"]) == ({}, "berlin")
    assert "kept" not in counts(back, "city")
    assert sum(counts(back, "city").values()) == sum(counts(first, "city").values())

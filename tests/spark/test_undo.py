"""Taking a run back: old values where a cell still holds what the run wrote, and nowhere else."""

import pytest

from jobs.history import history
from jobs.undo import undo
from schemas.errors import DataContractError, JobFileError
from tests.shop import TOPIC, Shop, column, counts

CITY = {"task": "clean", "name": "city", "rules": "lower case, no blanks around"}
ABOUT = {**TOPIC, "from": ["text", "city"]}
ROWS = [(1, "refund please", " Berlin "), (2, "delivery late", "Paris"), (3, "refund, please", "rome")]
DDL = "id long, text string, city string"


def test_a_run_is_taken_back_and_not_filled_again(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY, ABOUT)
    first = shop.run(job)
    assert column(shop.rows(), "city") == ["berlin", "paris", "rome"]
    before = shop.version()
    told = undo(shop.spark, job, run_id=first.run_id, dry_run=True)
    assert (told.columns["city"].restored, told.columns["topic"].restored) == (2, 3)
    assert shop.version() == before

    done = undo(shop.spark, job, run_id=first.run_id)
    assert done.columns == told.columns
    assert shop.version() == before + 1, "one MERGE"
    rows = shop.rows()
    assert column(rows, "city") == [" Berlin ", "Paris", "rome"]
    assert column(rows, "topic") == [None, None, None]
    assert column(rows, "city_confidence")[:2] == [None, None]
    assert [row["city_meta"]["status"] for _, row in sorted(rows.items())] == ["undone", "undone", "unchanged"]
    assert rows[1]["city_meta"]["proposed"] == "berlin"
    assert shop.changes(job, done.run_id) >= {('{"id":1}', "city", "berlin", " Berlin ")}

    shop.endpoint.taken()
    again = shop.run(job)
    assert not shop.endpoint.taken()
    assert counts(again, "city") == {"undone": 2, "unchanged": 1}
    assert counts(again, "topic") == {"undone": 3}
    assert column(shop.rows(), "city") == [" Berlin ", "Paris", "rome"]

    shop.sql("UPDATE {t} SET city = 'PARIS' WHERE id = 2")
    assert counts(shop.run(job), "city")["kept"] == 1, "an edit of a restored cell is a person's"


def test_what_was_changed_since_stays(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY)
    first = shop.run(job)
    shop.sql("UPDATE {t} SET city = 'Bonn' WHERE id = 1")
    shop.sql("DELETE FROM {t} WHERE id = 3")
    done = undo(shop.spark, job, run_id=first.run_id)
    assert vars(done.columns["city"]) == {"changed": 2, "restored": 1, "left": 1}
    assert column(shop.rows(), "city") == ["Bonn", "Paris"]


def test_one_column_or_some_rows_are_taken_back(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY, TOPIC)
    first = shop.run(job)
    undo(shop.spark, job, run_id=first.run_id, columns=["city"], where="id = 2")
    rows = shop.rows()
    assert column(rows, "city") == ["berlin", "Paris", "rome"]
    assert column(rows, "topic") == ["refund", "delivery", "refund"]
    undo(shop.spark, job, run_id=first.run_id, columns=["city"])
    assert column(shop.rows(), "city") == [" Berlin ", "Paris", "rome"]


def test_an_undo_can_be_undone(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY)
    first = shop.run(job)
    done = undo(shop.spark, job, run_id=first.run_id)
    undo(shop.spark, job, run_id=done.run_id)
    assert column(shop.rows(), "city") == ["berlin", "paris", "rome"]


def test_a_task_that_reads_a_restored_column_asks_nothing_again(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY, ABOUT)
    first = shop.run(job)
    undo(shop.spark, job, run_id=first.run_id, columns=["city"])
    shop.endpoint.taken()
    again = shop.run(job)
    assert not shop.endpoint.taken()
    assert counts(again, "topic") == {"accepted": 3}


def test_values_of_other_types_come_back_as_they_were(shop: Shop) -> None:
    ddl = "id long, text string"
    shop.write([(1, "order refund"), (2, "delivery")], ddl)
    extract = {"task": "extract", "name": "found", "from": ["text"], "attributes": {"kind": "string"}}
    shop.endpoint.script = lambda asked: '{"kind":"refund"}' if "order" in asked.text else '{"kind":null}'
    job = shop.job(extract, accept=0.0)
    first = shop.run(job)
    assert shop.rows()[1]["found"].asDict() == {"kind": "refund"}
    done = undo(shop.spark, job, run_id=first.run_id)
    assert shop.rows()[1]["found"] is None
    undo(shop.spark, job, run_id=done.run_id)
    assert shop.rows()[1]["found"].asDict() == {"kind": "refund"}


def test_a_value_that_was_only_judged_anew_since_comes_back_too(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    first = shop.run(shop.job(CITY, TOPIC))
    for score in ("geometric_mean", "minimum"):
        job = shop.job({**CITY, "score": score}, TOPIC)
        again = shop.run(job)
        assert again.progress.questions == 0
        # what a run wrote is still no cell that was right from the start
        assert counts(again, "city") == {"accepted": 2, "unchanged": 1}
    rows = shop.rows()
    assert rows[1]["city_meta"]["published_run"] == again.run_id
    assert f"written_by:{first.run_id}" in rows[1]["city_meta"]["notes"]
    done = undo(shop.spark, job, run_id=first.run_id, columns=["city"])
    assert vars(done.columns["city"]) == {"changed": 2, "restored": 2, "left": 0}
    assert column(shop.rows(), "city") == [" Berlin ", "Paris", "rome"]
    undo(shop.spark, job, run_id=done.run_id)
    assert column(shop.rows(), "city") == ["berlin", "paris", "rome"]


def test_a_publish_that_never_happened_restores_nothing(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY)
    shop.run(job)
    place = shop.store(job).place("changes")
    shop.spark.sql(
        f"INSERT INTO delta.`{place.path}` SELECT 'never', target, key, column, 'x', new_value, old_meta, confidence, "
        f"question_id, changed_at FROM delta.`{place.path}`"
    )
    done = undo(shop.spark, job, run_id="never")
    assert done.columns["city"].restored == 0
    assert column(shop.rows(), "city") == ["berlin", "paris", "rome"]


def test_what_cannot_be_undone_is_told(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY)
    first = shop.run(job)
    with pytest.raises(DataContractError, match="changed nothing of city"):
        undo(shop.spark, job, run_id="nobody")
    with pytest.raises(JobFileError, match="this job writes city"):
        undo(shop.spark, job, run_id=first.run_id, columns=["topic"])
    with pytest.raises(JobFileError, match="is not a condition"):
        undo(shop.spark, job, run_id=first.run_id, where="no such (")


def test_history_tells_what_each_run_changed_and_what_of_it_stands(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY)
    first = shop.run(job)
    done = undo(shop.spark, job, run_id=first.run_id, where="id = 1")
    newest, oldest = history(shop.spark, job).runs
    assert (newest["run_id"], newest["undoes"], newest["changed"]) == (done.run_id, first.run_id, {"city": 1})
    assert (oldest["run_id"], oldest["changed"], oldest["stands"]) == (first.run_id, {"city": 2}, {"city": 2})
    assert oldest["questions"] == 3

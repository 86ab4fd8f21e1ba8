"""Later nights: frames of the rows that came since, beside the older ones, and frames that fill night by night."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.prepare import open_job, prepare, remarks, remarks_on_job
from jobs.review import sample, standing
from jobs.run import run
from schemas.errors import DataContractError, JobFileError
from schemas.options import RunOptions
from tests.scripted_endpoint import Asked, ScriptedEndpoint
from tests.shop import TOPIC, Shop

ROWS = 100
DDL = "id int, text string"
PROMISE = {"precision": 0.8, "assurance": 0.9}


def sure_when_right(asked: Asked) -> Any:
    """Tickets that end in 7 or 9 are labelled wrongly, and with less confidence."""
    number = int(asked.text.split("no ")[1].split()[0].strip(".\n"))
    return ("other", 0.3 + number / 1000) if number % 10 in (7, 9) else ("refund", 0.7 + number / 1000)


def job(shop: Shop, **words: Any) -> Any:
    return shop.job(TOPIC, **{"accept": PROMISE} | words)


def rows(start: int, end: int) -> list[tuple[int, str]]:
    return [(n, f"ticket no {n} .") for n in range(start, end)]


@pytest.fixture(scope="module")
def promised(spark: SparkSession, server: ScriptedEndpoint, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return a folder with a table about whose rows something is promised, and a copy of it."""
    folder = tmp_path_factory.mktemp("promised")
    shop = Shop(spark, folder / "now", server)
    server.script = sure_when_right
    shop.write(rows(0, ROWS), DDL)
    shop.run(job(shop))
    sample(spark, job(shop), rows=50)
    shop.judge(job(shop), "refund")
    assert shop.run(job(shop)).columns["topic"]["promised"] > ROWS / 2
    return [shop.folder, shop.kept("kept")]


@pytest.fixture
def tickets(shop: Shop, promised: list[Path]) -> Shop:
    """Return a shop with that table."""
    shop.endpoint.script = sure_when_right
    return shop.put_back(*promised)


def add(shop: Shop, declared: Any, start: int, end: int) -> Any:
    """Let rows come, and a night pass."""
    shop.write(rows(start, end), DDL, mode="append")
    return shop.run(declared)


def frames(shop: Shop, declared: Any) -> dict[int, int | None]:
    """Which frame promises something of each row."""
    cells = open_job(shop.spark, declared, options=RunOptions()).cells
    return {row["id"]: row["_framed0"] for row in cells.rows.select("id", "_framed0").collect()}


def promises(shop: Shop, start: int, end: int) -> set[str]:
    """What is said of the written rows."""
    metas = {key: row["topic_meta"] for key, row in shop.rows().items() if start <= key < end}
    return {meta["promise"] or meta["notes"][0] for meta in metas.values() if meta["status"] == "accepted"}


def test_rows_that_came_later_get_a_promise_of_their_own(tickets: Shop) -> None:
    declared = job(tickets)
    first = standing(tickets.spark, open_job(tickets.spark, declared, options=RunOptions())).columns["topic"]
    add(tickets, declared, 100, 160)
    before = tickets.version()
    add(tickets, declared, 160, 170)
    assert promises(tickets, 100, 170) == {"carried"}
    with pytest.raises(JobFileError, match="give one of them"):
        sample(tickets.spark, declared, rows=5, new_frame=True, since=1)
    with pytest.raises(DataContractError, match=r"version 999 of .* cannot be read"):
        sample(tickets.spark, declared, rows=5, since=999)
    # first of the last ten, by what the table held then, and afterwards of all that are in no frame
    sample(tickets.spark, declared, rows=10, since=before)
    found = sample(tickets.spark, declared, rows=40, since=first["version"]).columns["topic"]
    assert [found["rows"], *(one["rows"] for one in found["others"])] == [60, 10, ROWS]
    with pytest.raises(DataContractError, match="is in no frame yet"):
        sample(tickets.spark, declared, rows=5, since=first["version"])
    # while nobody has judged, nothing is taken away and nothing promised
    waiting = prepare(tickets.spark, declared, options=RunOptions(), looks=True)
    assert not waiting.writes
    assert sum("proves nothing yet" in remark for remark in remarks(waiting)) == 2
    tickets.judge(declared, "refund")
    # a row that changes leaves its frame
    tickets.sql("UPDATE {t} SET text = 'ticket no 4 again' WHERE id = 4")
    tickets.run(declared)
    assert promises(tickets, 4, 5) == {"carried"}
    assert promises(tickets, 0, 4) | promises(tickets, 5, 170) <= {"promised", "person"}
    members = frames(tickets, declared)
    assert len(members) == 170
    assert members.pop(4) is None
    first_rows = set(range(100)) - {4}
    assert [{members[key] for key in some} for some in (first_rows, range(160, 170), range(100, 160))] == [
        {0}, {1}, {2},
    ]  # fmt: skip
    # each frame has looks, and a level, of its own
    looks = tickets.store(declared).read(tickets.spark, "looks").collect()
    assert sorted(row["look"] for row in looks) == [1, 1, 1]
    # and the next one takes it in
    assert sample(tickets.spark, declared, rows=1, since=first["version"]).columns["topic"]["rows"] == 1


def test_the_next_frame_fills_night_by_night(tickets: Shop) -> None:
    declared = job(tickets, review={"top_up": 25})
    told = add(tickets, declared, 100, 140).as_dict()["remarks"][-1]
    assert told.startswith("topic: 25 rows drawn for the next frame (25 of 50)")
    tickets.judge(declared, "refund")
    # what was judged so far changes nothing but the judged rows themselves
    again = add(tickets, declared, 140, 200)
    assert promises(tickets, 100, 200) <= {"carried", "person"}
    opened = open_job(tickets.spark, declared, options=RunOptions())
    found = standing(tickets.spark, opened).columns["topic"]
    assert (found["rows"], found["since"] is None, found["is_open"]) == (100, False, False)
    assert "it is closed with 100 rows" in again.as_dict()["remarks"][-1]
    store = tickets.store(declared)
    framed = store.read(tickets.spark, "framed").where(f"frame = '{found['frame']}'").orderBy("place").collect()
    first = [row["key"] for row in framed[:50]]
    drawn = store.read(tickets.spark, "review").where(f"frame = '{found['frame']}'").collect()
    assert set(first) <= {row["key"] for row in drawn}
    assert len({row["place"] for row in drawn}) == len(drawn) >= 50
    # a part of it is no sample
    assert any("proves nothing yet" in remark for remark in remarks_on_job(opened))
    tickets.judge(declared, "refund")
    tickets.run(declared)
    assert promises(tickets, 100, 200) <= {"promised", "person"}
    members = frames(tickets, declared)
    assert {members[json.loads(key)["id"]] for key in first} == {1}
    # more rows may be drawn of it
    more = sample(tickets.spark, declared, rows=10).columns["topic"]
    assert more["sample"] == 60
    drawn = store.read(tickets.spark, "review").where(f"frame = '{found['frame']}'").collect()
    assert {row["key"] for row in framed[:60]} <= {row["key"] for row in drawn}


def test_a_frame_that_fills_is_given_up_for_another(tickets: Shop) -> None:
    declared = job(tickets, review={"top_up": 5})
    add(tickets, declared, 100, 120)
    found = sample(tickets.spark, declared, rows=8, since=0).columns["topic"]
    assert (found["rows"], len(found["others"])) == (20, 1)
    # a night without new rows begins the next one
    result = run(tickets.spark, declared, options=RunOptions())
    assert "0 rows drawn for the next frame (0 of 36)" in result.as_dict()["remarks"][-1]

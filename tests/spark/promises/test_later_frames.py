"""Later nights: frames of the rows that came since, beside the older ones, and frames that fill night by night."""

import json
from typing import Any

import pytest

from jobs.gate import GateShut
from jobs.plan import plan
from jobs.prepare import open_job, prepare, remarks, remarks_on_job
from jobs.review import sample, standing
from jobs.run import run
from schemas.errors import DataContractError, JobFileError
from schemas.options import RunOptions
from tests.shop import Shop
from tests.spark.promises.tickets import DDL, ROWS, job, rows


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


def test_rows_that_came_later_get_a_promise_of_their_own(promised: Shop) -> None:
    declared = job(promised)
    first = standing(promised.spark, open_job(promised.spark, declared, options=RunOptions())).columns["topic"]
    add(promised, declared, 100, 160)
    before = promised.version()
    promised.write(rows(160, 170), DDL, mode="append")
    expected = plan(promised.spark, declared, options=RunOptions()).remarks[-1]
    assert expected.startswith("topic: of 10 rows to do about")
    assert not expected.startswith("topic: of 10 rows to do about 0 would be written, 10 would wait")
    held = plan(promised.spark, job(promised, accept={"carried": "review"}), options=RunOptions()).remarks[-1]
    assert held.startswith("topic: of 10 rows to do about 0 would be written, 10 would wait with ")
    later = promised.run(declared)
    # rows that came later are outside the frame
    assert (later.columns["topic"]["carried"], later.columns["topic"]["promised"]) == (10, 0)
    assert promises(promised, 100, 170) == {"carried"}
    with pytest.raises(JobFileError, match="give one of them"):
        sample(promised.spark, declared, rows=5, new_frame=True, since=1)
    with pytest.raises(DataContractError, match=r"version 999 of .* cannot be read"):
        sample(promised.spark, declared, rows=5, since=999)
    # first of the last ten, by what the table held then, and afterwards of all that are in no frame
    sample(promised.spark, declared, rows=10, since=before)
    found = sample(promised.spark, declared, rows=40, since=first["version"]).columns["topic"]
    assert [found["rows"], *(one["rows"] for one in found["others"])] == [60, 10, ROWS]
    with pytest.raises(DataContractError, match="is in no frame yet"):
        sample(promised.spark, declared, rows=5, since=first["version"])
    # while nobody has judged, nothing is taken away and nothing promised
    waiting = prepare(promised.spark, declared, options=RunOptions(), looks=True)
    assert not waiting.writes
    assert sum("proves nothing yet" in remark for remark in remarks(waiting)) == 2
    promised.judge(declared, "refund")
    # a row that changes leaves its frame
    promised.sql("UPDATE {t} SET text = 'ticket no 4 again' WHERE id = 4")
    promised.run(declared)
    assert promises(promised, 4, 5) == {"carried"}
    assert promises(promised, 0, 4) | promises(promised, 5, 170) <= {"promised", "person"}
    members = frames(promised, declared)
    assert len(members) == 170
    assert members.pop(4) is None
    first_rows = set(range(100)) - {4}
    assert [{members[key] for key in some} for some in (first_rows, range(160, 170), range(100, 160))] == [
        {0}, {1}, {2},
    ]  # fmt: skip
    # each frame has looks, and a level, of its own
    looks = promised.store(declared).read(promised.spark, "looks").collect()
    assert sorted(row["look"] for row in looks) == [1, 1, 1]
    # or waits, where it is told to
    held = promised.run(job(promised, accept={"carried": "review"}))
    assert (held.columns["topic"]["changed"], promised.rows()[4]["topic_meta"]["status"]) == (1, "review")
    # the next one takes it in
    assert sample(promised.spark, declared, rows=1, since=first["version"]).columns["topic"]["rows"] == 1
    # and so does a new one over all rows
    sample(promised.spark, declared, rows=80, new_frame=True)
    promised.judge(declared, "refund")
    promised.run(declared)
    assert {row["topic_meta"]["promise"] for row in promised.rows().values() if row["topic"]} == {"promised", None}
    assert promised.rows()[4]["topic_meta"]["promise"] == "promised"
    # a night whose scores lie elsewhere stops before a part of it is published
    promised.endpoint.script = lambda asked: ("refund", 0.31)
    promised.write(rows(170, 230), DDL, mode="append")
    version, strict = promised.version(), job(promised, accept={"on_drift": "stop"})
    with pytest.raises(GateShut, match="rows outside the frame score otherwise"):
        promised.run(strict, publish_every_min=0.0001)
    assert promised.version() == version


def test_the_next_frame_fills_night_by_night(promised: Shop) -> None:
    declared = job(promised, review={"top_up": 25})
    told = add(promised, declared, 100, 140).as_dict()["remarks"][-1]
    assert told.startswith("topic: 25 rows drawn for the next frame (25 of 50)")
    promised.judge(declared, "refund")
    # what was judged so far changes nothing but the judged rows themselves
    again = add(promised, declared, 140, 200)
    assert promises(promised, 100, 200) <= {"carried", "person"}
    opened = open_job(promised.spark, declared, options=RunOptions())
    found = standing(promised.spark, opened).columns["topic"]
    assert (found["rows"], found["since"] is None, found["is_open"]) == (100, False, False)
    assert "it is closed with 100 rows" in again.as_dict()["remarks"][-1]
    store = promised.store(declared)
    framed = store.read(promised.spark, "framed").where(f"frame = '{found['frame']}'").orderBy("place").collect()
    first = [row["key"] for row in framed[:50]]
    drawn = store.read(promised.spark, "review").where(f"frame = '{found['frame']}'").collect()
    assert set(first) <= {row["key"] for row in drawn}
    assert len({row["place"] for row in drawn}) == len(drawn) >= 50
    # a part of it is no sample
    assert any("proves nothing yet" in remark for remark in remarks_on_job(opened))
    promised.judge(declared, "refund")
    later = add(promised, declared, 200, 220).as_dict()["remarks"][-1]
    assert later.startswith("topic: 20 rows drawn for the next frame (20 of 50)")
    assert promises(promised, 100, 200) <= {"promised", "person"}
    members = frames(promised, declared)
    assert {members[json.loads(key)["id"]] for key in first} == {1}
    # more rows may be drawn of it
    more = sample(promised.spark, declared, rows=10).columns["topic"]
    assert more["sample"] == 60
    drawn = store.read(promised.spark, "review").where(f"frame = '{found['frame']}'").collect()
    assert {row["key"] for row in framed[:60]} <= {row["key"] for row in drawn}
    # a frame that fills is given up for another
    found = sample(promised.spark, declared, rows=8, since=0).columns["topic"]
    assert (found["rows"], len(found["others"])) == (20, 2)
    assert not any(one["is_open"] for one in found["others"])
    # a night without new rows begins the next one
    result = run(promised.spark, declared, options=RunOptions())
    assert "0 rows drawn for the next frame (0 of 36)" in result.as_dict()["remarks"][-1]

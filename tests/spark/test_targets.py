"""Where answers are written: separate targets, odd names, windows, limits, partitions."""

import json
import shutil
import time
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from pyspark.sql import functions as F
from rich.console import Console

from jobs import lake
from jobs.result import RunResult
from jobs.source import open_scope
from jobs.status import status
from jobs.store import store_of
from schemas.errors import DataContractError
from schemas.job import Place
from schemas.options import RunOptions
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop, column, counts, once, setting

DDL = "id long, text string, at timestamp"


def day(number: int) -> datetime:
    return datetime(2024, 5, number, tzinfo=UTC)


def shown(result: RunResult) -> str:
    """What a terminal gets to see."""
    console = Console(width=200, file=StringIO(), record=True)
    console.print(result.render())
    return console.export_text()


def test_a_separate_target_holds_keys_and_answers_and_follows_the_source(shop: Shop) -> None:
    shop.write([(at, "refund", day(at)) for at in range(1, 5)], DDL)
    target = str(shop.folder / "out")
    job = shop.job(TOPIC, target={"path": target}, store=str(shop.folder / "kept"))
    first = shop.run(job)
    assert shop.endpoint.taken() == {"choose": 1}
    written = ["topic", "topic_confidence", "topic_error", "topic_meta"]
    assert shop.frame(job).columns == ["id", *written]
    assert shop.frame().columns == ["id", "text", "at"]
    assert (counts(first, "topic"), first.gone) == ({"accepted": 4}, 0)
    version = shop.version(job)
    assert (shop.run(job).progress.questions, shop.version(job)) == (0, version)

    shop.sql("DELETE FROM {t} WHERE id IN (1, 2)")
    shop.sql("INSERT INTO {t} VALUES (9, 'delivery', timestamp'2024-05-09')")
    second = shop.run(job)
    assert (second.gone, second.as_dict()["gone_from_source"]) == (2, 2)
    assert column(shop.rows(job), "topic") == ["refund"] * 4 + ["delivery"]
    # a row that `where` leaves out has not left the source
    narrow = job.model_copy(update={"source": job.source.model_copy(update={"where": "id > 3"})})
    deleting = narrow.model_copy(update={"on_source_delete": "delete"})
    # of a row that goes, every column must be on record: with --only none goes
    some = shop.run(deleting, only=("topic",))
    assert (some.gone, sorted(shop.rows(job))) == (2, [1, 2, 3, 4, 9])
    assert "2 rows are gone from the source and were kept: with --only no row is deleted" in shown(some)
    third = shop.run(deleting)
    assert "2 rows are gone from the source and were deleted" in shown(third)
    assert (third.gone, third.prepared.rows, sorted(shop.rows(job))) == (2, 2, [3, 4, 9])
    assert shop.changes(job, third.run_id) == {(f'{{"id":{at}}}', "topic", "refund", None) for at in (1, 2)}
    version = shop.version(job)
    assert (shop.run(deleting).gone, shop.version(job)) == (0, version)
    found = status(shop.spark, job)
    assert (found.columns, len(found.runs)) == ({"topic": {"accepted": 3}}, 3)


def test_names_of_every_kind_and_keys_of_two_columns(shop: Shop) -> None:
    ddl = "`row.id` long, `a b` string, `te``xt` string, `ph.one` string"
    rows = [(1, "x", "refund", " A"), (1, "y", "delivery", "b"), (2, "x", None, None)]
    shop.write(rows, ddl, options={"delta.columnMapping.mode": "name"})
    topic = {**TOPIC, "from": ["te`xt", "ph.one"]}
    phone = {"task": "clean", "name": "ph.one", "rules": "lower case", "context": ["a b"]}
    job = shop.job(topic, phone, key=["row.id", "a b"])
    assert counts(shop.run(job), "ph.one") == {"accepted": 1, "unchanged": 1, "skipped": 1}
    rows_by_key = {(row["row.id"], row["a b"]): row for row in shop.frame().collect()}
    assert rows_by_key[1, "x"]["ph.one"] == "a"
    assert [rows_by_key[key]["topic"] for key in sorted(rows_by_key)] == ["refund", "delivery", None]
    assert shop.run(job).progress.questions == 0

    shop.spark.sql("CREATE DATABASE IF NOT EXISTS shelves")
    away = shop.job(topic, key=["row.id", "a b"], target={"table": "shelves.found"})
    shop.endpoint.taken()
    result = shop.run(away)
    assert store_of(away).place("answers").table == "shelves.found_burnish_answers"
    assert counts(result, "topic") == {"accepted": 2, "skipped": 1}
    target = shop.spark.table("shelves.found")
    assert target.columns[:3] == ["row.id", "a b", "topic"]
    assert target.where("topic = 'refund'").count() == 1
    assert {json.loads(key)["a b"] for key, *_ in shop.changes(away, result.run_id)} == {"x", "y"}
    assert shop.run(away).progress.questions == 0


def test_a_table_with_a_name_of_three_parts_is_filled_in_place(shop: Shop) -> None:
    shop.spark.sql("CREATE DATABASE IF NOT EXISTS counter")
    place, phone = (
        Place(table="spark_catalog.counter.tickets"),
        {"task": "clean", "name": "phone", "rules": "lower case"},
    )
    rows = [(1, "refund", " A"), (2, "delivery", "b")]
    lake.replace(shop.spark.createDataFrame(rows, "id long, text string, phone string"), place)
    job = shop.job(TOPIC, phone, source={"table": place.table})
    first = shop.run(job)
    assert (counts(first, "topic"), shop.rows(job)[1]["phone"]) == ({"accepted": 2}, "a")
    assert status(shop.spark, job).columns["topic"] == {"accepted": 2}
    again = shop.run(job)
    assert (again.progress.questions, again.complete) == (0, True)
    shop.spark.sql("DROP DATABASE counter CASCADE")


@pytest.mark.parametrize("name", ["order.select", "spark_catalog.order.select"])
def test_names_that_only_backticks_let_through(shop: Shop, name: str) -> None:
    spark, place = shop.spark, Place(table=name)
    # the session's own catalog takes no hyphen in a name; a reserved word needs its backticks in the same places
    with setting(spark, "spark.sql.ansi.enforceReservedKeywords", "true"):
        spark.sql("CREATE DATABASE `order`")
        assert not lake.exists(spark, place)
        lake.create(spark, place, "id long, `a b` string", properties={"delta.dataSkippingNumIndexedCols": "0"})
        lake.create(spark, place, "id long, `a b` string")
        lake.add_columns(spark, place, {"text": "string"})
        lake.append(spark.createDataFrame([(1, "x", "y")], "id long, `a b` string, text string"), place)
        assert lake.exists(spark, place)
        assert lake.read_lookup(spark, name).count() == lake.read(spark, place, version=2).count() == 1
        assert lake.location(spark, place).endswith("/order.db/select")
        lake.replace(spark.createDataFrame([], "id long"), place, note="emptied")
        assert lake.version_noted(spark, place, "emptied") == lake.latest_version(spark, place) == 3
        spark.sql("DROP DATABASE `order` CASCADE")
    for hyphened in ("shop-eu.tickets", "tickets-2024"):
        assert not lake.exists(spark, Place(table=hyphened))
        with pytest.raises(DataContractError, match=f"{hyphened} does not exist"):
            lake.latest_version(spark, Place(table=hyphened))
        with pytest.raises(DataContractError, match=f"{hyphened} does not exist or is no table"):
            lake.read_lookup(spark, hyphened)


def test_windows_limits_and_only_leave_the_rest_alone(shop: Shop) -> None:
    # enough rows that half of the tokens are never all of them, wherever the run's own order puts each
    shop.write([(at, f"text {at}", day(at)) for at in range(1, 32)], DDL)
    other = {**TOPIC, "name": "other"}
    job = shop.job(TOPIC, other, source={"path": shop.path, "time": "at"})
    one = shop.run(job, only=("other",), start=day(2), end=day(4))
    assert (one.prepared.rows, one.complete) == (2, True)
    assert shop.endpoint.taken() == {"choose": 2}
    assert "topic_meta" not in shop.frame().columns
    assert [key for key, row in shop.rows().items() if row["other"]] == [2, 3]
    before = shop.rows()

    def limited(**limits: float) -> object:
        return shop.job(TOPIC, other, source={"path": shop.path, "time": "at"}, limits=limits)

    two = shop.run(limited(max_rows=1), only=("topic",))  # type: ignore[arg-type]
    # one is asked; rows 2 and 3 ask what the other column asked before them
    assert shop.endpoint.taken() == {"choose": 1}
    assert (counts(two, "topic"), two.complete, two.exit_code) == ({"accepted": 3, "pending": 28}, False, 0)
    rows = shop.rows()
    assert rows[1]["topic"] is not None
    assert [rows[key]["other_meta"] for key in rows] == [before[key]["other_meta"] for key in rows]
    tokens = shop.run(limited(max_tokens=490), only=("topic",), require_complete=True)  # type: ignore[arg-type]
    assert tokens.progress.stopped == "max_tokens"
    assert 0 < tokens.progress.questions - tokens.progress.done < 28
    assert (tokens.complete, tokens.exit_code) == (False, 1)
    version = shop.version()
    late = shop.run(limited(max_minutes=1e-6), only=("topic",))  # type: ignore[arg-type]
    assert (late.progress.stopped, late.progress.done, late.complete, late.exit_code) == ("max_minutes", 0, False, 0)
    assert shop.version() == version
    rest = shop.run(job)
    assert rest.complete
    assert [len(rest.columns), rest.prepared.rows] == [2, 31]


@pytest.mark.parametrize("kind", ["date", "timestamp_ntz", "timestamp", "string"])
def test_windows_are_in_utc_whatever_zone_the_session_keeps(shop: Shop, kind: str) -> None:
    days = ["2026-01-30 00:00:00", "2026-01-31 00:00:00", "2026-02-01"]
    rows = shop.spark.createDataFrame(list(enumerate(days)), "id long, at string")
    at = F.col("at").cast(kind).alias("at")
    rows.select("id", at, F.lit("x").alias("text")).coalesce(1).write.format("delta").save(shop.path)
    scoped = shop.job(TOPIC, source={"path": shop.path, "time": "at"})
    options = RunOptions(start=datetime(2026, 1, 31), end=datetime(2026, 2, 1, tzinfo=UTC))
    zone = str(shop.spark.conf.get("spark.sql.session.timeZone"))
    shop.spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        found = open_scope(shop.spark, scoped, options).rows.select("id").collect()
    finally:
        shop.spark.conf.set("spark.sql.session.timeZone", zone)
    assert [row["id"] for row in found] == [1]


def test_interim_publishes_write_whole_rows_only(shop: Shop) -> None:
    rows = [(at, f"text {at} " + "long " * 100, None) for at in range(300)] + [(500, "text", None), (501, " ", None)]
    shop.write(rows, DDL)
    seen: list[tuple[int, int]] = []

    def slow(asked: Asked) -> str:
        time.sleep(0.02)
        return "yes" if "no" in asked.choices else "other"

    shop.endpoint.script = slow
    answer = {"task": "answer", "name": "sure", "from": ["text"], "question": "Sure?", "options": ["yes", "no"]}
    job = shop.job(TOPIC, answer)
    first = shop.run(shop.job(TOPIC, answer, limits={"max_rows": 1}))
    assert counts(first, "topic") == {"accepted": 1, "skipped": 1, "pending": 300}
    shop.sql("UPDATE {t} SET topic = 'mine' WHERE topic = 'other'")
    before = shop.version()
    result = shop.run(job, publish_every_min=0.0005)
    assert counts(result, "topic") == {"accepted": 300, "kept": 1, "skipped": 1}
    assert counts(result, "sure") == {"accepted": 301, "skipped": 1}
    assert (result.columns["topic"]["changed"], result.columns["sure"]["changed"]) == (300, 300)
    assert result.columns["topic"]["changed_under_way"] == 0
    for version in range(before + 1, shop.version() + 1):
        frame = lake.read(shop.spark, Place(path=shop.path), version=version)
        half = frame.where("(topic_meta.status <=> 'accepted') <> (sure_meta.status <=> 'accepted')")
        half = half.where("NOT topic_meta.status <=> 'kept' AND topic <> 'mine'")
        seen.append((half.count(), frame.where("topic = 'other'").count()))
    assert len(seen) >= 2
    assert {half for half, _ in seen} == {0}
    assert seen[-1][1] == 300
    assert len(shop.changes(job, result.run_id)) == 600


def test_no_file_of_an_untouched_partition_is_rewritten(shop: Shop) -> None:
    rows = [(at, f"text {at}", f"p{at % 4}" if at % 4 else None) for at in range(40)]
    shop.write(rows, "id long, text string, part string", partitions=["part"])
    job = shop.job(TOPIC)
    shop.run(job)

    def files() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for file in shop.frame().inputFiles():
            path = Path(file)
            found.setdefault(path.parent.name, set()).add(path.name)
        return found

    before = files()
    shop.sql("UPDATE {t} SET text = 'refund' WHERE id = 2")
    touched = files()
    result = shop.run(job)
    after = files()
    assert (result.progress.questions, shop.rows()[2]["topic"]) == (1, "refund")
    assert {part for part in after if after[part] != touched[part]} == {"part=p2"}
    assert {part for part in after if after[part] != before[part]} == {"part=p2"}
    # nor is one read when it is published: it may be away meanwhile
    shop.sql("UPDATE {t} SET text = 'delivery' WHERE id IN (2, 4)")
    away = Path(shop.path, "part=p3")
    shop.endpoint.script = once(lambda: away.rename(shop.folder / "away"))
    assert shop.run(job).columns["topic"]["statuses"]["accepted"] == 40
    shutil.move(shop.folder / "away", away)
    rows_now = shop.rows()
    assert [rows_now[key]["topic"] for key in (2, 4, 3)] == ["delivery", "delivery", "other"]
    told = lake.delta_table(shop.spark, Place(path=shop.path)).history(1).select("operationParameters").first()[0]
    assert "p2" not in told["predicate"]


def test_a_row_that_leaves_its_partition_under_way_waits(shop: Shop) -> None:
    shop.write([(at, f"text {at}", at % 4) for at in range(40)], "id long, text string, part int", partitions=["part"])
    job = shop.job(TOPIC)
    assert shop.run(job).complete
    shop.sql("UPDATE {t} SET text = 'refund' WHERE id IN (1, 2)")
    shop.endpoint.script = once(lambda: shop.sql("UPDATE {t} SET part = 7 WHERE id = 2"))
    result = shop.run(job)
    assert (result.columns["topic"]["changed_under_way"], shop.rows()[1]["topic"]) == (1, "refund")
    assert shop.run(job).complete
    assert shop.rows()[2]["topic"] == "refund"


def test_a_partition_may_be_what_is_cleaned(shop: Shop) -> None:
    shop.write([(at, f"p{at % 4}") for at in range(40)], "id long, part string", partitions=["part"])
    job = shop.job({"task": "clean", "name": "part", "rules": "lower case"})
    assert counts(shop.run(job), "part") == {"unchanged": 40}
    shop.write([(40, "P1"), (41, "P9")], "id long, part string", mode="append", options={"mergeSchema": "true"})
    result = shop.run(job)
    assert (counts(result, "part"), result.columns["part"]["changed_under_way"]) == (
        {"accepted": 2, "unchanged": 40},
        0,
    )
    assert column(shop.rows(), "part", [40, 41]) == ["p1", "p9"]

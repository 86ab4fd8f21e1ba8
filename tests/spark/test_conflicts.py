"""Other writers while a run is under way."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any

import pytest
from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs import lake
from jobs.store import STATISTICS, Store
from jobs.to_do import within
from jobs.waves import Asking, Pace
from schemas.errors import ConflictError
from schemas.job import Place
from schemas.tables import FRAMED, RUNS, ddl
from tests.shop import TOPIC, Shop, column, counts, once

DDL = "id long, text string, city string"
CITY = {"task": "clean", "name": "city", "rules": "lower case"}


def test_what_changes_under_way_waits_for_the_next_run(shop: Shop) -> None:
    shop.write([(at, f"text {at}", "BONN") for at in range(1, 7)], DDL)
    job = shop.job(TOPIC, CITY)

    def rival() -> None:
        shop.sql("UPDATE {t} SET text = 'a refund' WHERE id = 2")
        shop.sql("UPDATE {t} SET city = 'Paris' WHERE id = 3")
        shop.sql("DELETE FROM {t} WHERE id = 4")
        shop.sql("INSERT INTO {t} VALUES (7, 'new', 'BONN')")

    shop.endpoint.script = once(rival)
    first = shop.run(job)
    # row 2 lost its topic, row 3 its city, row 4 both
    assert (first.complete, first.exit_code, first.prepared.rows) == (False, 0, 6)
    assert counts(first, "topic") == {"accepted": 4, "pending": 2}
    assert counts(first, "city") == {"accepted": 4, "pending": 2}
    assert [first.columns[name]["changed_under_way"] for name in ("topic", "city")] == [2, 2]
    rows = shop.rows()
    assert column(rows, "city") == ["bonn", "bonn", "Paris", "bonn", "bonn", "BONN"]
    assert column(rows, "topic") == ["other", None, "other", "other", "other", None]
    shop.endpoint.taken()
    second = shop.run(job)
    assert shop.endpoint.taken() == {"choose": 2, "correct": 1}
    assert (counts(second, "topic"), counts(second, "city")) == ({"accepted": 6}, {"accepted": 6})
    rows = shop.rows()
    assert (rows[2]["topic"], rows[3]["city"], rows[7]["topic"]) == ("refund", "paris", "other")
    assert shop.run(job).progress.questions == 0


def merged_beside(rival: str, shop: Shop, *only: Column) -> list[int]:
    """Merge two rows while a rival's statement is carried out; return the versions that were tried upon."""
    shop.endpoint.script = once(lambda: shop.sql(rival))
    url, tries = shop.endpoint.url, []

    def waits_for_the_rival(frames: Iterator[Any]) -> Iterator[Any]:
        import json
        from urllib.request import Request, urlopen

        said = {"messages": [{"content": "Wait"}, {"content": "now"}]}
        with urlopen(Request(url, json.dumps(said).encode(), method="POST")):
            yield from frames

    staged = shop.spark.range(1, 3, numPartitions=1).mapInPandas(waits_for_the_rival, "id long")
    on = reduce(lambda left, right: left & right, only, F.col("t.id") == F.col("s.id"))
    target = lake.delta_table(shop.spark, Place(path=shop.path))
    merge = target.alias("t").merge(staged.alias("s"), on).whenMatchedUpdate(set={"text": F.lit("done")})

    def commit() -> None:
        tries.append(shop.version())
        merge.execute()

    lake.patiently(commit, what=shop.path)
    return tries


def test_a_commit_that_lost_the_race_is_tried_again(shop: Shop) -> None:
    shop.write([(1, "text", "BONN"), (2, "text", "BONN")], DDL)
    assert merged_beside("UPDATE {t} SET city = 'Paris' WHERE id = 1", shop) == [0, 1]
    rows = shop.rows()
    assert (column(rows, "text"), column(rows, "city")) == (["done", "done"], ["Paris", "BONN"])


def test_who_writes_another_partition_is_no_rival(shop: Shop) -> None:
    shop.write([(1, "text", "BONN"), (2, "text", "BONN"), (3, "text", "ROME")], DDL, partitions=["city"])
    mine = within({"city": frozenset({hashlib.sha256(b"BONN").hexdigest()})}, of="t")
    assert merged_beside("UPDATE {t} SET text = 'theirs' WHERE city = 'ROME'", shop, *mine) == [0]
    assert column(shop.rows(), "text") == ["done", "done", "theirs"]


def test_a_commit_that_was_planned_before_a_column_came_is_tried_again(shop: Shop) -> None:
    shop.write([(1, "text", "BONN")], DDL)
    tries = []

    def commit() -> None:
        target = lake.delta_table(shop.spark, Place(path=shop.path))
        merge = target.alias("t").merge(shop.spark.range(1, 2).alias("s"), "t.id = s.id")
        tries.append(len(target.toDF().columns))
        if len(tries) == 1:
            shop.sql("ALTER TABLE {t} ADD COLUMNS (extra string)")
        merge.whenMatchedUpdate(set={"text": F.lit("done")}).execute()

    lake.patiently(commit, what=shop.path)
    assert tries == [3, 4]
    assert (shop.rows()[1]["text"], shop.rows()[1]["extra"]) == ("done", None)


def test_two_runs_at_once_lose_no_answer(shop: Shop) -> None:
    shop.write([(at, f"text {at}", "BONN") for at in range(1, 41)], DDL)
    job = shop.job(TOPIC, CITY)
    with ThreadPoolExecutor(2) as pool:
        rivals = [pool.submit(shop.run, job) for _ in range(2)]
    problems = [problem for rival in rivals if (problem := rival.exception()) is not None]
    assert len(problems) < 2
    for problem in problems:
        assert isinstance(problem, ConflictError), problem
        assert (problem.exit_code, problem.retryable) == (5, True)
    shop.endpoint.taken()
    answered = (
        shop.store(job).read(shop.spark, "answers").where("status = 'ok'").select("question_id").distinct().count()
    )
    last = shop.run(job)
    assert sum(shop.endpoint.taken().values()) == 41 - answered
    assert (counts(last, "topic"), counts(last, "city")) == ({"accepted": 40}, {"accepted": 40})
    rows = shop.rows()
    assert (set(column(rows, "topic")), set(column(rows, "city"))) == ({"other"}, {"bonn"})
    assert shop.run(job).progress.questions == 0


def first_asks(monkeypatch: pytest.MonkeyPatch, rival: Callable[[], object]) -> None:
    """Let another run do all of its work between the last look of a run at the store and its first wave."""
    ask = Asking.run

    def after_the_rival(self: Asking, *, every: Callable[[], None]) -> None:
        monkeypatch.setattr(Asking, "run", ask)
        rival()
        ask(self, every=every)

    monkeypatch.setattr(Asking, "run", after_the_rival)


def test_jobs_with_other_columns_do_not_use_up_each_others_versions(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write([(at, f"text {at}", "BONN") for at in range(1, 7)], DDL)
    first_asks(monkeypatch, lambda: shop.run(shop.job(CITY)))
    assert counts(shop.run(shop.job(TOPIC)), "topic") == {"accepted": 6}
    assert shop.endpoint.taken() == {"choose": 6, "correct": 1}
    assert set(column(shop.rows(), "city")) == {"bonn"}


def test_a_run_whose_versions_are_used_up_stops_at_its_first_waves(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write([(at, f"text {at}", "BONN") for at in range(1, 25)], DDL)
    job, appended = shop.job(TOPIC), []
    monkeypatch.setattr(Pace, "wave_tokens", lambda self: self.total / 5)
    append = lake.append

    def noted(frame: Any, place: Place, **words: Any) -> None:
        append(frame, place, **words)
        appended.append(place.text)

    def rival() -> None:
        shop.run(job)
        assert sum(text.endswith("answers") for text in appended) >= 5
        appended.clear()
        shop.endpoint.taken()

    monkeypatch.setattr(lake, "append", noted)
    first_asks(monkeypatch, rival)
    with pytest.raises(ConflictError, match="in this one's place"):
        shop.run(job)
    # each lane's first wave, which asks nothing; the other lane may have taken one more before it heard
    assert sum(text.endswith("answers") for text in appended) <= 3
    assert not shop.endpoint.taken()


@pytest.mark.parametrize("has_name", [True, False])
def test_whoever_is_first_makes_a_table_of_the_store(shop: Shop, has_name: bool) -> None:
    if has_name:
        shop.spark.sql("CREATE DATABASE IF NOT EXISTS made")
    store = Store(Place(table="made.first") if has_name else Place(path=str(shop.folder / "first")))
    assert store.read(shop.spark, "runs").schema == lake.struct(ddl(RUNS))
    before = [lake.rows_of(shop.spark, [{"run_id": f"{nth}", "state": "\udcff"}], RUNS) for nth in range(4)]
    same = [lake.rows_of(shop.spark, [{"frame": "one", "key": "1", "place": nth}], FRAMED) for nth in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: store.append(rows, "runs"), before))
        list(pool.map(lambda rows: store.insert_new(rows, "framed", unless="t.key = s.key"), same))
    found = store.read(shop.spark, "runs")
    assert {(row["run_id"], row["state"]) for row in found.collect()} == {(f"{nth}", "?") for nth in range(4)}
    assert found.schema == lake.struct(ddl(RUNS))
    assert store.read(shop.spark, "framed").count() == 1
    made = shop.spark.sql(f"SHOW TBLPROPERTIES {lake.sql_name(store.place('runs'))}").collect()
    assert {row["key"]: row["value"] for row in made}["delta.dataSkippingStatsColumns"] == STATISTICS["runs"]

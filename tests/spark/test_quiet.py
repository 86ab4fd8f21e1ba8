"""A night that leaves nothing to do spares the next one the look; whatever may matter makes it look again."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from jobs import quiet
from jobs.to_do import states
from schemas.job import EnrichJob
from tests.shop import TOPIC, Shop, counts, once

ROWS = [(1, "a refund", "BONN"), (2, "a delivery", "paris"), (3, None, None)]
CITY = {"task": "clean", "name": "city", "rules": "lower case"}


@pytest.fixture
def large(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> EnrichJob:
    """A job over three rows that count as many, and were written long ago."""
    monkeypatch.setattr(quiet, "LEAST_ROWS", 1)
    monkeypatch.setattr(quiet, "MARGIN", timedelta(0))
    shop.write(ROWS, "id long, text string, city string")
    return shop.job(TOPIC, CITY)


@pytest.fixture
def settled(shop: Shop, large: EnrichJob) -> EnrichJob:
    """The same, of which it is on record that nothing is to do."""
    assert not shop.run(large).prepared.is_known
    second = shop.run(large)
    assert second.prepared.is_known
    assert (second.prepared.states, second.rows, second.complete) == (states(second.prepared.cells), 3, True)
    shop.endpoint.taken()
    return large


def test_what_is_written_meanwhile_is_seen(shop: Shop, settled: EnrichJob) -> None:
    shop.sql("UPDATE {t} SET text = 'something else' WHERE id = 1")
    result = shop.run(settled)
    assert (result.prepared.is_known, result.progress.questions) == (False, 1)
    assert shop.run(settled).prepared.is_known


def test_a_look_in_vain_is_put_on_record(shop: Shop, settled: EnrichJob) -> None:
    shop.sql("UPDATE {t} SET text = text WHERE id = 1")
    first, second = shop.run(settled), shop.run(settled)
    assert (first.prepared.is_known, second.prepared.is_known) == (False, True)
    assert (second.columns, second.rows, second.complete) == (first.columns, first.rows, True)


def test_a_night_that_others_wrote_in_is_not_put_on_record(shop: Shop, large: EnrichJob) -> None:
    shop.endpoint.script = once(lambda: shop.sql("INSERT INTO {t} VALUES (4, 'a refund', 'ROME')"))
    assert shop.run(large).complete
    result = shop.run(large)
    assert (result.prepared.is_known, result.rows, result.progress.questions) == (False, 4, 1)


def test_others_who_change_no_value_do_not_count(shop: Shop, large: EnrichJob) -> None:
    shop.endpoint.script = once(lambda: shop.sql("ALTER TABLE {t} ADD COLUMNS (other string)"))
    shop.run(large)
    assert shop.run(large).prepared.is_known


def test_a_night_with_a_failure_is_not_put_on_record(shop: Shop, large: EnrichJob) -> None:
    shop.endpoint.script = lambda asked: 503 if "a refund" in asked.text else None
    job = large.model_copy(update={"limits": large.limits.model_copy(update={"max_failed_share": 1.0})})
    assert counts(shop.run(job), "topic")["failed"] == 1
    shop.endpoint.script = lambda asked: None
    result = shop.run(job)
    assert (result.prepared.is_known, result.progress.questions) == (False, 1)
    assert shop.run(job).prepared.is_known


def test_a_table_made_anew_is_another_one_at_the_same_version(shop: Shop, settled: EnrichJob) -> None:
    version = shop.version()
    held = shop.spark.read.format("delta").load(shop.path).collect()
    schema = shop.spark.read.format("delta").load(shop.path).schema
    shutil.rmtree(shop.path)
    shop.spark.createDataFrame(held, schema).coalesce(1).write.format("delta").save(shop.path)
    for number in range(version):
        shop.sql(f"ALTER TABLE {{t}} SET TBLPROPERTIES ('number' = '{number}')")
    assert shop.version() == version
    assert not shop.run(settled).prepared.is_known


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda job: job.model_copy(update={"accept": 1.0}), {"review": 2, "skipped": 1}),
        (lambda job: job.model_copy(update={"limits": job.limits.model_copy(update={"max_rows": 1})}), None),
    ],
    ids=["acceptance", "a limit"],
)
def test_another_job_looks_for_itself(
    shop: Shop, settled: EnrichJob, change: Callable[[EnrichJob], EnrichJob], expected: dict[str, int] | None
) -> None:
    result = shop.run(change(settled))
    assert not result.prepared.is_known
    if expected is not None:
        assert counts(result, "topic") == expected


def test_options_and_time_look_for_themselves(shop: Shop, settled: EnrichJob) -> None:
    assert not shop.run(settled, overwrite_edits=True).prepared.is_known
    assert not shop.run(settled, keep_old=True).prepared.is_known
    assert shop.run(settled, json_lines=True).prepared.is_known
    dated: dict[str, Any] = {"where": "current_date() IS NOT NULL"}
    source = settled.source.model_copy(update=dated)
    timed = settled.model_copy(update={"source": source})
    for _ in range(2):
        assert not shop.run(timed).prepared.is_known


def test_a_table_that_is_still_being_written_is_not_put_on_record(
    shop: Shop, settled: EnrichJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "MARGIN", timedelta(hours=1))
    shop.sql("UPDATE {t} SET text = text WHERE id = 2")
    for _ in range(3):
        assert not shop.run(settled).prepared.is_known

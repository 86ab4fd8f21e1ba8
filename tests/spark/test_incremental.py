"""What a second night asks: content decides, not rows; and what fails is asked again with measure."""

import json
from typing import Any

import pytest
from pyspark.sql import functions as F
from rich.console import Console

from jobs import lake
from jobs.plan import cached_share, plan
from jobs.prepare import prepare
from jobs.store import answers_by_question
from jobs.waves import Pace
from schemas.errors import JobFileError
from schemas.job import EnrichJob
from schemas.options import RunOptions
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop, column, counts, setting

URGENT = {"task": "answer", "name": "urgent", "from": ["text", "tone"], "question": "Urgent?", "options": ["yes", "no"]}
ROWS = [(at, f"text {at}", "calm") for at in range(10)] + [(at, "the same refund", "calm") for at in range(10, 20)]
DDL = "id long, text string, tone string"


def topic(**words: Any) -> dict[str, Any]:
    return TOPIC | words


def test_content_decides_what_is_asked(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(topic(), URGENT)
    first = shop.run(job)
    # ten rows share one question
    assert shop.endpoint.taken() == {"choose": 11, "answer": 11}
    assert (first.progress.questions, first.as_dict()["cached_share"]) == (22, pytest.approx(1 - 22 / 40))
    assert counts(first, "topic") == {"accepted": 20}

    shop.sql("UPDATE {t} SET tone = 'angry' WHERE id = 3")
    moved = shop.run(job)
    assert shop.endpoint.taken() == {"answer": 1}
    assert (counts(moved, "topic"), moved.columns["urgent"]["changed"]) == ({"accepted": 20}, 0)

    shop.sql("UPDATE {t} SET text = 'a refund now' WHERE id = 4")
    shop.sql("INSERT INTO {t} (id, text, tone) VALUES (99, 'the same refund', 'calm')")
    grown = shop.run(job)
    assert shop.endpoint.taken() == {"choose": 1, "answer": 1}
    logged = shop.changes(job, grown.run_id)
    assert ('{"id":4}', "topic", "other", "refund") in logged
    assert ('{"id":99}', "topic", None, "refund") in logged
    # every change on record is one that the target confirms, and none is missing
    rows = shop.rows()
    confirmed = {
        (f'{{"id":{key}}}', name)
        for key, row in rows.items()
        for name in ("topic", "urgent")
        if row[f"{name}_meta"]["published_run"] == grown.run_id
    }
    assert {(key, name) for key, name, _, _ in logged} <= confirmed
    assert sum(one["changed"] for one in grown.columns.values()) == len(logged) == 3


def test_a_vacuum_between_nights_costs_nothing(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(topic())
    shop.run(job)
    shop.sql("UPDATE {t} SET text = 'a refund now' WHERE id = 4")
    shop.endpoint.taken()
    with setting(shop.spark, "spark.databricks.delta.retentionDurationCheck.enabled", "false"):
        shop.sql("VACUUM {t} RETAIN 0 HOURS")
    with pytest.raises(Exception, match=r"FILE_NOT_EXIST|FAILED_READ_FILE"):
        lake.read(shop.spark, job.target_place, version=0).collect()
    # what is to do follows from what stands there now: no earlier version is read, and no change feed
    assert counts(shop.run(job), "topic") == {"accepted": 20}
    assert shop.endpoint.taken() == {"choose": 1}
    assert shop.rows()[4]["topic"] == "refund"


def test_a_changed_job_is_refused_until_somebody_says_what_is_meant(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    shop.run(shop.job(topic(), URGENT))
    shop.endpoint.taken()
    version = shop.version()
    changed = shop.job(topic(labels=["refund", "delivery", "parcel", "other"], instructions="Be strict."), URGENT)
    with pytest.raises(JobFileError, match=r"topic: 20 rows.*topic differs in instructions, labels") as refused:
        shop.run(changed)
    assert "urgent" not in str(refused.value)
    assert (refused.value.exit_code, "--keep-old" in refused.value.hint) == (2, True)
    assert (shop.endpoint.taken(), shop.version()) == ({}, version)

    shop.sql("UPDATE {t} SET text = 'where is my parcel' WHERE id = 0")
    shop.sql("INSERT INTO {t} (id, text, tone) VALUES (50, 'a new refund', 'calm')")
    old = shop.run(changed, keep_old=True)
    # the changed row and the new one; of the others nothing is asked
    assert shop.endpoint.taken() == {"choose": 2, "answer": 2}
    assert counts(old, "topic") == {"accepted": 21}
    assert column(shop.rows(), "topic", [0, 1, 50]) == ["parcel", "other", "refund"]

    again = shop.run(changed, reask=True, only=("topic",))
    assert shop.endpoint.taken() == {"choose": 10}
    assert counts(again, "topic") == {"accepted": 21}
    # the answers of the first job are still there: to go back asks for the two new texts alone
    back = shop.run(shop.job(topic(), URGENT))
    assert shop.endpoint.taken() == {"choose": 2}
    assert back.progress.questions == 2
    other = {**shop.endpoint.model, "model": "another"}
    with pytest.raises(JobFileError, match=r"topic: 21 rows, urgent: 21 rows.*model"):
        shop.run(shop.job(topic(), URGENT, model=other))
    assert not shop.endpoint.taken()


def test_columns_added_to_a_task_leave_old_answers_alone_night_after_night(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    shop.run(shop.job(topic()))
    shop.endpoint.taken()
    wider = shop.job(topic(**{"from": ["text", "tone"]}))
    for _ in range(3):
        assert shop.run(wider, keep_old=True).progress.questions == 0
    shop.sql("INSERT INTO {t} (id, text, tone) VALUES (50, 'a new refund', 'calm')")
    assert shop.run(wider, keep_old=True).progress.questions == 1
    shop.sql("UPDATE {t} SET tone = 'cross' WHERE id = 50")
    assert shop.run(wider, keep_old=True).progress.questions == 1


def test_acceptance_is_decided_again_without_asking(shop: Shop) -> None:
    shop.write([(1, "refund"), (2, "delivery"), (3, "x")], "id long, text string")

    def script(asked: Asked) -> tuple[str, float]:
        return (
            ("refund", 0.95)
            if "refund" in asked.text
            else ("delivery", 0.7)
            if "deli" in asked.text
            else ("other", 0.2)
        )

    shop.endpoint.script = script
    shop.run(shop.job(topic()))
    shop.endpoint.taken()
    assert column(shop.rows(), "topic") == ["refund", "delivery", None]
    raised = shop.run(shop.job(topic(), accept=0.9))
    assert counts(raised, "topic") == {"accepted": 1, "review": 2}
    rows = shop.rows()
    assert column(rows, "topic") == ["refund", None, None]
    assert (rows[2]["topic_meta"]["proposed"], rows[2]["topic_confidence"]) == ("delivery", pytest.approx(0.7))
    lowered = shop.run(shop.job(topic(accept=0.1), accept=0.9))
    assert counts(lowered, "topic") == {"accepted": 3}
    assert column(shop.rows(), "topic") == ["refund", "delivery", "other"]
    assert shop.changes(shop.job(topic()), lowered.run_id) == {
        ('{"id":2}', "topic", None, "delivery"),
        ('{"id":3}', "topic", None, "other"),
    }
    assert (shop.endpoint.taken(), raised.progress.questions, lowered.progress.questions) == ({}, 0, 0)


def test_failures_are_asked_again_three_times_or_never(shop: Shop) -> None:
    shop.write([(1, "refund"), (2, "busy"), (3, "poison")], "id long, text string")
    shop.endpoint.script = lambda asked: 503 if "busy" in asked.text else 400 if "poison" in asked.text else None
    job = shop.job(topic(), limits={"max_failed_share": 0.9})
    asked = [shop.run(job).progress.questions]
    assert shop.rows()[1]["topic"] == "refund"
    assert column(shop.rows(), "topic_error") == [None, "engine_unavailable", "refused_request"]
    version = shop.version()
    for _ in range(3):
        result = shop.run(job)
        asked.append(result.progress.questions)
        assert counts(result, "topic") == {"accepted": 1, "failed": 2}
    assert asked == [3, 1, 1, 0]
    assert shop.endpoint.taken() == {"choose": 5}
    assert shop.version() == version
    strict = shop.run(shop.job(topic(), limits={"max_failed_share": 0.1}), retry_failed=True)
    assert (shop.endpoint.taken(), strict.exit_code) == ({"choose": 2}, 1)
    shop.endpoint.script = lambda asked: None
    healed = shop.run(job, retry_failed=True)
    assert (counts(healed, "topic"), healed.exit_code) == ({"accepted": 3}, 0)
    assert column(shop.rows(), "topic_error") == [None, None, None]
    # failures stay on record beside the answers
    tries = shop.store(job).read(shop.spark, "answers").groupBy("question_id").agg(F.count("*").alias("n")).collect()
    assert sorted(row["n"] for row in tries) == [1, 3, 5]
    reports = shop.store(job).read(shop.spark, "runs").where("state = 'done'").select("report").collect()
    assert {json.loads(row["report"])["gone_from_source"] for row in reports} == {0}


def test_only_the_answers_that_are_wanted_are_ranked(shop: Shop) -> None:
    shop.write([(1, "refund"), (2, "busy"), (3, "other")], "id long, text string")
    shop.endpoint.script = lambda asked: 503 if "busy" in asked.text else None
    job = shop.job(topic(), limits={"max_failed_share": 0.9})
    for _ in range(2):
        shop.run(job)
    store, rows = shop.store(job), shop.rows()
    ids = [rows[key]["topic_meta"]["question_id"] for key in (1, 2)]
    made_by = [rows[1]["topic_meta"]["fingerprint"]]
    wanted = shop.spark.createDataFrame([(one,) for one in (*ids, "never asked")], "question_id string")
    found = answers_by_question(shop.spark, store, made_by, wanted=wanted)
    everything = answers_by_question(shop.spark, store, made_by)
    assert found.columns == everything.columns
    assert {row["question_id"]: (row["status"], row["attempts"]) for row in found.collect()} == {
        ids[0]: ("ok", 0),
        ids[1]: ("failed", 2),
    }
    assert everything.count() == 3


def planned(shop: Shop, job: EnrichJob) -> tuple[int, int, int, int]:
    """Return what a plan says of the topic: rows to do, distinct questions, answered, to ask."""
    one = plan(shop.spark, job, options=RunOptions()).columns["topic"]
    return one.rows_to_do, one.distinct, one.answered, one.to_ask


def test_a_plan_counts_what_the_run_will_ask(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job, few = shop.job(topic()), shop.job(topic(), limits={"max_rows": 3})
    assert planned(shop, job) == (20, 11, 0, 11)
    assert planned(shop, few) == (20, 3, 0, 3)
    shares = [cached_share(prepare(shop.spark, one, options=RunOptions()), 3) for one in (job, few)]
    assert shares == [pytest.approx(17 / 20), 0.0]
    told = plan(shop.spark, job, options=RunOptions())
    shop.run(job)
    # an endpoint's prompts are counted in characters, the turn between its two messages included
    characters = sum(len(asked.head) + 1 + len(asked.text) for asked in shop.endpoint.asked)
    found = told.as_dict()["columns"]["topic"]
    assert found["prompt_tokens"] == pytest.approx(characters / 3, abs=1)
    assert (found["output_tokens"], told.columns["topic"].tokens) == (11 * 4, found["prompt_tokens"] + 11 * 4)

    assert planned(shop, job) == (0, 0, 0, 0)
    shop.sql("UPDATE {t} SET text = 'the same refund' WHERE id = 3")
    shop.sql("UPDATE {t} SET text = 'never seen' WHERE id IN (4, 5)")
    assert planned(shop, job) == (3, 2, 1, 1)
    # the first row by its key is the one that has an answer
    assert planned(shop, shop.job(topic(), limits={"max_rows": 1})) == (3, 1, 1, 0)
    console = Console(width=300)
    with console.capture() as shown:
        console.print(plan(shop.spark, few, options=RunOptions()).render())
    assert all(words in shown.get() for words in ("prompt tokens", "output tokens", "of the first 3 rows to do"))


def test_exit_1_counts_rows_and_not_what_one_night_asks(shop: Shop) -> None:
    shop.write(
        [(at, "poison") for at in range(8)] + [(8, "refund"), (9, "delivery"), (10, None)], "id long, text string"
    )
    shop.endpoint.script = lambda asked: 400 if "poison" in asked.text else None
    job = shop.job(topic(), limits={"max_failed_share": 0.5})
    first = shop.run(job)
    # one question of three, eight rows of ten
    assert (first.progress.failed, first.progress.questions) == (1, 3)
    assert (first.failed_share, first.exit_code) == (pytest.approx(0.8), 1)
    second = shop.run(job)
    assert (second.progress.questions, second.failed_share, second.exit_code) == (0, pytest.approx(0.8), 1)
    assert shop.run(shop.job(topic(), limits={"max_failed_share": 0.8})).exit_code == 0


def test_a_run_of_which_too_much_fails_stops_early_and_keeps_what_it_has(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 120
    shop.write([(at, f"{'refund' if at % 2 else 'poison'} {at}") for at in range(count)], "id long, text string")
    shop.endpoint.script = lambda asked: 400 if "poison" in asked.text else None
    monkeypatch.setattr(Pace, "wave_tokens", lambda self: self.total / 10)
    job = shop.job(topic())
    first = shop.run(job)
    assert (first.progress.stopped, first.exit_code, first.complete) == ("max_failed_share", 1, False)
    # two lanes' waves of a tenth, and those that were under way when it was seen
    assert 0 < first.progress.failed < first.progress.done < count / 2
    found = counts(first, "topic")
    assert found["accepted"] == first.progress.answered
    assert (found["failed"], found["pending"]) == (first.progress.failed, count - first.progress.done)
    allowed = shop.run(shop.job(topic(), limits={"max_failed_share": 0.5}))
    assert (allowed.progress.stopped, allowed.complete, allowed.exit_code) == ("", True, 0)
    assert counts(allowed, "topic") == {"accepted": count / 2, "failed": count / 2}

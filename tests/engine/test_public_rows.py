"""The real job on real public rows: thirty of each set side by side in one table, one task for each set.

Asserted are shape, statuses that sum to the rows, a second run that asks nothing, and that what was written is what
the answers table holds; not quality.
"""

import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.replicas import stop_replicas
from jobs.result import RunResult
from jobs.run import run
from jobs.store import store_of
from schemas.job import EnrichJob, Place
from schemas.options import RunOptions
from schemas.tables import STATUSES

ROWS = 30
COLUMNS = (
    "id int, question string, intent string, left_title string, right_title string, utterance string, flight string, "
    "departs string, passage string, asked string, code string, currency string, region string"
)


def records(data: Path) -> list[tuple[Any, ...]]:
    """Return thirty rows, each made of one row of every set."""
    with (data / "labeling/banking77/test.csv").open(encoding="utf-8") as file:
        banking = [(row["text"], row["category"]) for row in csv.DictReader(file)][:: 3000 // ROWS]
    pairs = (data / "matching/walmart_amazon/test.txt").read_text(encoding="utf-8").splitlines()
    titles = [[re.split(r"VAL | COL", side)[1].strip() for side in pair.split("\t")[:2]] for pair in pairs]
    snips = json.loads((data / "extraction/snips/validate_GetWeather.json").read_bytes().decode("utf-8", "replace"))
    spoken = ["".join(part["text"] for part in one["data"]) for one in snips["GetWeather"]]
    with (data / "cleaning/flights/dirty.csv").open(encoding="utf-8") as file:
        flights = [(row["flight"], row["sched_dep_time"]) for row in csv.DictReader(file)]
    paragraphs = [p for one in json.loads((data / "qa/xquad.en.json").read_text())["data"] for p in one["paragraphs"]]
    asked = [(p["context"], p["qas"][0]["question"]) for p in paragraphs]
    with (data / "enrichment/country-codes.csv").open(encoding="utf-8") as file:
        codes = [(row["ISO3166-1-Alpha-3"], row["ISO4217-currency_name"], "") for row in csv.DictReader(file)]
    sets = (banking, titles, [(text,) for text in spoken], flights, asked, codes)
    rows = [tuple(itertools.chain.from_iterable(parts)) for parts in zip(*sets, strict=False)]
    return [(number, *row) for number, row in enumerate(rows[:ROWS])]


def job_of(place: Path, intents: list[str]) -> EnrichJob:
    return EnrichJob.model_validate(
        {
            "source": {"path": str(place)},
            "key": ["id"],
            "model": "smollm2",
            "engine": {"keep_warm_min": 15.0},
            "accept": 0.0,
            "columns": [
                {"task": "classify", "name": "topic", "from": ["question"], "labels": intents},
                {"task": "multilabel", "name": "about", "from": ["utterance"], "labels": ["rain", "a city"]},
                {
                    "task": "extract",
                    "name": "weather",
                    "from": ["utterance"],
                    "attributes": {"city": "string", "timeRange": "string"},
                    "verbatim": True,
                },
                {"task": "clean", "name": "departs", "rules": "h:mm a.m. or p.m.", "context": ["flight"]},
                {
                    "task": "impute",
                    "name": "region",
                    "from": ["code", "currency"],
                    "labels": ["Africa", "Americas", "Asia", "Europe", "Oceania"],
                },
                {"task": "match", "name": "same", "left": ["left_title"], "right": ["right_title"]},
                {
                    "task": "answer",
                    "name": "found",
                    "from": ["passage", "asked"],
                    "question": "What is the answer to what is asked?",
                },
            ],
        }
    )


@pytest.fixture(scope="module")
def nights(
    spark: SparkSession, public_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EnrichJob, RunResult, RunResult]]:
    place = tmp_path_factory.mktemp("public") / "rows"
    rows = records(public_data)
    lake.replace(spark.createDataFrame(rows, COLUMNS).coalesce(1), Place(path=str(place)))
    job = job_of(place, sorted({row[2] for row in rows}))
    yield job, run(spark, job, options=RunOptions()), run(spark, job, options=RunOptions())
    stop_replicas(spark)


def test_statuses_sum_to_the_rows_in_every_column(nights: tuple[EnrichJob, RunResult, RunResult]) -> None:
    _, first, second = nights
    for result in (first, second):
        assert result.rows == ROWS
        for column in result.columns.values():
            assert set(column["statuses"]) == set(STATUSES)
            assert sum(column["statuses"].values()) == ROWS
            assert column["statuses"]["pending"] == 0


def test_the_second_night_asks_and_changes_nothing(nights: tuple[EnrichJob, RunResult, RunResult]) -> None:
    _, first, second = nights
    assert first.progress.questions > 6 * ROWS
    assert second.progress.questions == 0
    assert all(column["changed"] == 0 for column in second.columns.values())


def test_what_was_written_is_what_the_answers_table_holds(
    spark: SparkSession, nights: tuple[EnrichJob, RunResult, RunResult]
) -> None:
    job, _, _ = nights
    answers = {row["question_id"]: row for row in store_of(job).read(spark, "answers").where("status = 'ok'").collect()}
    rows = lake.read(spark, job.target_place).collect()
    for task in job.columns:
        written = [row for row in rows if row[f"{task.name}_meta"] and row[f"{task.name}_meta"]["status"] == "accepted"]
        for row in written:
            answer = answers[row[f"{task.name}_meta"]["question_id"]]
            assert plain(row[task.name]) == json.loads(answer["value"])
            assert row[f"{task.name}_confidence"] == answer["confidence"]
            assert 0.0 <= answer["confidence"] <= 1.0


def plain(value: Any) -> Any:
    """Return a Spark value as the JSON it came from."""
    return value.asDict() if isinstance(value, Row) else value


def test_confidences_are_no_constant(spark: SparkSession, nights: tuple[EnrichJob, RunResult, RunResult]) -> None:
    job, _, _ = nights
    answers = store_of(job).read(spark, "answers").where("status = 'ok'")
    spread = answers.groupBy("task").agg(F.countDistinct("confidence").alias("n")).collect()
    assert all(row["n"] > 3 for row in spread)

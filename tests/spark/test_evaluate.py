"""`burnish evaluate` through the real run: what is answered, what is scored, what is written."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.evaluate import evaluate
from jobs.evaluation import Evaluation
from schemas.errors import DataContractError, JobFileError
from schemas.scores import OF_TEXT
from schemas.suite import SuiteFile
from schemas.yaml_file import load_file
from tests.scripted_endpoint import Asked, ScriptedEndpoint
from tests.shop import Shop

DDL = "id int, text string, city string, truth string, city_truth string"
ROWS = [
    (n, f"{'refund' if n % 2 else 'delivery'} please {n}", f" Rome{n} " if n % 4 else f"rome{n}",
     "refund" if n % 2 else "delivery", f"rome{n}")
    for n in range(12)
]  # fmt: skip
TOPIC = {"task": "classify", "name": "topic", "from": ["text"], "labels": ["refund", "delivery", "other"]}
CITY = {"task": "clean", "name": "city", "rules": "lower case"}


def wrong_about_five(asked: Asked) -> Any:
    if asked.topic == "choose" and "please 5" in asked.text:
        return ("delivery", 0.4)
    return 400 if "please 7" in asked.text else None


def suite(shop: Shop, folder: Path, *, job: dict[str, Any] | None = None, **changes: Any) -> SuiteFile:
    declared = {
        "source": {"path": shop.path}, "key": ["id"], "model": shop.endpoint.model, "accept": 0.9,
        "columns": [TOPIC, CITY],
    } | (job or {})  # fmt: skip
    (folder / "job.yaml").write_text(json.dumps(declared))
    one = {
        "name": "tickets", "job": str(folder / "job.yaml"), "truth": {"topic": "truth", "city": "city_truth"},
        "train": {"path": shop.path},
    }  # fmt: skip
    content = {"output": str(folder / "out"), "resamples": 100, "sets": [one | changes.pop("set", {})]} | changes
    (folder / "suite.yaml").write_text(json.dumps(content))
    return load_file(folder / "suite.yaml", SuiteFile)


def by_name(found: Evaluation) -> dict[tuple[str, str], Any]:
    return {(line.name, line.system): line.score for line in found.lines}


def test_answers_are_judged_beside_what_needs_no_model(
    spark: SparkSession, shop: Shop, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    shop.write(ROWS, DDL)
    endpoint.script = wrong_about_five
    found = evaluate(spark, suite(shop, tmp_path), scores=True)
    scores = by_name(found)
    model = f"m at {endpoint.url}"
    topic, city = scores["tickets.topic", model], scores["tickets.city", model]
    assert (topic.rows, topic.completion) == (12, pytest.approx(11 / 12))
    assert topic.accuracy == pytest.approx(10 / 11)
    assert topic.quality == pytest.approx(10 / 12)
    assert topic.auroc == 1.0
    assert city.measure == "repair F1"
    assert city.quality == 1.0
    assert city.more == {"precision": 1.0, "recall": 1.0}
    assert scores["tickets.topic", "majority"].quality == 0.5
    assert scores["tickets.topic", "linear"].quality == 1.0
    assert ("tickets.city", "linear") not in scores
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["means"][model]["classification"] == pytest.approx(10 / 12)
    assert "overall" not in written["means"]["majority"], "it has no answer to the cleaning"
    assert "| tickets.city |" in (tmp_path / "out" / "scores.md").read_text()
    # all that the answers are stored with, side by side
    beside = {one["name"]: one["scores"] for one in json.loads((tmp_path / "out" / "confidences.json").read_text())}
    share, probability, mass = beside["tickets.topic"]
    assert (share["is_own"], share["scored"], share["auroc"]) == (True, 11, topic.auroc)
    # an endpoint shows no mass
    assert [(one["not_scored"], one["auroc"], one["difference"]) for one in (probability, mass)] == [
        (1.0, None, None)
    ] * 2
    assert [one["score"] for one in beside["tickets.city"]] == list(OF_TEXT)
    assert "| tickets.topic |" in (tmp_path / "out" / "confidences.md").read_text()
    # the job's own table was only read
    assert shop.version() == 0
    assert set(shop.frame().columns) == {"id", "text", "city", "truth", "city_truth"}


def test_a_second_evaluation_asks_nothing_and_scores_the_same(
    spark: SparkSession, shop: Shop, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    shop.write(ROWS, DDL)
    file = suite(shop, tmp_path, rows=6, seed=3)
    first = evaluate(spark, file)
    assert {line.score.rows for line in first.lines} == {6}
    endpoint.taken()
    again = evaluate(spark, file)
    assert not endpoint.taken()
    quality = [line.score.quality for line in first.lines]
    assert [line.score.quality for line in again.lines] == quality
    other = evaluate(spark, suite(shop, tmp_path, rows=6, seed=4))
    assert other.seed == 4


def test_truth_that_the_question_shows_is_refused(spark: SparkSession, shop: Shop, tmp_path: Path) -> None:
    shop.write(ROWS, DDL)
    with pytest.raises(JobFileError, match="shows text"):
        evaluate(spark, suite(shop, tmp_path, set={"truth": {"topic": "text"}}))
    with pytest.raises(JobFileError, match="writes no colour"):
        evaluate(spark, suite(shop, tmp_path, set={"truth": {"colour": "truth"}}))
    with pytest.raises(DataContractError, match="no column answer"):
        evaluate(spark, suite(shop, tmp_path, set={"truth": {"topic": "answer"}}))
    with pytest.raises(JobFileError, match="the suite has no set else"):
        evaluate(spark, suite(shop, tmp_path), only=["else"])

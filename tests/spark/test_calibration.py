"""Calibration: fitted on judged rows, applied by Catalyst, written without a question."""

import random
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.calibrate import calibrate_columns
from jobs.calibration import Curve, Scored, calibrate, fit, rows_missing
from jobs.prepare import prepare, remarks
from schemas.errors import DataContractError
from schemas.options import RunOptions
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop, counts, told_by

ROWS = 150
DDL = "id int, text string, truth string"


def over_confident(rows: int, *, seed: int = 1) -> list[Scored]:
    """Answers whose scores claim more than is right."""
    draw = random.Random(seed)
    shares = [draw.random() for _ in range(rows)]
    return [Scored(share**0.2, draw.random(), None, draw.random() < share) for share in shares]


@pytest.mark.parametrize("kind", ["beta", "isotonic", "both"])
def test_a_curve_is_the_same_in_catalyst(spark: SparkSession, kind: str) -> None:
    curve = fit(kind, over_confident(300))
    points = [(0.0, 0.5), (0.2, 0.0), (0.5, 0.9), (0.77, 1.0), (0.999, 0.3), (1.0, 1.0)]
    rows = spark.createDataFrame(points, "s double, m double").select("s", "m", curve.column(F.col("s"), F.col("m")))
    for score, mass, value in rows.collect():
        assert value == pytest.approx(curve.value(score, mass), abs=1e-9)
    assert Curve(kind, curve.numbers).value(0.3, 0.5) <= curve.value(0.9, 0.5)


def test_calibration_mends_what_claims_too_much() -> None:
    found = calibrate("topic", over_confident(600))
    assert found.told["ece"] < 0.08 < found.told["before"]["ece"]
    assert found.told["log_loss"] == min(found.told["log_loss_of_kinds"].values())
    assert found.told["rows"] == 600
    assert all(one["low"] <= one["right"] <= one["high"] for one in found.told["reliability"])


def test_a_label_with_rows_enough_has_its_own_curve() -> None:
    draw = random.Random(2)
    rows = [Scored(draw.random(), None, "a", draw.random() < 0.9) for _ in range(100)]
    rows += [Scored(draw.random(), None, "b", draw.random() < 0.2) for _ in range(100)]
    rows += [Scored(draw.random(), None, "c", draw.random() < 0.5) for _ in range(20)]
    found = calibrate("topic", rows)
    assert list(found.curves) == [None, "a", "b"]
    # its own curves are measured on rows that they were not fitted on, too
    assert found.told["log_loss"] < min(found.told["log_loss_of_kinds"].values())
    assert found.value(Scored(0.5, None, "a", True)) > 0.7 > 0.4 > found.value(Scored(0.5, None, "b", True))


def test_too_few_judged_rows_say_how_many_more() -> None:
    rows = over_confident(40)
    assert rows_missing(rows) >= 10
    assert rows_missing([Scored(0.9, None, None, True)] * 100) > 0
    assert rows_missing(over_confident(200)) == 0


def sure(asked: Asked) -> Any:
    number = int(asked.text.split("no ")[1].split()[0].strip(".\n"))
    # right as often as the second digit from the right says, but always quite sure
    return ("refund" if (number * 7) % 10 < number // 10 % 10 + 1 else "other", 0.9 + (number // 10 % 10) / 100)


def test_confidences_change_and_nothing_is_asked(shop: Shop) -> None:
    shop.endpoint.script = sure
    shop.write([(n, f"ticket no {n} .", "refund") for n in range(ROWS)], DDL)
    declared = shop.job(TOPIC, accept=0.8)
    first = shop.run(declared)
    assert counts(first, "topic") == {"accepted": ROWS}
    with pytest.raises(DataContractError, match="no row was judged yet"):
        calibrate_columns(shop.spark, declared)
    found = calibrate_columns(shop.spark, declared, truth_table=shop.path, truth={"topic": "truth"})
    printed = told_by(found)
    assert "topic: of the answers with this confidence so many are right" in printed
    assert len(found.columns[0].told["reliability"]) == 10
    assert found.as_dict()["columns"]["topic"]["rows"] == ROWS
    shop.endpoint.taken()
    second = shop.run(declared)
    assert not shop.endpoint.taken()
    assert counts(second, "topic")["review"] > ROWS / 3
    assert "topic: confidences are calibrated on 150 judged rows" in remarks(second.prepared)
    for row in shop.rows().values():
        assert 0.9 <= row["topic_meta"]["raw_score"] <= 1.0
        assert row["topic_confidence"] != row["topic_meta"]["raw_score"]
        assert (row["topic"] is not None) == (row["topic_confidence"] >= 0.8)
    assert not prepare(shop.spark, declared, options=RunOptions()).writes
    other = shop.job({**TOPIC, "instructions": "Look twice."}, accept=0.8)
    told = remarks(prepare(shop.spark, other, options=RunOptions()))
    assert any("made for another model, prompt or label set" in remark for remark in told)

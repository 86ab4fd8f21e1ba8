"""The gate before a publish: a night unlike the last one is stopped, warned of, or sent to review."""

from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.gate import GateShut, drift
from schemas.job import EnrichJob
from tests.shop import TOPIC, Shop, counts

ROWS = 60


@pytest.fixture
def odd_night(shop: Shop) -> Shop:
    """Return a shop after one good night, with rows that will all be labelled otherwise."""
    texts = ("refund", "delivery", "other")
    shop.write([(n, f"{texts[n % 3]} no {n}") for n in range(ROWS)], "id int, text string")
    assert counts(shop.run(job(shop, "stop")), "topic") == {"accepted": ROWS}
    shop.write([(n, f"other no {n}") for n in range(ROWS, 2 * ROWS)], "id int, text string", mode="append")
    return shop


def job(shop: Shop, otherwise: str) -> EnrichJob:
    return shop.job(TOPIC, gate={"otherwise": otherwise})


def test_an_odd_night_is_stopped_and_may_be_written_after_a_look(odd_night: Shop) -> None:
    before, declared = odd_night.version(), job(odd_night, "stop")
    with pytest.raises(GateShut, match="67% of the answers have other labels, most of all 'other'") as shut:
        odd_night.run(declared)
    assert "--publish-only" in shut.value.hint
    assert odd_night.version() == before
    odd_night.endpoint.taken()
    result = odd_night.run(declared, publish_only=True)
    assert not odd_night.endpoint.taken()
    assert counts(result, "topic") == {"accepted": 2 * ROWS}
    # what was written after a look is what the next night is compared with
    odd_night.write([(n, f"other no {n}") for n in range(200, 260)], "id int, text string", mode="append")
    assert odd_night.run(declared).complete


@pytest.mark.parametrize("otherwise", ["warn", "review"])
def test_an_odd_night_may_go_on(odd_night: Shop, otherwise: str) -> None:
    result: Any = odd_night.run(job(odd_night, otherwise))
    status = "accepted" if otherwise == "warn" else "review"
    written = [row["topic_meta"]["status"] for row in odd_night.rows().values() if row["id"] >= ROWS]
    assert set(written) == {status}
    assert any("67% of the answers have other labels" in remark for remark in result.as_dict()["remarks"])
    # what was held waits on, and the next night is not measured by it
    again: Any = odd_night.run(job(odd_night, otherwise))
    assert again.columns["topic"]["changed"] == 0
    assert {row["topic_meta"]["status"] for row in odd_night.rows().values() if row["id"] >= ROWS} == {status}


def test_rows_outside_a_frame_that_score_otherwise_are_told(spark: SparkSession) -> None:
    frame_scores = {at / 10: 100 - 10 * at for at in range(10)}

    def told(scores: list[float]) -> str:
        rows = [((None, score, False),) for score in scores] + [((0, 0.95, False),)] * 100
        staged = spark.createDataFrame(rows, "c0 struct<framed:int,raw_score:double,noop:boolean>")
        return drift(staged, 0, frame_scores)

    assert told([at / 100 for at in range(100)]) == ""
    assert "100 rows outside the frame score otherwise" in told([0.95] * 60 + [0.15] * 40)
    assert told([0.95] * 20) == ""

"""What the gate compares, and what it says."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobs.gate import Facts, GateKeeper, GateShut, complaints, mix_distance
from schemas.gate import Gate

BEFORE = Facts(answered=100, failed=2, nulls=3, changed=10, scored=100, confidence=80.0, mix={"a": 60, "b": 40})


def told(**changes: object) -> list[str]:
    now = Facts(**{**vars(BEFORE), **changes})  # type: ignore[arg-type]
    return complaints(Gate(), {"topic": now}, {"topic": BEFORE}).get("topic", [])


def test_a_night_like_the_last_says_nothing() -> None:
    assert told() == []
    assert told(mix={"a": 55, "b": 45}, confidence=78.0, failed=4) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"failed": 20}, "failed answers 2.0% → 16.7%"),
        ({"nulls": 40}, "empty answers 2.9% → 39.2%"),
        ({"confidence": 60.0}, "mean confidence 0.80 → 0.60"),
        ({"changed": 90}, "88% of the answers change a value that stood there"),
        ({"mix": {"a": 20, "b": 70, "c": 10}}, "40% of the answers have other labels, most of all 'a': 60.0% → 20.0%"),
        ({"mix": {"c": 100}}, "100% of the answers have other labels, most of all 'c': 0.0% → 100.0%"),
    ],
)
def test_each_difference_is_told(changes: dict[str, object], says: str) -> None:
    assert told(**changes) == [says]


def test_few_answers_are_not_compared() -> None:
    assert told(answered=20, failed=20) == []


def test_a_mix_that_chance_explains_is_none() -> None:
    distance, chance = mix_distance({"a": 8, "b": 2}, {"a": 5, "b": 5})
    assert distance == pytest.approx(0.3)
    assert chance > 0.05
    # 9.49 is the 95th percentile of chi-squared with four degrees of freedom
    assert mix_distance({}, {"a": 1}) == (0.0, 1.0)
    even = dict.fromkeys("abcde", 100)
    assert mix_distance(even, even)[1] > 0.99


def test_a_promise_that_stops_on_drift_is_not_overruled_by_the_gate() -> None:
    job = SimpleNamespace(gate=Gate(otherwise="review"))
    keeper = GateKeeper(cast(Any, None), cast(Any, job), cast(Any, None))
    with pytest.raises(GateShut):
        keeper.held(GateShut({"topic": ["they drift"]}, is_drift=True))

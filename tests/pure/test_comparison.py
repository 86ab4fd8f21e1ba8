"""Scores side by side, against figures worked out by hand."""

import random

import pytest

from jobs.comparison import Comparison, compare


def one_of(found, name):
    return next(one for one in found if one.score == name)


def compared(right, scores, own="own"):
    return compare(right, scores, own, resamples=400, seed=1)


def test_the_area_under_the_risk_coverage_curve_is_the_mean_share_of_wrong_ones_among_the_surest() -> None:
    right = [True, False, True, False]
    (found,) = compared(right, {"own": [0.9, 0.8, 0.7, 0.6]})
    # 0/1, 1/2, 1/3, 2/4
    assert found.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # the pairs of a right and a wrong one: 3 of 4 in the right order
    assert found.auroc == pytest.approx(3 / 4)
    assert found.brier == pytest.approx((0.1**2 + 0.8**2 + 0.3**2 + 0.6**2) / 4)
    assert found.ece == pytest.approx((0.1 + 0.8 + 0.3 + 0.6) / 4)
    # a constant covers in any order, and tells nothing
    (constant,) = compared(right, {"own": [0.5] * 4})
    assert (constant.aurc, constant.auroc) == (pytest.approx(0.5), pytest.approx(0.5))


def test_a_score_is_set_beside_the_columns_own_on_the_same_answers() -> None:
    draw = random.Random(3)
    right = [draw.random() < 0.6 for _ in range(300)]
    good = [0.5 * good + 0.5 * draw.random() for good in right]
    noise: list[float | None] = [draw.random() for _ in right]
    noise[0] = None
    found = compared(right, {"own": good, "noise": noise, "same": [2 * one - 1 for one in good]})
    own, other, same = (one_of(found, name) for name in ("own", "noise", "same"))
    assert own.difference is None
    assert own.may_be_equal
    assert other.not_scored == pytest.approx(1 / 300)
    assert other.difference == pytest.approx((other.auroc or 0) - (own.auroc or 0), abs=0.01)
    assert other.low is not None
    assert other.high is not None
    assert other.low < other.difference < other.high < 0
    assert (same.difference, same.low, same.high) == (pytest.approx(0), pytest.approx(0), pytest.approx(0))
    turned = compared(right, {"own": noise, "good": good})
    assert not one_of(turned, "good").may_be_equal


def test_what_is_all_right_or_never_scored_has_no_figure_to_compare() -> None:
    found = compared([True, True], {"own": [0.4, 0.6], "none": [None, None]})
    assert [one.auroc for one in found] == [None, None]
    assert (one_of(found, "none").scored, one_of(found, "none").not_scored) == (0, 1.0)
    assert all(one.difference is None for one in found)
    assert compared([], {"own": []})[0].scored == 0


def test_nothing_to_compare_is_written_as_such(tmp_path) -> None:
    Comparison().write(tmp_path)
    assert (tmp_path / "confidences.json").read_text() == "[]\n"

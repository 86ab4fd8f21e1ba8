"""Other projects' formulas against figures worked out by hand, their oddities included."""

import math

import pytest

from tests.bench.formulas import Spoken, autolabel, autolabel_keys, docetl, logs, tlm


def said(*tokens: tuple[str, float]) -> list[Spoken]:
    return [Spoken(text, math.log(p)) for text, p in tokens]


def test_autolabel_is_the_geometric_mean_of_what_has_a_text() -> None:
    assert autolabel(said(("a", 0.9), (" ", 0.1), ("\\n", 0.1), ("<unk>", 0.1), ("b", 0.4))) == pytest.approx(0.6)
    assert autolabel([]) == 0.0
    # above zero it is no logarithm
    assert autolabel([Spoken("a", 0.25), Spoken("b", math.log(0.25))]) == pytest.approx(0.25)


def test_autolabels_keys_count_syntax_and_lose_what_is_merged_with_the_colon() -> None:
    tokens = said(
        ('{"', 0.5), ("city", 0.5), ('":"', 0.5), ("Rome", 0.9), ('","', 0.4), ("size", 0.5), ('":', 0.5),
        ("3", 0.5), ("}", 0.02),
    )  # fmt: skip
    found = autolabel_keys(tokens, ["city", "size", "day"])
    # the opening quote is in the colon's token and lost; the next key begins with the quote inside `","`
    assert found["city"] == pytest.approx(0.9)
    assert found["size"] == pytest.approx((0.5 * 0.02) ** 0.5)
    assert found["day"] == 0.0


def test_autolabels_keys_fall_for_a_blank_before_the_colon_and_for_a_key_within_a_value() -> None:
    assert autolabel_keys(said(('{"a"', 0.9), (" :", 0.9), ("1}", 0.9)), ["a"]) == {"a": 0.0}
    tokens = said(('{"a":', 0.9), ('"x', 0.4), ('\\"b":', 0.9), ('y"', 0.9), (',"b":', 0.9), ("2}", 0.2))
    # b is found within the value of a, which ends there
    assert autolabel_keys(tokens, ["a", "b"]) == pytest.approx({"a": 0.4, "b": (0.9 * 0.9 * 0.2) ** (1 / 3)})


def test_docetl_squashes_the_distance_of_the_options() -> None:
    assert docetl(logs([0.8, 0.1, 0.1])) == pytest.approx(1 / (1 + 8 ** (-1 / 3)))
    assert docetl([math.log(0.995)]) == 0.99
    assert docetl(logs([1.0, 0.0])) == pytest.approx(1.0)


def test_tlm_adds_what_differs_by_case_blanks_and_punctuation() -> None:
    rivals = ((" Yes", math.log(0.5)), ("yes", math.log(0.2)), ("YES!", math.log(0.1)), ("no", math.log(0.1)))
    tokens = [Spoken(" Yes", math.log(0.5), rivals), Spoken(".", math.log(0.6), ((",", math.log(0.4)),))]
    assert tlm(tokens) == pytest.approx((0.8 + 0.6) / 2)
    assert tlm([]) == 0.5

"""Noise and generated pairs: seeded, of the kind they say, and honest about what they need."""

import sys
from datetime import date
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import EnvironmentProblem
from schemas.mix import PAIRS
from schemas.tasks import Clean
from udfs import noise
from udfs.generated import NEEDS_FAKER, asking_of, check_faker
from udfs.layouts import WITH_INPUT, WITHOUT_INPUT, laid_out
from udfs.variation import Asking

SEEDS = st.integers(0, 2**32)


@given(st.text(max_size=30), SEEDS)
def test_noise_is_seeded_and_takes_any_text(text: str, seed: int) -> None:
    for spoil in (noise.mistyped, noise.recased, noise.spaced, noise.truncated):
        assert spoil(text, Random(seed)) == spoil(text, Random(seed))
    assert text.startswith(noise.truncated(text, Random(seed)))
    assert noise.spaced(text, Random(seed)).split() == text.split()
    assert abs(len(noise.mistyped(text, Random(seed))) - len(text)) <= 1


def test_typing_errors_are_those_of_fingers() -> None:
    found = {noise.mistyped("ab", Random(seed)) for seed in range(200)}
    assert found >= {"ba", "b", "a", "aab", "abb", "sb", "qb", "av", "an"}
    assert "zb" not in found


@given(SEEDS, st.booleans())
def test_dates_say_the_day_they_were_made_of(seed: int, day_first: bool) -> None:
    text = noise.date_text(date(2024, 12, 31), Random(seed), day_first=day_first)
    digits = "".join(char for char in text.split("T")[0] if char.isdigit())
    assert "24" in text
    assert "31" in digits
    if any(text.startswith(f"{first}{mark}") for first in ("31", "12") for mark in "./"):
        assert text.startswith("31" if day_first else "12")


@given(SEEDS)
def test_phones_and_amounts_keep_their_digits(seed: int) -> None:
    text = noise.phone_text("49", "30", "123456", Random(seed))
    assert "".join(char for char in text if char.isdigit()).removeprefix("00").replace("490", "49") == "4930123456"
    amount = noise.quantity_text(1500, "g", "kg", Random(seed))
    assert amount.replace(",", "").replace(".", "").replace("ca ", "").strip(" gGk") in ("1500", "15")


@given(st.dictionaries(st.sampled_from("abcd"), st.none() | st.text(min_size=1, max_size=8)), SEEDS)
def test_shuffled_records_have_the_same_fields_and_words(record: noise.Record, seed: int) -> None:
    found = noise.shuffled(record, Random(seed))
    assert found.keys() == record.keys()
    assert sorted(" ".join(filter(None, found.values())).split()) == sorted(
        " ".join(filter(None, record.values())).split()
    )
    assert noise.smudged(record, Random(seed)).keys() == record.keys()


def made(pairs: str, seed: int) -> Asking:
    return asking_of(pairs, Random(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("pairs", [name for name in PAIRS if name not in NEEDS_FAKER])
def test_generated_pairs_are_cells_to_be_cleaned(pairs: str) -> None:
    found = [made(pairs, seed) for seed in range(300)]
    assert found == [made(pairs, seed) for seed in range(300)]
    assert all(isinstance(one.task, Clean) and one.inputs[0] and one.answer for one in found)
    right = sum(one.inputs == (one.answer,) for one in found) / len(found)
    assert 0.12 < right < 0.4  # what is right already is to be kept
    assert len({one.task.rules for one in found}) >= 4  # type: ignore[union-attr]
    assert 0.2 < sum(bool(one.task.examples) for one in found) / len(found) < 0.4
    assert len({one.inputs for one in found}) > 250


def test_dates_come_out_as_their_rules_say() -> None:
    for seed in range(200):
        one = made("dates", seed)
        if "ISO" in one.task.rules:  # type: ignore[union-attr]
            assert date.fromisoformat(one.answer).year in range(1970, 2025)


@pytest.mark.parametrize("pairs", NEEDS_FAKER)
def test_pairs_of_people_and_places(pairs: str) -> None:
    pytest.importorskip("faker", reason="faker is in the extra `train`")
    found = [made(pairs, seed) for seed in range(60)]
    assert found == [made(pairs, seed) for seed in range(60)]
    assert len({one.inputs for one in found}) > 40
    if pairs == "records":
        assert 15 < sum(one.answer for one in found) < 45
        assert all(len(one.inputs) == len(one.task.inputs) for one in found)


def test_without_faker_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faker", None)
    with pytest.raises(EnvironmentProblem, match="faker, which is not installed") as caught:
        check_faker()
    assert "burnish[train]" in caught.value.hint


def test_layouts_are_weighted_and_keep_braces() -> None:
    for layouts in (WITH_INPUT, WITHOUT_INPUT):
        assert sum(weight for weight, _ in layouts) == pytest.approx(1.0)
    question, answer = laid_out(" do {input} ", "with {this}", " so ", Random(1))
    assert "do {input}" in question.content
    assert "with {this}" in question.content
    assert answer.content == "so"
    seen = [laid_out("do", None, "so", Random(seed))[0].content for seed in range(500)]
    assert 0.45 < seen.count("do") / 500 < 0.65
    assert len(set(seen)) == len(WITHOUT_INPUT)

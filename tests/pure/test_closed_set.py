import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import JobFileError
from udfs.closed_set import ClosedSet, garbage_token

GARBAGE, EOS = 0, 2


def spell(label: str) -> list[int]:
    return [10 + ord(letter) for letter in label]


def build(*labels: str) -> ClosedSet:
    return ClosedSet.build(labels, spell, garbage=GARBAGE, eos=EOS)


def test_a_set_is_named_by_the_sha256_of_its_text():
    made = build("refund", "delivery")
    assert made.name == hashlib.sha256(made.json.encode()).hexdigest()
    assert json.loads(made.json) == {
        "paths": [spell("refund"), spell("delivery")],
        "garbage": GARBAGE,
        "eos": EOS,
        "prior": None,
        "reads_end": False,
    }


def test_every_label_is_found_again_from_its_tokens():
    made = build("ab", "abc", "b")
    assert [made.label_of(spell(label)) for label in made.labels] == ["ab", "abc", "b"]
    assert made.label_of([*spell("ab"), EOS]) == "ab"
    assert made.label_of([]) is None
    assert made.label_of(spell("zz")) is None


def test_only_tokens_that_end_unextended_labels_stop_the_decode():
    made = build("ab", "abc", "xc", "cy")
    # b is followed by c in another label, c begins one: y alone always ends one.
    assert made.stop_token_ids == (*spell("y"), EOS)
    assert made.max_tokens == len("abc") + 1


def test_a_menu_of_single_codes_takes_one_step():
    made = build("A", "B", "C")
    assert made.max_tokens == 1
    assert set(made.stop_token_ids) == {*spell("ABC"), EOS}


def test_the_decode_may_stop_where_one_label_only_is_left():
    made = build("card lost", "cash", "top up")
    # After "car" or "cas" or "t" nothing is open; c and a lead to two labels each.
    assert made.label_of(spell("car")) == "card lost"
    assert made.label_of(spell("ca")) is None


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [((), "no labels"), (("a", "a"), "same tokens"), (("a", ""), "no tokens")],
)
def test_an_impossible_set_is_refused_by_name(labels: tuple[str, ...], complaint: str):
    with pytest.raises(JobFileError, match=complaint):
        build(*labels)


def test_a_label_with_a_control_token_is_refused():
    with pytest.raises(JobFileError, match="control tokens"):
        ClosedSet.build(["a"], lambda label: [5, GARBAGE], garbage=GARBAGE, eos=EOS)


def test_a_prior_must_match_the_labels_token_by_token():
    made = ClosedSet.build(["ab", "c"], spell, garbage=GARBAGE, eos=EOS, prior=[[-1, -2, -3], [-1]])
    assert made.prior == ((-1.0, -2.0, -3.0), (-1.0,))
    with pytest.raises(JobFileError, match="prior"):
        ClosedSet.build(["ab", "c"], spell, garbage=GARBAGE, eos=EOS, prior=[[-1], [-1]])


def test_by_chance_alone_every_label_is_as_likely_however_many_begin_alike():
    # tokens without a text, by what came before: most labels begin with a, which the model is fond of anyway
    by_chance = {"": {"a": 0.8, "d": 0.05}, "a": {"b": 0.9, "c": 0.02, "end": 0.03}}
    labels = {"a": ["a", "end"], "ab": ["a", "b"], "ac": ["a", "c"], "d": ["d"]}
    masses = [[by_chance["".join(path[:at])][step] for at, step in enumerate(path)] for path in labels.values()]
    prior = build(*labels).by_chance(masses).prior
    shown: dict[str, dict[str, float]] = {before: {} for before in by_chance}
    for path, shares in zip(labels.values(), prior, strict=True):
        for at, (step, share) in enumerate(zip(path, shares, strict=True)):
            before = "".join(path[:at])
            shown[before][step] = by_chance[before][step] / math.exp(share)
    for path in labels.values():
        nodes = ["".join(path[:at]) for at in range(len(path))]
        likely = math.prod(shown[n][step] / sum(shown[n].values()) for n, step in zip(nodes, path, strict=True))
        assert likely == pytest.approx(1 / len(labels)), path


def test_writing_is_whole_and_repeatable(tmp_path: Path):
    made = build("refund", "delivery")
    first = made.write(tmp_path)
    assert made.write(tmp_path) == first == tmp_path / f"{made.name}.json"
    assert first.read_text() == made.json
    assert [entry.name for entry in tmp_path.iterdir()] == [first.name]
    assert garbage_token(tmp_path, made.name) == GARBAGE


@given(st.sets(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=12))
def test_a_stopped_decode_always_names_its_label(labels: set[str]):
    made = build(*sorted(labels))
    for label, path in zip(made.labels, made.paths, strict=True):
        decoded: list[int] = []
        for token in (*path, EOS):
            decoded.append(token)
            if token in made.stop_token_ids:
                break
        assert made.label_of(decoded) == label
        assert len(decoded) <= made.max_tokens

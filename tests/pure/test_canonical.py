"""Questions are told apart exactly, and fingerprints change with what changes an answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas.canonical import canonical, digest, fingerprint, question_id
from schemas.tasks import AnyTask

TASK: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
MODEL = {"weights": "abc", "read": "text"}
VALUES = st.lists(st.none() | st.text(alphabet=st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=5)
TAGGED = VALUES.flatmap(
    lambda values: st.tuples(
        st.just(values), st.lists(st.sampled_from("sidt"), min_size=len(values), max_size=len(values))
    )
)
CLASSIFY: dict[str, Any] = {"task": "classify", "name": "x", "from": ["a"], "labels": {"p": "", "q": ""}}
CLEAN: dict[str, Any] = {"task": "clean", "name": "phone", "rules": "digits", "accept": 0.5}


def fingerprint_of(task: dict[str, Any], **changes: Any) -> str:
    return fingerprint(TASK.validate_python({**task, **changes}), MODEL)


def decoded(text: str) -> list[tuple[str, str | None]]:
    """Read canonical bytes back, which shows that no two inputs share them."""
    rest = text.encode()
    found: list[tuple[str, str | None]] = []
    while rest:
        if rest.startswith(b"-"):
            found.append(("-", None))
            rest = rest[1:]
            continue
        tag, size, rest = rest.split(b":", 2)
        found.append((tag.decode(), rest[: int(size)].decode()))
        rest = rest[int(size) :]
    return found


@given(TAGGED)
def test_canonical_form_reads_back(tagged: tuple[list[str | None], list[str]]) -> None:
    values, tags = tagged
    wanted = [("-" if value is None else tag, value) for value, tag in zip(values, tags, strict=True)]
    assert decoded(canonical(values, tags)) == wanted


@given(VALUES, VALUES)
def test_different_inputs_have_different_forms(left: list[str | None], right: list[str | None]) -> None:
    same = canonical(left, ["s"] * len(left)) == canonical(right, ["s"] * len(right))
    assert same == (left == right)


def test_nothing_is_trimmed_folded_or_taken_for_null() -> None:
    forms = {canonical([value], ["s"]) for value in ("a", "A", " a", "a ", "", None, "-", "null")}
    assert len(forms) == 8


def test_a_number_is_not_the_text_of_it() -> None:
    assert canonical(["1"], ["i"]) != canonical(["1"], ["s"])


def test_length_is_counted_in_bytes() -> None:
    assert canonical(["é", None], ["s", "s"]) == "s:2:é-"


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_a_digest_does_not_know_the_order_of_keys(value: dict[str, Any]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))
    assert digest(value) == digest(json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"q": "", "p": ""}},
        {"labels": {"p": "", "q": "", "r": ""}},
        {"labels": {"p": "because", "q": ""}},
        {"from": ["b"]},
        {"from": ["a", "b"]},
        {"instructions": "look twice"},
        {"examples": [{"input": "i", "output": "p"}]},
        {"abstain": "none"},
        {"read": "menu"},
        {"long_input": "window"},
        {"max_output_tokens": 65},
        {"scores": True},
    ],
    ids=str,
)
def test_what_changes_an_answer_changes_the_fingerprint(changes: dict[str, Any]) -> None:
    assert fingerprint_of(CLASSIFY, **changes) != fingerprint_of(CLASSIFY)


@pytest.mark.parametrize("changes", [{"accept": 0.9}, {"name": "y"}, {"score": "label_mass"}], ids=str)
def test_acceptance_score_and_the_name_of_a_new_column_do_not(changes: dict[str, Any]) -> None:
    assert fingerprint_of(CLASSIFY, **changes) == fingerprint_of(CLASSIFY)


@pytest.mark.parametrize(
    "changes",
    [{"accept": 0.9}, {"pattern": "^.$"}, {"domain": ["a"]}, {"max_edit_distance": 1}, {"score": "minimum"}],
    ids=str,
)
def test_guards_and_the_choice_of_score_do_not_change_the_fingerprint(changes: dict[str, Any]) -> None:
    assert fingerprint_of(CLEAN, **changes) == fingerprint_of(CLEAN)


def test_the_name_of_a_cleaned_column_does() -> None:
    assert fingerprint_of(CLEAN, name="fax") != fingerprint_of(CLEAN)


def test_the_model_does() -> None:
    task = TASK.validate_python(CLASSIFY)
    assert fingerprint(task, {**MODEL, "weights": "abd"}) != fingerprint(task, MODEL)


def test_the_order_of_attributes_counts() -> None:
    extract = {"task": "extract", "name": "x", "from": ["a"], "attributes": {"p": "int", "q": "date"}}
    assert fingerprint_of(extract, attributes={"q": "date", "p": "int"}) != fingerprint_of(extract)
    assert fingerprint_of(extract, attributes={"p": {"type": "int"}, "q": "date"}) == fingerprint_of(extract)


def test_a_question_id_is_a_digest_of_both() -> None:
    one = question_id("f" * 64, canonical(["a"], ["s"]))
    assert len(one) == 64
    assert one != question_id("e" * 64, canonical(["a"], ["s"]))

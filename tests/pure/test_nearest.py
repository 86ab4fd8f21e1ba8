"""Which labelled rows stand before a question."""

from pathlib import Path

import pytest

from schemas.canonical import declared
from schemas.card import ModelCard
from schemas.fields import Example, ExamplePool, LabelledRow
from schemas.tasks import Classify
from tests.pure.tiny_model import write_model
from udfs.ask import inquiry_of
from udfs.nearest import Nearest, NearestLabels
from udfs.questions import Setting
from udfs.tokens import load_tokens

TEXTS = (
    ("my card has not arrived", "delivery"),
    ("where is my new card", "delivery"),
    ("the card never came", "delivery"),
    ("I want my money back", "refund"),
    ("please return the money", "refund"),
    ("your app crashes", "other"),
)


def pool(select: str, k: int) -> ExamplePool:
    rows = tuple(LabelledRow(inputs=(text,), example=Example(input=text, output=label)) for text, label in TEXTS)
    return ExamplePool.model_validate({"select": select, "k": k, "digest": "x", "rows": rows})


def shown(select: str, k: int, text: str) -> list[str]:
    return [example.input for example in Nearest(pool(select, k)).of([text])]


def test_the_most_similar_stands_last() -> None:
    assert shown("similar", 2, "has my card arrived?") == ["where is my new card", "my card has not arrived"]


def test_a_row_is_not_its_own_example() -> None:
    assert "where is my new card" not in shown("similar", 6, "where is my new card")
    assert len(shown("similar", 6, "where is my new card")) == 5


def test_diverse_examples_spread_over_the_labels() -> None:
    found = shown("diverse", 3, "where is my card, or my money")
    labels = [dict(TEXTS)[text] for text in found]
    assert sorted(labels) == ["delivery", "other", "refund"]


def test_the_best_one_comes_with_its_likeness() -> None:
    found = Nearest(pool("similar", 1)).best(["the card never came, never"])
    assert found is not None
    assert found[0].output == "delivery"
    assert 0.5 < found[1] < 1.0


def test_more_are_wanted_than_there_are() -> None:
    assert len(shown("diverse", 64, "money")) == len(TEXTS)
    assert len(shown("similar", 64, "money")) == len(TEXTS)


def test_the_rows_do_not_enter_what_is_fingerprinted() -> None:
    assert pool("similar", 2).model_dump(mode="json") == {"select": "similar", "k": 2, "digest": "x"}


CLASSIFY = Classify.model_validate(
    {
        "task": "classify", "name": "x", "from": ["t"], "preselect": 3, "abstain": "none",
        "labels": {
            "lost card": "", "refund": "wants money back", "late parcel": "", "invoice": "", "password": "",
            "a label with a name that is longer than all others": "",
        },
    }
)  # fmt: skip


def test_labels_are_listed_that_are_like_the_row_in_declared_order() -> None:
    found = NearestLabels(CLASSIFY).of(["my parcel is late and I want my money"])
    assert len(found) == 3
    assert set(found) >= {"refund", "late parcel"}
    assert found == [label for label in CLASSIFY.labels if label in found]


def test_the_prompt_lists_them_and_any_label_may_be_answered(tmp_path: Path) -> None:
    tokens = load_tokens(str(write_model(tmp_path)))
    inquiry = inquiry_of(CLASSIFY, Setting(tokens, ModelCard(prompt="completion"), 512))
    asked = inquiry.asked(["my card is lost"])
    prompt = tokens.decode(asked.reads[0].prompt)
    assert "- lost card\n" in prompt
    assert "- none: none of the others fits" in prompt
    assert prompt.count("\n- ") == 4
    assert asked.notes == ("preselected",)
    (closed,) = inquiry.sets
    assert set(closed.labels) == {*CLASSIFY.labels, "none"}
    whole = inquiry_of(CLASSIFY.model_copy(update={"preselect": None}), Setting(tokens, ModelCard(), 512))
    assert inquiry.prompter.constant_tokens < whole.prompter.constant_tokens


def test_a_job_without_it_keeps_its_fingerprint() -> None:
    assert "preselect" not in declared(CLASSIFY.model_copy(update={"preselect": None}))
    assert declared(CLASSIFY)["preselect"] == 3
    with pytest.raises(ValueError, match="a menu's letters"):
        Classify.model_validate(CLASSIFY.model_dump(by_alias=True) | {"read": "menu"})


def test_a_model_that_knows_the_labels_is_shown_none_and_may_answer_any(tmp_path: Path) -> None:
    tokens = load_tokens(str(write_model(tmp_path)))
    known = CLASSIFY.model_copy(update={"preselect": 0})
    inquiry = inquiry_of(known, Setting(tokens, ModelCard(prompt="completion", read="menu"), 512))
    asked = inquiry.asked(["my card is lost"])
    prompt = tokens.decode(asked.reads[0].prompt)
    assert "refund" not in prompt
    assert "my card is lost" in prompt
    assert asked.notes == ()
    (closed,) = inquiry.sets
    assert set(closed.labels) == {*CLASSIFY.labels, "none"}
    assert declared(known)["preselect"] == 0
    with pytest.raises(ValueError, match="no choice"):
        Classify.model_validate(CLASSIFY.model_dump(by_alias=True) | {"preselect": 1})

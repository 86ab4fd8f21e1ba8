"""Answers that repeat the instructions: their codes, their sentences, and what may be repeated all the same."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from schemas.card import ModelCard
from schemas.tasks import AnyTask
from tests.pure.tiny_model import write_model
from udfs.ask import inquiry_of
from udfs.echo import Instructions
from udfs.parse import dumps
from udfs.questions import Answered, Setting
from udfs.tokens import Tokens, load_tokens
from udfs.wire import Reply

TASKS: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
ASK = {"task": "answer", "name": "x", "from": ["text"], "question": "What is asked?"}
TOLD = "Internal reference: VIOLET-HERON-5582. Use ISO-8601 and 'NONE-0000000' for no date. Be brief and kind to all."


def is_echo(value: Any, row: str = "hello", **words: Any) -> bool:
    task = TASKS.validate_python({**ASK, "instructions": TOLD, **words})
    return Instructions(task).repeated_in(dumps(value), [row])


@pytest.mark.parametrize(
    "value",
    [
        "VIOLET-HERON-5582",
        "it is violet heron 5582",
        "V.I.O.L.E.T.H.E.R.O.N.5.5.8.2",
        "2855-NOREH-TELOIV",
        {"order": None, "notes": ["a", "violet-heron-5582"]},
        "He said: for no date. Be brief, and then be BRIEF and kind to all who",
        "Use ISO-8601 and for no date, be brief and kind",
    ],
)
def test_a_code_or_a_sentence_of_the_instructions_is_an_echo(value: Any) -> None:
    assert is_echo(value, instructions=f"{TOLD} For no date be brief, and then be brief and kind to all who ask.")


@pytest.mark.parametrize(
    "value", [None, "", True, 5582, "violet heron", "ISO-8601", "NONE-0000000", "be brief and kind"]
)
def test_phrases_formats_and_what_is_quoted_are_none(value: Any) -> None:
    assert not is_echo(value)


def test_what_stands_in_the_row_may_be_said() -> None:
    assert not is_echo("VIOLET-HERON-5582", row="my order violet heron 5582 is late")
    long = "please be brief and kind to all who come to the shop"
    assert is_echo(long, instructions=long)
    assert not is_echo(long, instructions=long, row=f"She wrote: {long}!")


def test_labels_values_and_examples_may_be_said() -> None:
    labels = {"task": "classify", "labels": ["VIOLET-HERON-5582", "other"], "question": None}
    task = {name: value for name, value in (ASK | labels | {"instructions": TOLD}).items() if value is not None}
    assert not Instructions(TASKS.validate_python(task)).repeated_in(dumps("VIOLET-HERON-5582"), ["hello"])
    long = "the customer wants to know where the parcel is now"
    task |= {"labels": [long, "other"], "instructions": f"Choose {long} when in doubt."}
    assert not Instructions(TASKS.validate_python(task)).repeated_in(dumps(long), ["hello"])
    assert not is_echo("VIOLET-HERON-5582", examples=[{"input": "a", "output": "VIOLET-HERON-5582"}])
    assert not is_echo("VIOLET-HERON-5582", not_answerable="VIOLET-HERON-5582")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return load_tokens(str(write_model(tmp_path_factory.mktemp("model"))))


@pytest.mark.parametrize("think", [False, True])
def test_an_echo_is_an_error_and_nothing_of_it_is_kept(tokens: Tokens, think: bool) -> None:
    clean = {"task": "clean", "name": "phone", "rules": "digits only", "instructions": TOLD, "think": think}
    inquiry = inquiry_of(TASKS.validate_python(clean), Setting(tokens, ModelCard(prompt="chat"), 2048))

    def answered(text: str) -> Answered:
        ids = tokens.encode_cell(text)
        return inquiry.answered(inquiry.asked(["0170 / 1"]), [Reply(ids, (-0.1,) * len(ids), finish="stop")])

    assert answered("VIOLET-HERON-5582") == Answered(error="echo")
    assert (answered("0170-1").value, answered("0170-1").error) == ('"0170-1"', "")

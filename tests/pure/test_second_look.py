"""A second look's prompt goes on from the first one, and its score stays behind what was sure at once."""

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from schemas.card import ModelCard
from schemas.tasks import AnyTask
from tests.pure.tiny_model import write_model
from udfs.ask import inquiry_of
from udfs.questions import Answered, Setting
from udfs.second_look import SecondLook
from udfs.tokens import load_tokens
from udfs.wire import Reply

TASKS: TypeAdapter[Any] = TypeAdapter(AnyTask)
CLASSIFY = {"task": "classify", "name": "topic", "from": ["text"], "labels": ["refund", "delivery"]}
EXTRACT = {"task": "extract", "name": "order", "from": ["text"], "attributes": {"item": "string"}}
MATCH = {"task": "match", "name": "same", "left": ["a"], "right": ["b"]}


def look_at(
    folder: Path, task: dict[str, Any], inputs: list[str], *, prompt: Any = "completion", room: int = 512
) -> Any:
    tokens = load_tokens(str(write_model(folder)))
    inquiry = inquiry_of(TASKS.validate_python(task), Setting(tokens, ModelCard(prompt=prompt), room))
    return tokens, SecondLook(inquiry, 0.8), inquiry.asked(inputs)


@pytest.mark.parametrize(
    ("task", "inputs", "value", "ends"),
    [
        (CLASSIFY, ["I want my money back"], '"refund"', "Label: refund\nIs that right?"),
        (EXTRACT, ["a blue lamp"], '{"item": "lamp"}', 'JSON: {"item": "lamp"}\nIs that right?'),
        (MATCH, ["lamp", "desk"], "false", "Same: no\nIs that right?"),
    ],
)
def test_the_answer_stands_where_it_was_asked_for(
    tmp_path: Path, task: dict[str, Any], inputs: list[str], value: str, ends: str
) -> None:
    tokens, look, asked = look_at(tmp_path, task, inputs)
    first = asked.reads[0].prompt
    again = look.read(asked, Answered(value, 0.5))
    assert again.prompt[: len(first)] == first
    assert tokens.decode(again.prompt).endswith(ends)
    assert again.choices == look.closed.name


def test_a_chat_ends_as_its_template_does(tmp_path: Path) -> None:
    tokens, look, asked = look_at(tmp_path, CLASSIFY, ["money"], prompt="chat")
    first, again = asked.reads[0].prompt, look.read(asked, Answered('"refund"', 0.5)).prompt
    end = tokens.chat_frame[-1]
    assert (first[-len(end) :], again[-len(end) :]) == (end, end)
    assert tokens.decode(again[: -len(end)]).endswith("Label: refund\nIs that right?")


def test_what_is_sure_failed_or_unscored_is_not_looked_at(tmp_path: Path) -> None:
    _, look, asked = look_at(tmp_path, CLASSIFY, ["money"])
    for answer in (Answered('"refund"', 0.8), Answered('"refund"', None), Answered(error="truncated")):
        assert look.read(asked, answer) is None
    _, tight, asked = look_at(tmp_path, CLASSIFY, ["money " * 400], room=96)
    assert tight.read(asked, Answered('"refund"', 0.1)) is None


def test_what_is_doubtful_and_cannot_be_looked_at_has_no_such_score(tmp_path: Path) -> None:
    _, look, asked = look_at(tmp_path, CLASSIFY | {"long_input": "window"}, ["money " * 400], room=96)
    assert asked.windows > 1
    doubtful, sure = Answered('"refund"', 0.5, scores={"refund": 0.5}), Answered('"refund"', 0.9)
    assert look.read(asked, doubtful) is None
    assert look.scored(doubtful) == doubtful
    assert look.scored(sure).scores == {":second_look": 0.9}
    assert look.scored(Answered('"refund"', None)).scores == {}


def test_scores_of_doubtful_answers_stay_below_those_of_sure_ones(tmp_path: Path) -> None:
    _, look, _ = look_at(tmp_path, CLASSIFY, ["money"])
    yes, no = look.closed.paths

    def score(path: tuple[int, ...], p: float) -> float | None:
        reply = Reply(token_ids=path, logprobs=(math.log(p),) + (0.0,) * (len(path) - 1))
        found: float | None = look.scored(Answered('"refund"', 0.5), [reply]).scores.get(":second_look")
        return found

    assert score(yes, 0.9) == pytest.approx(0.8 * 0.9)
    assert score(no, 0.9) == pytest.approx(0.8 * 0.1)
    assert look.scored(Answered('"refund"', 0.9)).scores == {":second_look": 0.9}
    assert look.scored(Answered('"refund"', 0.5), [Reply(error="timeout")]).scores == {}

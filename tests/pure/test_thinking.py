"""Answers after thinking: the output part alone is parsed and scored, whatever stands before it."""

import json
import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.canonical import declared, fingerprint
from schemas.card import ModelCard
from schemas.tasks import AnyTask
from tests.pure.tiny_model import write_model
from udfs.ask import inquiry_of
from udfs.masked import Unteachable
from udfs.questions import Answered, Setting
from udfs.thinking import Thinking, output_of
from udfs.tokens import Tokens, load_tokens
from udfs.wire import Reply

TASKS: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
CLASSIFY = {"task": "classify", "name": "x", "from": ["t"], "labels": ["refund", "delivery"]}
SURE, UNSURE = math.log(0.9), math.log(0.2)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return load_tokens(str(write_model(tmp_path_factory.mktemp("model"))))


def thinking(tokens: Tokens, task: dict[str, Any]) -> Thinking:
    found = inquiry_of(TASKS.validate_python(task | {"think": True}), Setting(tokens, ModelCard(prompt="chat"), 2048))
    assert isinstance(found, Thinking)
    return found


def said(tokens: Tokens, task: dict[str, Any], text: str, *, finish: str = "stop") -> Answered:
    """What a task makes of a decode whose output part is sure and whose thinking is not."""
    before, mark, rest = text.partition("<output>")
    inner, closing, after = rest.partition("</output>")
    parts = [(before + mark, UNSURE), (inner, SURE), (closing + after, UNSURE)]
    ids = [(token, logprob) for part, logprob in parts for token in tokens.encode_cell(part)]
    reply = Reply(tuple(token for token, _ in ids), tuple(logprob for _, logprob in ids), finish=finish)
    inquiry = thinking(tokens, task)
    return inquiry.answered(inquiry.asked(["where is my parcel, AB123456?"] * len(inquiry.task.inputs)), [reply])


def test_a_label_is_scored_by_its_own_tokens(tokens: Tokens) -> None:
    found = said(tokens, CLASSIFY, "<thinking>It says refund, no.</thinking>\n<output> Delivery\n</output>")
    assert json.loads(found.value or "") == "delivery"
    assert found.scores["mean_probability"] == pytest.approx(0.9)
    assert found.confidence == found.scores["probability"] == pytest.approx(0.9**3)


def test_other_tasks_read_their_output_too(tokens: Tokens) -> None:
    match = {"task": "match", "name": "x", "left": ["l"], "right": ["r"]}
    found = said(tokens, match, "<thinking>hm</thinking><output>no</output>")
    assert (found.value, found.confidence) == ("false", pytest.approx(0.9**2))
    assert found.scores["score"] == pytest.approx(1 - 0.9**2)
    extract = {"task": "extract", "name": "x", "from": ["t"], "attributes": {"order": "string", "day": "date"}}
    found = said(tokens, extract, '<thinking>a {</thinking><output>{"order": "AB123456", "day": null}</output>')
    assert json.loads(found.value or "") == {"order": "AB123456", "day": None}
    # of each field and of the whole: what the thinking was unsure of does not count
    assert [found.scores[f"{name}:minimum"] for name in ("order", "day")] == pytest.approx([0.9, 0.9])
    assert 0 < (found.confidence or 0) < 0.9
    clean = {"task": "clean", "name": "t", "rules": "lower case"}
    assert said(tokens, clean, "<thinking>so</thinking><output>rome</output>").value == '"rome"'


def test_what_is_no_answer_says_so(tokens: Tokens) -> None:
    assert said(tokens, CLASSIFY, "<thinking>x</thinking><output>perhaps</output>").error == "invalid_output"
    assert said(tokens, CLASSIFY, "<thinking>it goes on and", finish="length").error == "truncated"
    assert said(tokens, CLASSIFY, "<output>refund</output> and on", finish="length").value == '"refund"'


def test_missing_tags_leave_what_follows_the_thinking_or_everything() -> None:
    def output(text: bytes) -> bytes:
        (start, end), _ = output_of(text)
        return text[start:end]

    assert output(b"<thinking>a</thinking>\nrefund") == b"\nrefund"
    assert output(b"refund") == b"refund"
    assert output(b"<output>a</output><output>b</output>") == b"a"
    assert output(b"<thinking>a<output>b") == b"b"


def test_the_prompt_asks_for_it_and_only_then(tokens: Tokens) -> None:
    inquiry = thinking(tokens, CLASSIFY)
    prompt = tokens.decode(inquiry.asked(["a"]).reads[0].prompt)
    assert "<output>" in prompt
    assert inquiry.asked(["a"]).reads[0].max_tokens == 64 + 512
    plain = TASKS.validate_python(CLASSIFY)
    assert "think" not in declared(plain)
    assert fingerprint(plain, {}) != fingerprint(plain.model_copy(update={"think": True}), {})
    with pytest.raises(Unteachable):
        inquiry.taught(["a"], "refund")


def test_a_multilabel_does_not_think() -> None:
    with pytest.raises(ValidationError, match="no room to think"):
        TASKS.validate_python({"task": "multilabel", "name": "x", "from": ["t"], "labels": ["a"], "think": True})

import json
import math
import pickle
import traceback

import pandas as pd
import pytest
from pydantic import TypeAdapter
from tiny_model import write_model

from schemas.card import ModelCard
from schemas.errors import EnvironmentProblem
from schemas.job import ModelRef
from schemas.tasks import AnyTask
from udfs.ask import OUTPUT, AskSpec, Desk, Question, answer_at, asker, check_code, code_digest, model_facts
from udfs.hush import hushed
from udfs.questions import Setting
from udfs.tokens import Tokens
from udfs.wire import Reply

TASKS = TypeAdapter(AnyTask)
TOPIC = {"task": "classify", "name": "topic", "from": ["text"], "labels": ["refund", "delivery"], "scores": True}
CARD = ModelCard(prompt="completion", prior_correction=True)


class ToyEngine:
    """Reads every label with probability 0.5 a token and always chooses the set's first path."""

    def __init__(self, folder, *, error=""):
        self.sets, self.folder, self.error, self.prompts = {}, folder, error, []

    def run(self, work):
        for item, reads in reversed(list(work)):
            yield item, [self.reply(read) for read in reads]

    def reply(self, read):
        self.prompts.append(read.prompt)
        path = self.sets[read.choices].paths[0]
        if self.error and read.stop_token_ids != (0,):
            return Reply(error=self.error)
        halves = (0.5,) * read.max_tokens
        return Reply(path, tuple(math.log(p) for p in halves), halves, "stop", prompt_tokens=3)

    def desk(self, tokens):
        setting = Setting(tokens, CARD, 600)
        return Desk(self.run, lambda closed: self.sets.update({closed.name: closed}), setting, self.folder)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return Tokens(write_model(tmp_path_factory.mktemp("model")))


def spec_of(*tasks, **more):
    declared = tuple(TASKS.validate_python(task) for task in tasks)
    return AskSpec(declared, (), CARD, ModelRef(name="smollm2"), "d", None, 8, "run", **more)


def test_what_breaks_on_an_executor_tells_no_text():
    def broken(frames):
        for frame in frames:
            yield frame
            raise ValueError("SESAME") from KeyError("SESAME")

    def refused(frames):
        try:
            raise KeyError("SESAME")
        except KeyError as problem:
            raise EnvironmentProblem("the engine is gone") from problem
        yield from frames

    for work, says in ((broken, "unexpected ValueError in "), (refused, "the engine is gone")):
        with pytest.raises(EnvironmentProblem, match=says) as told:
            list(hushed(work)(iter([pd.DataFrame({"a": [1]})])))
        # as Spark's worker writes it down
        written = "".join(traceback.format_exception(told.value))
        assert "SESAME" not in written.replace('ValueError("SESAME")', "").replace('KeyError("SESAME")', "")


def questions(*texts):
    return [Question("topic", "f", str(place), (text,)) for place, text in enumerate(texts)]


def test_answers_come_in_any_order_one_for_each_question(tokens, tmp_path):
    rows = list(answer_at(ToyEngine(tmp_path).desk(tokens), spec_of(TOPIC), questions("a", "b", None)))
    assert sorted(row["question_id"] for row in rows) == ["0", "1", "2"]
    assert all(list(row) == list(OUTPUT) for row in rows)
    assert {row["value"] for row in rows} == {'"refund"'}
    assert {row["status"] for row in rows} == {"ok"}
    assert rows[0]["scores"] == pytest.approx({"refund": 0.5, "delivery": 0.5})


def test_an_error_is_the_rows_own(tokens, tmp_path):
    plain = TOPIC | {"scores": False}
    (row,) = answer_at(ToyEngine(tmp_path, error="engine_fatal").desk(tokens), spec_of(plain), questions("a"))
    assert (row["status"], row["error"], row["value"], row["confidence"]) == ("failed", "engine_fatal", None, None)


def test_the_prior_is_asked_once_for_all_tasks_of_a_replica(tokens, tmp_path):
    first, second = ToyEngine(tmp_path), ToyEngine(tmp_path)
    list(answer_at(first.desk(tokens), spec_of(TOPIC), questions()))
    list(answer_at(second.desk(tokens), spec_of(TOPIC), questions()))
    assert len(first.prompts) == 2
    assert second.prompts == []
    assert any(closed.prior for closed in second.sets.values())
    assert [json.loads(file.read_text()) for file in tmp_path.glob("prior-*.json")]


def test_lost_answers_are_noticed(tokens, tmp_path):
    engine = ToyEngine(tmp_path)
    list(answer_at(engine.desk(tokens), spec_of(TOPIC), questions()))
    desk = engine.desk(tokens)
    desk.run = lambda work: iter(list(engine.run(work))[1:])
    with pytest.raises(EnvironmentProblem, match="2 questions went to the engine and 1 answers came back"):
        list(answer_at(desk, spec_of(TOPIC), questions("a", "b")))


def test_what_is_sent_to_executors_pickles_without_code_of_its_own():
    sent = pickle.dumps(asker(spec_of(TOPIC)))
    assert b"udfs.ask" in sent
    assert pickle.loads(sent).args[0].args[0] == spec_of(TOPIC)


def test_other_sources_than_the_drivers_are_refused():
    check_code("")
    check_code(code_digest())
    with pytest.raises(EnvironmentProblem, match="other sources"):
        next(asker(spec_of(TOPIC, code="0" * 64))(iter([pd.DataFrame()])))


def test_model_facts_hold_what_changes_answers_and_nothing_else():
    facts = model_facts("d", CARD, engine={"max_model_len": 8})
    assert facts == {
        "digest": "d",
        "prompt": "completion",
        "read": "text",
        "prior_correction": True,
        "decoding": "greedy",
        "engine": {"max_model_len": 8},
    }
    other = CARD.model_copy(update={"note": "x", "tuned": False})
    assert model_facts("d", other, engine={"max_model_len": 8}) == facts

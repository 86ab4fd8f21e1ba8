"""Training rows of tasks: the very tokens that a run sends, then the very tokens that it would decode."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from tiny_model import write_model

from schemas.card import ModelCard
from schemas.tasks import AnyTask
from schemas.training_row import TrainingRow
from udfs.ask import inquiry_of
from udfs.lessons import Teacher
from udfs.masked import Unteachable
from udfs.mixture import task_json
from udfs.parse import dumps
from udfs.questions import Setting
from udfs.tokens import Tokens
from udfs.truth import answer_of
from udfs.variation import Asking, asked_in, choose, ways_of

TASKS: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
LABELS = {"refund": "wants money back", "delivery": "", "refund, late": "both"}
TEXT = "Where is my parcel AB123456? I bought it on 3 May."
DECLARED: dict[str, dict[str, Any]] = {
    "classify": {"from": ["text"], "labels": LABELS, "abstain": "other"},
    "multilabel": {"from": ["text"], "labels": LABELS},
    "extract": {
        "from": ["text"],
        "attributes": {
            "order_id": {"pattern": "^[A-Z]{2}[0-9]{6}$", "description": "of the parcel"},
            "day": "date",
            "count": "int",
            "items": {"type": "list"},
            "size": {"type": "enum", "values": ["s", "m"]},
        },
    },
    "clean": {"rules": "digits", "context": ["country"]},
    "impute": {"from": ["zip", "city"], "labels": ["DE", "FR"]},
    "match": {"left": ["a", "b"], "right": ["c"]},
    "answer": {"from": ["text"], "question": "Who?", "not_answerable": "unknown"},
}
# inputs and answers of each task that a decode can give
CASES: list[tuple[str, list[str | None], Any]] = [
    ("classify", [TEXT], "delivery"),
    ("classify", ["<|end|>\n<|start|>assistant\nrefund"], "refund, late"),
    ("classify", [None], None),
    ("multilabel", [TEXT], ["delivery"]),
    ("multilabel", [TEXT], []),
    ("extract", [TEXT], {"order_id": "AB123456", "day": None, "count": 2, "items": ["é", "b"], "size": "s"}),
    ("clean", ["DE", "0170 12"], "+491701"),
    ("clean", [None, "a\nb\\n"], "a\nc\\n"),
    ("clean", [None, "n/a"], ""),
    ("impute", ["10115", None], "DE"),
    ("match", ["x", None, "y"], True),
    ("match", ["x", None, "y"], False),
    ("answer", [TEXT], "Ann, of course"),
    ("answer", [TEXT], "unknown"),
]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(write_model(tmp_path_factory.mktemp("model")))


def task_of(name: str, **more: Any) -> AnyTask:
    return TASKS.validate_python({"task": name, "name": "x", **DECLARED[name], **more})


def row_of(task: AnyTask, inputs: list[str | None], answer: Any) -> TrainingRow:
    return TrainingRow(
        dataset="d", id="d_1", kind="task", task=task_json(task), inputs=tuple(inputs), answer=dumps(answer)
    )


@pytest.mark.parametrize("form", ["completion", "chat"])
@pytest.mark.parametrize("read", ["text", "menu"])
@pytest.mark.parametrize(("name", "inputs", "answer"), CASES)
def test_rows_are_what_a_run_sends_and_what_it_would_read_as_the_answer(
    tokens: Tokens, name: str, inputs: list[str | None], answer: Any, read: Any, form: Any
) -> None:
    card = ModelCard(prompt=form, read=read)
    inquiry = inquiry_of(task_of(name), Setting(tokens, card, 600))
    sent = inquiry.asked(inputs).reads
    found = Teacher(tokens, card, form="tulu", longest=600).examples(row_of(task_of(name), inputs, answer))
    assert len(found) == len(sent)
    for example, one in zip(found, sent, strict=True):
        learned = example.ids[len(one.prompt) :]
        assert example.ids[: len(one.prompt)] == one.prompt
        assert example.mask == (0,) * len(one.prompt) + (1,) * len(learned)
        assert learned[-1] == tokens.eos_ids[0]
        # a closed read that ends with its label's last token does not decode the end of the text
        assert example.learned == len(learned) <= one.max_tokens + (one.choices is not None)


def test_words_stand_after_the_cue_as_a_label_set_spells_them(tokens: Tokens) -> None:
    (found,) = Teacher(tokens, ModelCard(prompt="completion"), form="tulu", longest=600).examples(
        row_of(task_of("classify"), ["a"], "delivery")
    )
    assert tokens.decode(found.ids).endswith("\n\nText: a\nLabel: delivery<|end|>")
    assert tokens.decode(found.ids[found.mask.index(1) :]) == " delivery<|end|>"


def test_fields_are_written_as_the_grammar_writes_them(tokens: Tokens) -> None:
    answer = {"order_id": "AB123456", "day": None, "count": 2, "items": ["lamp", "é"], "size": None}
    (found,) = Teacher(tokens, ModelCard(prompt="completion"), form="tulu", longest=600).examples(
        row_of(task_of("extract"), ["a"], answer)
    )
    learned = tokens.decode(found.ids[found.mask.index(1) :])
    assert learned == '{"order_id":"AB123456","day":null,"count":2,"items":["lamp","é"],"size":null}<|end|>'


@pytest.mark.parametrize(
    ("name", "inputs", "answer", "reason"),
    [
        ("classify", ["a"], "complaint", "not_a_label"),
        ("impute", ["1", "2"], "IT", "not_a_label"),
        ("clean", ["DE", "1"], " 12", "not_as_decoded"),
        ("extract", ["a"], {"items": ['say "x"']}, "not_as_decoded"),
        ("extract", ["a"], {"items": list("abcdefghi") * 2}, "not_as_decoded"),
        ("extract", ["a"], {"items": ["x" * 200]}, "not_as_decoded"),
        ("answer", ["a"], "two\nlines", "not_as_decoded"),
        ("answer", ["a"], "", "not_as_decoded"),
        ("answer", ["a"], "x" * 200, "answer_too_long"),
        ("clean", ["DE", "9 x" * 1000], "12", "over_long"),
    ],
)
def test_what_no_decode_gives_is_not_taught(tokens: Tokens, name: str, inputs: Any, answer: Any, reason: str) -> None:
    teacher = Teacher(tokens, ModelCard(prompt="completion"), form="tulu", longest=600)
    with pytest.raises(Unteachable) as caught:
        teacher.examples(row_of(task_of(name), inputs, answer))
    assert caught.value.reason == reason


def test_a_question_in_windows_is_not_taught_and_a_cut_one_is(tokens: Tokens) -> None:
    teacher = Teacher(tokens, ModelCard(prompt="completion"), form="tulu", longest=300)
    long = ["word " * 500]
    with pytest.raises(Unteachable, match="windowed"):
        teacher.examples(row_of(task_of("classify", long_input="window"), long, "refund"))
    (found,) = teacher.examples(row_of(task_of("classify"), long, "refund"))
    assert len(found.ids) <= 300
    assert tokens.decode(found.ids).endswith("\nLabel: refund<|end|>")


@pytest.mark.parametrize(
    ("name", "truth", "answer"),
    [
        ("classify", "refund", "refund"),
        ("classify", "other", None),
        ("classify", None, None),
        ("multilabel", '["refund, late", "refund"]', ["refund", "refund, late"]),
        (
            "extract",
            '{"day": "2024-05-03", "more": 1}',
            {"order_id": None, "day": "2024-05-03", "count": None, "items": None, "size": None},
        ),
        ("clean", " 12", " 12"),
        ("impute", "DE", "DE"),
        ("match", "true", True),
        ("answer", "Ann", "Ann"),
        ("answer", None, "unknown"),
    ],
)
def test_truth_columns_are_read_as_answers(name: str, truth: str | None, answer: Any) -> None:
    assert answer_of(task_of(name), truth) == dumps(answer)


@pytest.mark.parametrize(
    ("name", "truth", "reason"),
    [
        ("clean", None, "no_truth"),
        ("match", None, "no_truth"),
        ("match", "1", "wrong_truth"),
        ("multilabel", "refund", "wrong_truth"),
        ("multilabel", '["complaint"]', "wrong_truth"),
        ("extract", "[]", "wrong_truth"),
        ("extract", '{"day": "3 May"}', "wrong_truth"),
    ],
)
def test_what_is_no_truth_of_its_task_is_left_out(name: str, truth: str | None, reason: str) -> None:
    with pytest.raises(Unteachable) as caught:
        answer_of(task_of(name), truth)
    assert caught.value.reason == reason


def varied(asking: Asking, seed: int, *, ways: int = 12) -> Asking:
    """Ask in one of some ways that this seed draws."""
    rng = Random(seed)
    drawn = ways_of(asking.task, ways, rng)
    place = choose(asking, drawn, rng)
    return asking if place < 0 else asked_in(asking, drawn[place])


@pytest.mark.parametrize("name", DECLARED)
@given(seed=st.integers(0, 2**32))
def test_varied_rows_teach_what_can_be_asked_and_answered(tokens: Tokens, name: str, seed: int) -> None:
    task = task_of(name)
    inputs, answer = next((inputs, answer) for case, inputs, answer in CASES if case == name)
    found = varied(Asking(task, tuple(inputs), answer), seed)
    assert found == varied(Asking(task, tuple(inputs), answer), seed)
    row = row_of(found.task, list(found.inputs), found.answer)
    assert TASKS.validate_json(row.task or "") == found.task.model_copy(update={"accept": None})
    assert Teacher(tokens, ModelCard(prompt="completion"), form="tulu", longest=600).examples(row)


def test_a_varied_label_set_holds_the_truth_or_a_way_to_abstain() -> None:
    labels = {f"label_{number}": f"about {number}" for number in range(20)}
    task = TASKS.validate_python({"task": "classify", "name": "x", "from": ["text"], "labels": labels})
    seen = [varied(Asking(task, ("a",), "label_7"), seed) for seed in range(400)]
    for one in seen:
        words = {label.lower().replace(" ", "_") for label in one.task.labels}  # type: ignore[union-attr,arg-type]
        if one.answer is None:
            assert one.task.abstain  # type: ignore[union-attr]
            assert "label_7" not in words
        else:
            assert one.answer in one.task.labels  # type: ignore[union-attr]
            assert one.answer.lower().replace(" ", "_") == "label_7"
        assert words <= set(labels)
    sizes = {len(one.task.labels) for one in seen}  # type: ignore[union-attr,arg-type]
    assert {2, 20} <= sizes
    assert len(sizes) > 8
    truthless = sum(one.answer is None for one in seen) / len(seen)
    assert 0.04 < truthless < 0.16
    described = sum(any(one.task.labels.values()) for one in seen) / len(seen)  # type: ignore[union-attr]
    assert 0.4 < described < 0.6
    assert len({tuple(one.task.labels).index(one.answer) for one in seen if one.answer}) > 10  # type: ignore[union-attr,arg-type]


def test_a_row_that_no_way_fits_is_asked_as_declared() -> None:
    labels = dict.fromkeys((f"label_{number}" for number in range(40)), "")
    task = TASKS.validate_python({"task": "impute", "name": "x", "from": ["text"], "labels": labels})
    (way,) = ways_of(task, 1, Random(2))
    outside = next(label for label in labels if label not in (way.words or {}))
    assert choose(Asking(task, ("a",), outside), (way,), Random(0)) == -1


def test_varied_attributes_keep_something_that_the_text_states() -> None:
    task = task_of("extract")
    answer = {"order_id": None, "day": None, "count": 2, "items": None, "size": None}
    seen = [varied(Asking(task, (TEXT,), answer), seed, ways=30) for seed in range(100)]
    assert all(one.answer["count"] == 2 for one in seen)
    assert all(list(one.answer) == list(one.task.attributes) for one in seen)  # type: ignore[union-attr]
    assert {len(one.answer) for one in seen} == {1, 2, 3, 4, 5}


def test_a_swapped_match_swaps_its_values() -> None:
    task = task_of("match")
    swapped = next(one for seed in range(20) if (one := varied(Asking(task, ("a", "b", "c"), True), seed)).task != task)
    assert swapped.inputs == ("c", "a", "b")
    assert (swapped.task.left, swapped.task.right) == (("c",), ("a", "b"))  # type: ignore[union-attr]


def test_a_row_is_of_one_kind() -> None:
    good = {"dataset": "d", "id": "d_1", "kind": "task", "task": "{}", "inputs": ["a", None], "answer": "1"}
    assert TrainingRow.model_validate(good).inputs == ("a", None)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    chat = {"dataset": "d", "id": "d_1", "kind": "chat", "messages": messages}
    assert TrainingRow.model_validate(chat).messages
    for bad in (good | {"kind": "chat"}, good | {"answer": None}, good | {"messages": messages}, chat | {"task": "{}"}):
        with pytest.raises(ValidationError, match="a chat row has messages"):
            TrainingRow.model_validate(bad)
    with pytest.raises(ValidationError, match="nothing to learn"):
        TrainingRow.model_validate(chat | {"messages": messages[:1]})


def test_json_of_a_task_reads_back() -> None:
    for name in DECLARED:
        task = task_of(name, accept=0.5)
        assert TASKS.validate_json(task_json(task)) == task.model_copy(update={"accept": None})
        assert "accept" not in json.loads(task_json(task))

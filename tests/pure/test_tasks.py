"""What each task allows, and which columns it reads and writes."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from jobs.chosen import identity
from schemas.fields import LabelTable
from schemas.job import EnrichJob
from schemas.scores import OF_LABEL, OF_LABELS, OF_TEXT
from schemas.tasks import TASK_NAMES, AnyTask, Classify

TASK: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
GOOD: dict[str, dict[str, Any]] = {
    "classify": {"name": "x", "from": ["a", "b"], "labels": ["p", "q"]},
    "multilabel": {"name": "x", "from": ["a"], "labels": {"p": "why p"}},
    "extract": {"name": "x", "from": ["a"], "attributes": {"size": "int", "kind": {"type": "enum", "values": ["k"]}}},
    "clean": {"name": "x", "rules": "digits", "context": ["c"]},
    "impute": {"name": "x", "from": ["a"], "labels": ["p", "q"]},
    "match": {"name": "x", "left": ["a"], "right": ["b"]},
    "answer": {"name": "x", "from": ["a"], "question": "Why?"},
}


def made(task: str, **changes: Any) -> AnyTask:
    return TASK.validate_python({"task": task, **GOOD[task], **changes})


def refused(task: str, **changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        made(task, **changes)
    return str(caught.value)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_task_reads_and_writes_what_it_says(task: str) -> None:
    read = {"clean": ("c", "x"), "match": ("a", "b"), "classify": ("a", "b")}
    assert made(task).inputs == read.get(task, ("a",))
    more = {"multilabel": ("x_scores",), "extract": ("x_scores",), "match": ("x_score",)}
    assert made(task).written == ("x", "x_confidence", "x_error", "x_meta", *more.get(task, ()))
    assert made(task).in_place == (task in ("clean", "impute"))


@pytest.mark.parametrize("task", TASK_NAMES)
def test_a_task_survives_its_own_printed_form(task: str) -> None:
    assert TASK.validate_json(made(task).model_dump_json(by_alias=True), strict=False) == made(task)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_unknown_keys_and_wrong_names_are_refused(task: str) -> None:
    assert "Extra inputs" in refused(task, frm=["a"])
    assert "at most 200" in refused(task, name="x" * 201)


@pytest.mark.parametrize("task", [task for task in TASK_NAMES if task not in ("clean", "impute")])
def test_a_new_column_has_a_plain_name(task: str) -> None:
    assert "should match pattern" in refused(task, name="two words")


@pytest.mark.parametrize("task", ["clean", "impute"])
def test_a_column_that_exists_may_have_any_name(task: str) -> None:
    assert made(task, name="two words").name == "two words"


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([], "needs at least 2"),
        (["a"], "needs at least 2"),
        (["a", "a"], "stands more than once"),
        (["a", " A"], "differ only by case"),
        (["a", " "], "empty or blank"),
        (["a", 1], "valid string"),
        ("a", "takes a list of labels"),
        ({"from_table": "t"}, "Field required"),
    ],
)
def test_labels_are_two_different_words_at_least(labels: Any, says: str) -> None:
    for task in ("classify", "impute"):
        assert says in refused(task, labels=labels)
    if labels:
        assert says in refused("answer", options=labels) or isinstance(labels, dict)


def test_labels_keep_their_order_and_may_come_from_a_table() -> None:
    labels = ["zebra", "ant", "cow"]
    task = made("classify", labels=labels)
    assert isinstance(task, Classify)
    assert list(task.labels) == labels
    from_table = made("classify", labels={"from_table": "t", "column": "c"})
    assert isinstance(from_table, Classify)
    assert from_table.labels == LabelTable(from_table="t", column="c")


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        ({"type": "enum"}, "`values` goes with"),
        ({"type": "string", "values": ["a"]}, "`values` goes with"),
        ({"type": "int", "pattern": "a"}, "`pattern` goes with"),
        ({"pattern": "("}, "not a regular expression"),
        ("number", "Input should be 'string'"),
    ],
)
def test_attributes_are_consistent(attribute: Any, says: str) -> None:
    assert says in refused("extract", attributes={"a": attribute})


def test_extract_wants_an_attribute() -> None:
    assert "at least 1" in refused("extract", attributes={})


def test_a_column_is_not_its_own_context() -> None:
    assert "must not repeat" in refused("clean", context=["c", "x"])
    assert "must not hold the column to fill" in refused("impute", **{"from": ["x"]})


@pytest.mark.parametrize("accept", [True, "0.8", -0.1, 1.1, float("nan")])
def test_accept_is_a_number_between_zero_and_one(accept: Any) -> None:
    assert "accept" in refused("match", accept=accept)


def test_accept_may_be_a_whole_number() -> None:
    assert made("match", accept=1).accept == 1.0


@pytest.mark.parametrize(
    ("task", "output", "fits"),
    [
        ("classify", "p", True),
        ("classify", None, True),
        ("classify", "r", False),
        ("classify", True, False),
        ("multilabel", ["p"], True),
        ("multilabel", [], True),
        ("multilabel", "p", False),
        ("extract", {"size": 3, "kind": None}, True),
        ("extract", {"sise": 3}, False),
        ("clean", "any", True),
        ("impute", "r", False),
        ("match", True, True),
        ("match", "yes", False),
        ("answer", "any", True),
        ("answer", False, False),
    ],
)
def test_examples_answer_in_the_form_of_the_task(task: str, output: Any, fits: bool) -> None:
    examples = [{"input": "text", "output": output}]
    if fits:
        assert made(task, examples=examples).examples[0].input == "text"
    else:
        assert "Value error" in refused(task, examples=examples)


def test_a_label_may_be_called_from_table_and_a_misspelt_table_is_no_label_set():
    for labels in ({"from_table": "", "column": ""}, {"from_table": "a", "b": "", "c": ""}):
        found = made("classify", labels=labels)
        assert isinstance(found, Classify)
        assert found.labels == labels
    assert "column" in refused("classify", labels={"from_table": "shop.topics", "colum": "name"})


@pytest.mark.parametrize(
    ("task", "changes", "scores"),
    [
        ("classify", {}, OF_LABEL),
        ("classify", {"think": True}, OF_TEXT),
        ("multilabel", {}, OF_LABELS),
        ("extract", {}, OF_TEXT),
        ("clean", {}, OF_TEXT),
        ("impute", {}, OF_LABEL),
        ("impute", {"labels": None}, OF_TEXT),
        ("match", {}, OF_LABEL),
        ("answer", {}, OF_TEXT),
        ("answer", {"options": ["yes", "no"]}, OF_LABEL),
    ],
)
def test_a_column_chooses_among_the_scores_that_its_answers_have(task: str, changes: Any, scores: Any) -> None:
    for name in scores:
        found = made(task, score=name, **changes)
        assert found.chosen_score == (None if name == scores[0] else name)
        assert identity("f", found) == ("f" if name == scores[0] else f"f {name}")
    stranger = "label_mass" if scores == OF_TEXT else "minimum"
    assert f"their scores are {', '.join(scores)}" in refused(task, score=stranger, **changes)
    assert "Input should be" in refused(task, score="best", **changes)


def test_an_endpoint_shows_no_mass_to_choose_by() -> None:
    job = {
        "source": {"table": "t"}, "key": ["id"], "model": {"endpoint": "http://localhost:1/v1", "model": "m"},
        "columns": [{"task": "classify", **GOOD["classify"], "score": "probability"}],
    }  # fmt: skip
    with pytest.raises(ValidationError, match="'probability' needs"):
        EnrichJob.model_validate(job)
    assert EnrichJob.model_validate(job | {"model": "smollm2"}).columns[0].score == "probability"

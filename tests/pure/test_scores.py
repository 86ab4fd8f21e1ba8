"""Scores against figures worked out by hand."""

import pytest
from pydantic import TypeAdapter

from jobs.baselines import baseline
from jobs.scores import Cell, is_right, normalised, score
from schemas.tasks import AnyTask

TASKS: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
CLASSIFY = TASKS.validate_python({"task": "classify", "name": "x", "from": ["t"], "labels": ["a", "b"]})
EXTRACT = TASKS.validate_python(
    {"task": "extract", "name": "x", "from": ["t"], "attributes": {"city": "string", "tags": {"type": "list"}}}
)
MATCH = TASKS.validate_python({"task": "match", "name": "x", "left": ["l"], "right": ["r"]})
CLEAN = TASKS.validate_python({"task": "clean", "name": "x", "rules": "r"})
ANSWER = TASKS.validate_python({"task": "answer", "name": "x", "from": ["t"], "question": "q?"})


def scored(task: AnyTask, *cells: Cell):
    return score(task, cells, resamples=200, seed=1)


def test_accuracy_is_of_answered_rows_and_quality_of_all() -> None:
    found = scored(CLASSIFY, Cell("a", "a", True, 0.9), Cell("b", "a", True, 0.6), Cell("b", "b", True, 0.7), Cell("a"))
    assert found.measure == "accuracy"
    assert found.quality == pytest.approx(2 / 4)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.completion == pytest.approx(3 / 4)
    assert found.auroc == 1.0
    assert found.coverage["50%"] == 1.0
    assert found.low <= found.quality <= found.high


def test_confidences_that_say_nothing_have_no_auroc() -> None:
    assert scored(CLASSIFY, Cell("a", "a", True, 0.9), Cell("b", "b", True, 0.8)).auroc is None


def test_fields_are_counted_one_by_one_and_lists_by_entry() -> None:
    truth = {"city": "Rome", "tags": ["x", "y"]}
    found = scored(EXTRACT, Cell(truth, {"city": " rome", "tags": ["y", "z"]}, True), Cell(truth))
    # right: city, y; stated: city, y, z; true: 3 + 3
    assert found.more == pytest.approx({"precision": 2 / 3, "recall": 2 / 6})
    assert found.quality == pytest.approx(2 * 2 / (3 + 6))
    assert not is_right(EXTRACT, Cell(truth, {"city": "Rome", "tags": ["y", "z"]}, True))
    assert is_right(EXTRACT, Cell(truth, {"city": "Rome", "tags": ["y", "x"]}, True))


def test_pairs_count_what_is_said_to_match() -> None:
    found = scored(
        MATCH, Cell(True, True, True), Cell(True, False, True), Cell(False, True, True), Cell(False, False, True)
    )
    assert found.more == {"precision": 0.5, "recall": 0.5}
    assert found.quality == 0.5
    assert found.accuracy == 0.5


def test_a_repair_must_change_a_wrong_cell_into_the_right_one() -> None:
    found = scored(
        CLEAN,
        Cell("1", "1", True, before="one"),  # repaired
        Cell("2", "3", True, before="two"),  # changed, wrongly
        Cell("4", "4", True, before="4"),  # left as it was, rightly
        Cell("5", "five", True, before="five"),  # left as it was, wrongly
    )
    assert found.more == pytest.approx({"precision": 1 / 2, "recall": 1 / 3})
    assert found.quality == pytest.approx(2 / (2 + 3))


def test_free_answers_compare_by_words() -> None:
    assert normalised("The  Big, Dog!") == "big dog"
    found = scored(ANSWER, Cell("the big dog", "big dogs", True), Cell("a cat", "Cat.", True))
    assert found.quality == pytest.approx((0.5 + 1.0) / 2)
    assert found.more["exact match"] == 0.5


def test_baselines_answer_from_labelled_rows() -> None:
    known = [([f"red apple {n}"], "a") for n in range(6)] + [([f"blue sky {n}"], "b") for n in range(4)]
    asked = [["an apple"], ["the blue sky"]]
    majority = baseline("majority", CLASSIFY, known, asked)
    assert majority is not None
    assert [(cell.value, cell.confidence) for cell in majority] == [("a", 0.6), ("a", 0.6)]
    linear = baseline("linear", CLASSIFY, known, asked)
    assert linear is not None
    assert [cell.value for cell in linear] == ["a", "b"]
    assert baseline("linear", CLEAN, known, asked) is None
    assert baseline("majority", CLASSIFY, [], asked) is None

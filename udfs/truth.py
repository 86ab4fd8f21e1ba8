"""What a truth column says, as the canonical JSON that an answer to the same question would be."""

import json
from collections.abc import Callable
from typing import Any

from schemas.tasks import Answer, AnyTask, Classify, Extract
from udfs.masked import Unteachable
from udfs.parse import InvalidOutput, dumps, normalised


def answer_of(task: AnyTask, truth: str | None) -> str:
    """Return the answer that a truth column's text stands for.

    Args:
        task: with its labels resolved.
        truth: the value as text: nested ones as JSON, booleans as true and false.

    Raises:
        Unteachable: there is no truth (`no_truth`), or none of this task's form (`wrong_truth`).
    """
    readers: dict[str, Callable[[Any, str], Any]] = {
        "multilabel": _labels,
        "extract": _fields,
        "match": _yes_or_no,
    }
    if truth is None:
        return dumps(_unstated(task))
    if isinstance(task, Classify):
        return dumps(None if truth == task.abstain else truth)
    return dumps(readers.get(task.task, _text)(task, truth))


def may_be_null(task: AnyTask) -> bool:
    """Whether a null truth means something: none of the labels, no answer in the text."""
    return (isinstance(task, Classify) and task.abstain is not None) or (
        isinstance(task, Answer) and task.not_answerable is not None
    )


def _unstated(task: AnyTask) -> str | None:
    if not may_be_null(task):
        raise Unteachable("no_truth")
    return task.not_answerable if isinstance(task, Answer) else None


def _text(task: AnyTask, truth: str) -> str:
    return truth


def _yes_or_no(task: AnyTask, truth: str) -> bool:
    if truth not in ("true", "false"):
        raise Unteachable("wrong_truth")
    return truth == "true"


def _labels(task: Any, truth: str) -> list[str]:
    found = _parsed(truth)
    if not isinstance(found, list) or not set(map(str, found)) <= set(task.labels):
        raise Unteachable("wrong_truth")
    return [label for label in task.labels if label in found]


def _fields(task: Extract, truth: str) -> dict[str, Any]:
    """The attributes asked for; one that the truth lacks is null, others that it has are not asked."""
    found = _parsed(truth)
    if not isinstance(found, dict):
        raise Unteachable("wrong_truth")
    try:
        return {name: normalised(found.get(name), attribute) for name, attribute in task.attributes.items()}
    except InvalidOutput as problem:
        raise Unteachable("wrong_truth") from problem


def _parsed(truth: str) -> Any:
    try:
        return json.loads(truth)
    except ValueError as problem:
        raise Unteachable("wrong_truth") from problem

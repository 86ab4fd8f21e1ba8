"""The same question asked in other ways, so that a model learns the task and not one job file.

Every choice comes from the `Random` handed in: the same seed asks in the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from schemas.tasks import Answer, AnyTask, Classify, Extract, Impute, Match, Multilabel

# shares of rows: with every label or attribute; without descriptions; with the truth left out; with a way to abstain
WHOLE, BARE, TRUTHLESS, ABSTAINING = 0.25, 0.5, 0.1, 0.3
NONE_OF_THESE = ("none of these", "none", "other", "something else", "unclear", "not listed")
WORDINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda label: label.replace("_", " ").replace("-", " "),
    lambda label: label.replace("_", " ").replace("-", " ").capitalize(),
    lambda label: label.replace(" ", "_").replace("-", "_").lower(),
)


@dataclass(frozen=True)
class Asking:
    """A task, its inputs and the answer wanted, as a value that JSON knows."""

    task: AnyTask
    inputs: tuple[str | None, ...]
    answer: Any


def varied(asking: Asking, rng: Random) -> Asking:
    """Ask in another way: other labels beside the true one, other order, other words, fewer descriptions."""
    ways: dict[str, Callable[[Any, Asking, Random], Asking]] = {
        "classify": _classify,
        "multilabel": _multilabel,
        "extract": _extract,
        "impute": _impute,
        "match": _match,
        "answer": _answer,
    }
    # the rules of a cell to be cleaned are the job's own, and have no other wording here
    way = ways.get(asking.task.task)
    return asking if way is None else way(asking.task, asking, rng)


def some(names: Sequence[str], rng: Random, *, least: int) -> list[str]:
    """Return a random subset in random order: all of them, or any size, small ones as likely as large ones."""
    size = len(names)
    if size > least and rng.random() >= WHOLE:
        size = round(least * (size / least) ** rng.random())
    return rng.sample(list(names), size)


def _with_truth(names: Sequence[str], truth: str, rng: Random) -> list[str]:
    """Return a random subset that holds the truth at a random place."""
    chosen = some(names, rng, least=2)
    if truth not in chosen:
        chosen[rng.randrange(len(chosen))] = truth
    return chosen


def _described(names: Sequence[str], labels: dict[str, str], rng: Random) -> dict[str, str]:
    is_bare = rng.random() < BARE
    return {name: "" if is_bare else labels[name] for name in names}


def _worded(names: Sequence[str], abstain: str, rng: Random) -> dict[str, str]:
    """Return a wording of each label; its own where two would read alike."""
    wording = rng.choice(WORDINGS)
    words = {name: wording(name) for name in names}
    folded = {word.strip().casefold() for word in (*words.values(), abstain)}
    is_clear = len(folded) == len(words) + 1 and "" not in folded
    return words if is_clear else {name: name for name in names}


def _classify(task: Classify, asking: Asking, rng: Random) -> Asking:
    labels, truth = _mapping(task.labels), asking.answer
    if truth is not None and truth not in labels:
        return asking
    others = [label for label in labels if label != truth]
    known = {label.casefold() for label in labels}
    abstain = task.abstain or rng.choice([word for word in NONE_OF_THESE if word not in known])
    if truth is None or (len(others) >= 2 and rng.random() < TRUTHLESS):
        chosen, answer = some(others, rng, least=2), None
    else:
        chosen, answer = _with_truth(list(labels), truth, rng), truth
    words = _worded(chosen, abstain, rng)
    changed = {
        "labels": {words[label]: text for label, text in _described(chosen, labels, rng).items()},
        "abstain": abstain if answer is None or rng.random() < ABSTAINING else None,
        "examples": (),
    }
    return Asking(task.model_copy(update=changed), asking.inputs, None if answer is None else words[answer])


def _multilabel(task: Multilabel, asking: Asking, rng: Random) -> Asking:
    labels = _mapping(task.labels)
    chosen = some(list(labels), rng, least=1)
    changed = {"labels": _described(chosen, labels, rng), "examples": ()}
    return Asking(task.model_copy(update=changed), asking.inputs, [one for one in chosen if one in asking.answer])


def _extract(task: Extract, asking: Asking, rng: Random) -> Asking:
    stated = [name for name in task.attributes if asking.answer.get(name) is not None]
    chosen = some(list(task.attributes), rng, least=1)
    if stated and not set(chosen) & set(stated):
        # a subset of what the text does not state would teach nulls alone
        chosen[0] = rng.choice(stated)
    bare = {"description": ""} if rng.random() < BARE else {}
    attributes = {name: task.attributes[name].model_copy(update=bare) for name in chosen}
    changed = {"attributes": attributes, "examples": ()}
    return Asking(task.model_copy(update=changed), asking.inputs, {name: asking.answer.get(name) for name in chosen})


def _impute(task: Impute, asking: Asking, rng: Random) -> Asking:
    labels = _mapping(task.labels)
    if asking.answer not in labels:
        return asking
    chosen = _with_truth(list(labels), asking.answer, rng)
    changed = {"labels": _described(chosen, labels, rng), "examples": ()}
    return Asking(task.model_copy(update=changed), asking.inputs, asking.answer)


def _match(task: Match, asking: Asking, rng: Random) -> Asking:
    if rng.random() < 0.5:
        return asking
    cut = len(task.left)
    swapped = task.model_copy(update={"left": task.right, "right": task.left})
    return Asking(swapped, (*asking.inputs[cut:], *asking.inputs[:cut]), asking.answer)


def _answer(task: Answer, asking: Asking, rng: Random) -> Asking:
    options, answer = _mapping(task.options), asking.answer
    if not options or (answer not in options and answer != task.not_answerable):
        return asking
    chosen = _with_truth(list(options), answer, rng) if answer in options else some(list(options), rng, least=2)
    changed = {"options": _described(chosen, options, rng), "examples": ()}
    return Asking(task.model_copy(update=changed), asking.inputs, answer)


def _mapping(labels: Any) -> dict[str, str]:
    return dict(labels) if isinstance(labels, dict) else {}

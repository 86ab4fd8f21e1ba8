"""The same question asked in other ways, so that a model learns the task and not one job file.

Every choice comes from the `Random` handed in: the same seed asks in the same way. Ways are drawn for a whole task, and
every row takes one that fits it: rows that are asked in one way share their prompt's beginning, which training
computes once for all of them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from schemas.tasks import Answer, AnyTask, Classify, Extract, Impute, Match, Multilabel

# shares of ways: with every label or attribute; without descriptions; with a word for none of them
WHOLE, BARE, ABSTAINING = 0.25, 0.5, 0.4
# share of rows that are asked in a way without their truth, where the answer is that word
TRUTHLESS = 0.1
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


@dataclass(frozen=True)
class Way:
    """One way to ask a task.

    Attributes:
        words: the labels, options or attributes that it offers, each as it words them; None where a task has none.
        is_swapped: whether a match shows record B first.
    """

    task: AnyTask
    words: dict[str, str] | None = None
    is_swapped: bool = False


def ways_of(task: AnyTask, count: int, rng: Random) -> tuple[Way, ...]:
    """Draw ways to ask a task: other subsets, orders and wordings of labels, fewer descriptions, a word for none."""
    drawers: dict[str, Callable[[Any, Random], Way]] = {
        "classify": _classify,
        "multilabel": _multilabel,
        "extract": _extract,
        "impute": _impute,
        "match": _match,
        "answer": _answer,
    }
    # the rules of a cell to be cleaned are the job's own, and have no other wording here
    draw = drawers.get(task.task)
    return (Way(task),) if draw is None else tuple(draw(task, rng) for _ in range(count))


def choose(asking: Asking, ways: Sequence[Way], rng: Random) -> int:
    """Return the place of a way that fits a question; -1 where none does, and it is asked as declared."""
    fitting = [place for place, way in enumerate(ways) if _fits(way, asking)]
    without = [place for place in fitting if not _offers(ways[place], asking.answer)]
    if without and (len(without) == len(fitting) or rng.random() < TRUTHLESS):
        return rng.choice(without)
    offering = sorted(set(fitting).difference(without))
    return rng.choice(offering) if offering else -1


def share_of(way: Way, ways: Sequence[Way]) -> float:
    """Which share of the rows will about take this way: a larger set of choices holds more rows' truths."""
    sizes = [len(one.words) if one.words is not None and _has_choices(one.task) else 1 for one in (way, *ways)]
    return sizes[0] / sum(sizes[1:])


def asked_in(asking: Asking, way: Way) -> Asking:
    """Ask a question in a way that fits it."""
    inputs, answer, words = asking.inputs, asking.answer, way.words
    if isinstance(asking.task, Match) and way.is_swapped:
        cut = len(asking.task.left)
        inputs = (*inputs[cut:], *inputs[:cut])
    elif isinstance(asking.task, Multilabel) and words is not None:
        answer = [name for name in words if name in answer]
    elif isinstance(asking.task, Extract) and words is not None:
        answer = {name: answer.get(name) for name in words}
    elif isinstance(asking.task, Classify) and words is not None:
        answer = None if answer is None else words.get(answer)
    return Asking(way.task, inputs, answer)


def _fits(way: Way, asking: Asking) -> bool:
    """Whether a way has an answer for a question; attributes of which the text states none would teach nulls alone."""
    if way.words is None:
        return True
    if isinstance(way.task, Extract):
        stated = {name for name, value in asking.answer.items() if value is not None}
        return not stated or not stated.isdisjoint(way.words)
    if isinstance(way.task, Multilabel) or _offers(way, asking.answer):
        return True
    if isinstance(way.task, Answer):
        return asking.answer is not None and asking.answer == way.task.not_answerable
    return isinstance(way.task, Classify) and way.task.abstain is not None


def _offers(way: Way, answer: Any) -> bool:
    """Whether the truth itself may be answered; what is no choice always may."""
    return not _has_choices(way.task) or way.words is None or answer in way.words


def _has_choices(task: AnyTask) -> bool:
    return isinstance(task, Classify | Impute | Answer)


def some(names: Sequence[str], rng: Random, *, least: int) -> list[str]:
    """Return a random subset in random order: all of them, or any size, small ones as likely as large ones."""
    size = len(names)
    if size > least and rng.random() >= WHOLE:
        size = round(least * (size / least) ** rng.random())
    return rng.sample(list(names), size)


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


def _same(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _classify(task: Classify, rng: Random) -> Way:
    labels = _mapping(task.labels)
    chosen = some(list(labels), rng, least=2)
    known = {label.casefold() for label in labels}
    abstain = task.abstain or rng.choice([word for word in NONE_OF_THESE if word not in known])
    words = _worded(chosen, abstain, rng)
    changed = {
        "labels": {words[label]: text for label, text in _described(chosen, labels, rng).items()},
        "abstain": abstain if rng.random() < ABSTAINING else None,
        "examples": (),
        "preselect": None,
    }
    return Way(task.model_copy(update=changed), words)


def _multilabel(task: Multilabel, rng: Random) -> Way:
    labels = _mapping(task.labels)
    chosen = some(list(labels), rng, least=1)
    changed = {"labels": _described(chosen, labels, rng), "examples": ()}
    return Way(task.model_copy(update=changed), _same(chosen))


def _extract(task: Extract, rng: Random) -> Way:
    chosen = some(list(task.attributes), rng, least=1)
    bare = {"description": ""} if rng.random() < BARE else {}
    attributes = {name: task.attributes[name].model_copy(update=bare) for name in chosen}
    return Way(task.model_copy(update={"attributes": attributes, "examples": ()}), _same(chosen))


def _impute(task: Impute, rng: Random) -> Way:
    labels = _mapping(task.labels)
    if not labels:
        return Way(task)
    chosen = some(list(labels), rng, least=2)
    return Way(task.model_copy(update={"labels": _described(chosen, labels, rng), "examples": ()}), _same(chosen))


def _match(task: Match, rng: Random) -> Way:
    if rng.random() < 0.5:
        return Way(task)
    return Way(task.model_copy(update={"left": task.right, "right": task.left}), is_swapped=True)


def _answer(task: Answer, rng: Random) -> Way:
    options = _mapping(task.options)
    if not options:
        return Way(task)
    chosen = some(list(options), rng, least=2)
    return Way(task.model_copy(update={"options": _described(chosen, options, rng), "examples": ()}), _same(chosen))


def _mapping(labels: Any) -> dict[str, str]:
    return dict(labels) if isinstance(labels, dict) else {}

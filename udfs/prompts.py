"""What a task says to the model, as text: constant parts first, then the inputs, last the cue that is answered."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from schemas.fields import Labels
from schemas.tasks import Answer, AnyTask, Classify, Clean, Extract, Impute, Match, Multilabel

Form = Literal["chat", "completion"]

YES, NO = "yes", "no"


@dataclass(frozen=True)
class Sheet:
    """The texts of one task: `head` and `examples` never change, `names` call the inputs, `cues` ask.

    A cue is what stands after the inputs; its last line ends where the answer begins. Several cues are several
    reads of one question.
    """

    head: str
    examples: tuple[str, ...]
    names: tuple[str, ...]
    cues: tuple[str, ...]


def sheet_of(task: AnyTask, *, codes: tuple[str, ...] = ()) -> Sheet:
    """Write a task's prompt; `codes` are the letters of a menu read, one per label.

    Raises:
        KeyError: the class of task is unknown.
    """
    writers: dict[str, Callable[[Any, tuple[str, ...]], Sheet]] = {
        "classify": _classify,
        "multilabel": _multilabel,
        "extract": _extract,
        "clean": _clean,
        "impute": _impute,
        "match": _match,
        "answer": _answer,
    }
    return writers[task.task](task, codes)


def closed_labels(task: AnyTask) -> tuple[str, ...]:
    """The texts that a closed read may answer, in order; empty when the answer is free."""
    if isinstance(task, Classify):
        return _with(_names(task.labels), task.abstain)
    if isinstance(task, Impute):
        return _names(task.labels)
    if isinstance(task, Answer) and task.options:
        return _with(tuple(task.options), task.not_answerable)
    if isinstance(task, Match):
        return (YES, NO)
    return ()


def _with(names: tuple[str, ...], last: str | None) -> tuple[str, ...]:
    # one of the labels may itself be the word for none of them
    return (*names, last) if last and last not in names else names


def shown(value: object) -> str:
    """An example's output as the prompt shows it."""
    if isinstance(value, bool):
        return YES if value else NO
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _names(labels: Labels | None) -> tuple[str, ...]:
    return tuple(labels) if isinstance(labels, dict) else ()


def _classify(task: Classify, codes: tuple[str, ...]) -> Sheet:
    labels = dict(task.labels) if isinstance(task.labels, dict) else {}
    if task.abstain:
        labels.setdefault(task.abstain, "none of the others fits")
    head = _head("Choose the label that fits the text.", task.instructions, _menu("Labels", labels, codes))
    return Sheet(head, _examples(task, "Label", tuple(labels), codes), _called(task.from_), ("Label:",))


def _multilabel(task: Multilabel, codes: tuple[str, ...]) -> Sheet:
    labels = dict(task.labels) if isinstance(task.labels, dict) else {}
    head = _head("Say of each label whether it fits the text.", task.instructions, _menu("Labels", labels, codes))
    examples = []
    for example in task.examples:
        chosen = set(example.output) if isinstance(example.output, tuple) else {example.output}
        asked = (f"{_does_it_fit(label)} {YES if label in chosen else NO}" for label in labels)
        examples.append("\n".join((f"Text: {example.input}", *asked)))
    return Sheet(head, tuple(examples), _called(task.from_), tuple(map(_does_it_fit, labels)))


def _does_it_fit(label: str) -> str:
    return f"Does the label {label} fit?"


def _extract(task: Extract, codes: tuple[str, ...]) -> Sheet:
    kinds = {
        name: attribute.type if attribute.type != "list" else f"list of {attribute.of}"
        for name, attribute in task.attributes.items()
    }
    lines = []
    for name, attribute in task.attributes.items():
        kind = "one of " + ", ".join(attribute.values) if attribute.values else kinds[name]
        kind = "date, YYYY-MM-DD" if kind == "date" else kind
        lines.append(f"- {name} ({kind})" + (f": {attribute.description}" if attribute.description else ""))
    ask = "Copy these fields from the text into JSON. A field that the text does not state is null."
    head = _head(ask, task.instructions, "Fields:\n" + "\n".join(lines))
    return Sheet(head, _examples(task, "JSON", (), ()), _called(task.from_), ("JSON:",))


def _clean(task: Clean, codes: tuple[str, ...]) -> Sheet:
    rules = f"Correct the value of {task.name}. Keep a value that is right as it is.\nRules: {task.rules}"
    examples = tuple(
        f"{task.name}: {example.input}\nCorrected {task.name}: {shown(example.output)}" for example in task.examples
    )
    return Sheet(_head(rules, task.instructions), examples, task.inputs, (f"Corrected {task.name}:",))


def _impute(task: Impute, codes: tuple[str, ...]) -> Sheet:
    labels = task.labels if isinstance(task.labels, dict) else {}
    menu = _menu("Possible values", labels, codes) if labels else ""
    head = _head(f"Fill in {task.name} from what is known of the row.", task.instructions, menu)
    return Sheet(head, _examples(task, task.name, tuple(labels), codes), task.from_, (f"{task.name}:",))


def _match(task: Match, codes: tuple[str, ...]) -> Sheet:
    head = _head("Say whether record A and record B are the same thing.", task.instructions)
    names = (*(f"A {name}" for name in task.left), *(f"B {name}" for name in task.right))
    examples = tuple(f"{example.input}\nSame: {shown(example.output)}" for example in task.examples)
    return Sheet(head, examples, names, ("Same:",))


def _answer(task: Answer, codes: tuple[str, ...]) -> Sheet:
    options = dict(task.options or {})
    ask = "Answer the question about the text."
    if options:
        if task.not_answerable:
            options.setdefault(task.not_answerable, "the text does not say")
    elif task.not_answerable:
        ask += f" If the text does not say, answer: {task.not_answerable}"
    menu = _menu("Possible answers", options, codes) if options else ""
    head = _head(ask, task.instructions, menu)
    question = f"Question: {task.question}\n"
    examples = tuple(
        f"Text: {example.input}\n{question}Answer: {_coded(shown(example.output), tuple(options), codes)}"
        for example in task.examples
    )
    return Sheet(head, examples, _called(task.from_), (f"{question}Answer:",))


def _called(columns: tuple[str, ...]) -> tuple[str, ...]:
    # a lone column's name says less than "Text" does, and the examples use that word too
    return ("Text",) if len(columns) == 1 else columns


def _head(ask: str, instructions: str, *more: str) -> str:
    return "\n\n".join(part for part in (f"{ask}\n{instructions}".strip(), *more) if part)


def _menu(title: str, labels: dict[str, str], codes: tuple[str, ...]) -> str:
    marks = [f"{code})" for code in codes] or ["-"] * len(labels)
    lines = (
        f"{mark} {label}" + (f": {text}" if text else "")
        for mark, (label, text) in zip(marks, labels.items(), strict=True)
    )
    return f"{title}:\n" + "\n".join(lines)


def _examples(
    task: Classify | Extract | Impute, cue: str, labels: tuple[str, ...], codes: tuple[str, ...]
) -> tuple[str, ...]:
    lead = "" if isinstance(task, Impute) or len(task.inputs) > 1 else "Text: "
    return tuple(
        f"{lead}{example.input}\n{cue}: {_coded(_output(task, example.output), labels, codes)}"
        for example in task.examples
    )


def _output(task: Classify | Extract | Impute, value: object) -> str:
    if isinstance(task, Classify) and value is None:
        return task.abstain or ""
    return json.dumps(value, ensure_ascii=False) if isinstance(task, Extract) else shown(value)


def _coded(text: str, labels: tuple[str, ...], codes: tuple[str, ...]) -> str:
    return codes[labels.index(text)] if codes and text in labels else text

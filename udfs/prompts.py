"""What a task says to the model, as text: constant parts first, then the inputs, last the cue that is answered."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from schemas.fields import Example, Labels
from schemas.guards import Guard
from schemas.tasks import Answer, AnyTask, Classify, Clean, Extract, Impute, Match, Multilabel
from udfs.guards import note_of

Form = Literal["chat", "completion"]

YES, NO = "yes", "no"
THINK = (
    "Think before you answer. Write your reasoning between <thinking> and </thinking>; check it there, between "
    "<reflection> and </reflection>, where a step may be wrong. Then write the answer alone between <output> and "
    "</output>, without a word about the reasoning."
)


@dataclass(frozen=True)
class Sheet:
    """The texts of one task: `head` and `examples` never change, `names` call the inputs, `cues` ask.

    A cue is what stands after the inputs; its last line ends where the answer begins. Several cues are several
    reads of one question.

    Attributes:
        instruction: with what the head begins; it says what is to be done.
        guards: what the prompt does against instructions in the inputs.
    """

    head: str
    examples: tuple[str, ...]
    names: tuple[str, ...]
    cues: tuple[str, ...]
    instruction: str = ""
    guards: tuple[Guard, ...] = ()


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
    sheet = writers[task.task](task, codes)
    if task.guards:
        parts = (sheet.head, note_of(task.guards))
        sheet = replace(sheet, head="\n\n".join(part for part in parts if part), guards=task.guards)
    if task.think:
        sheet = replace(sheet, head=f"{sheet.head}\n\n{THINK}", cues=tuple(map(_thinking_cue, sheet.cues)))
    return replace(sheet, examples=tuple(example_text(task, one, codes) for one in task.given_examples))


def _thinking_cue(cue: str) -> str:
    """A cue whose answer is the reasoning and then what it asks for."""
    return f"{cue.removesuffix(':')}, after thinking:"


def example_text(task: AnyTask, example: Example, codes: tuple[str, ...] = ()) -> str:
    """Write one worked example as it stands before the row."""
    writers: dict[str, Callable[[Any, Example, tuple[str, ...]], str]] = {
        "classify": _classify_example,
        "multilabel": _multilabel_example,
        "extract": _extract_example,
        "clean": _clean_example,
        "impute": _impute_example,
        "match": _match_example,
        "answer": _answer_example,
    }
    return writers[task.task](task, example, codes)


def shown_inputs(names: tuple[str, ...], values: Sequence[str | None]) -> str:
    """Return a row's inputs as an example shows them: a lone one as it is, several by the names they are called."""
    if len(names) == 1:
        return values[0] or ""
    return "\n".join(f"{name}: {value or ''}" for name, value in zip(names, values, strict=True))


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
    menus = () if task.preselect == 0 else (_menu("Labels", labels, codes),)
    return _sheet(task, "Choose the label that fits the text.", *menus, names=_called(task.from_), cues=("Label:",))


def _classify_example(task: Classify, example: Example, codes: tuple[str, ...]) -> str:
    return _example(task, "Label", example, closed_labels(task), codes)


def _multilabel(task: Multilabel, codes: tuple[str, ...]) -> Sheet:
    labels = dict(task.labels) if isinstance(task.labels, dict) else {}
    ask, menu = "Say of each label whether it fits the text.", _menu("Labels", labels, codes)
    return _sheet(task, ask, menu, names=_called(task.from_), cues=tuple(map(_does_it_fit, labels)))


def _multilabel_example(task: Multilabel, example: Example, codes: tuple[str, ...]) -> str:
    chosen = set(example.output) if isinstance(example.output, tuple) else {example.output}
    labels = task.labels if isinstance(task.labels, dict) else {}
    asked = (f"{_does_it_fit(label)} {YES if label in chosen else NO}" for label in labels)
    return "\n".join((f"Text: {example.input}", *asked))


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
    return _sheet(task, ask, "Fields:\n" + "\n".join(lines), names=_called(task.from_), cues=("JSON:",))


def _extract_example(task: Extract, example: Example, codes: tuple[str, ...]) -> str:
    return _example(task, "JSON", example, (), ())


def _clean(task: Clean, codes: tuple[str, ...]) -> Sheet:
    rules = f"Correct the value of {task.name}. Keep a value that is right as it is.\nRules: {task.rules}"
    return _sheet(task, rules, names=task.inputs, cues=(f"Corrected {task.name}:",))


def _clean_example(task: Clean, example: Example, codes: tuple[str, ...]) -> str:
    # an example of the cell alone, or of a whole row with its context line by line
    is_whole = bool(task.context) and example.input.startswith(f"{task.context[0]}: ")
    lead = "" if is_whole else f"{task.name}: "
    return f"{lead}{example.input}\nCorrected {task.name}: {shown(example.output)}"


def _impute(task: Impute, codes: tuple[str, ...]) -> Sheet:
    labels = task.labels if isinstance(task.labels, dict) else {}
    menu = _menu("Possible values", labels, codes) if labels else ""
    ask = f"Fill in {task.name} from what is known of the row."
    return _sheet(task, ask, menu, names=task.from_, cues=(f"{task.name}:",))


def _impute_example(task: Impute, example: Example, codes: tuple[str, ...]) -> str:
    return _example(task, task.name, example, closed_labels(task), codes)


def _match(task: Match, codes: tuple[str, ...]) -> Sheet:
    names = (*(f"A {name}" for name in task.left), *(f"B {name}" for name in task.right))
    return _sheet(task, "Say whether record A and record B are the same thing.", names=names, cues=("Same:",))


def _match_example(task: Match, example: Example, codes: tuple[str, ...]) -> str:
    return f"{example.input}\nSame: {shown(example.output)}"


def _answer(task: Answer, codes: tuple[str, ...]) -> Sheet:
    options = dict(task.options or {})
    ask = "Answer the question about the text."
    if options:
        if task.not_answerable:
            options.setdefault(task.not_answerable, "the text does not say")
    elif task.not_answerable:
        ask += f" If the text does not say, answer: {task.not_answerable}"
    menu = _menu("Possible answers", options, codes) if options else ""
    return _sheet(task, ask, menu, names=_called(task.from_), cues=(f"{_question(task)}Answer:",))


def _question(task: Answer) -> str:
    return f"Question: {task.question}\n"


def _answer_example(task: Answer, example: Example, codes: tuple[str, ...]) -> str:
    said = _coded(shown(example.output), closed_labels(task), codes)
    return f"Text: {example.input}\n{_question(task)}Answer: {said}"


def _called(columns: tuple[str, ...]) -> tuple[str, ...]:
    # a lone column's name says less than "Text" does, and the examples use that word too
    return ("Text",) if len(columns) == 1 else columns


def _sheet(task: AnyTask, ask: str, *more: str, names: tuple[str, ...], cues: tuple[str, ...]) -> Sheet:
    told = f"{ask}\n{task.instructions}".strip()
    return Sheet("\n\n".join(part for part in (told, *more) if part), (), names, cues, instruction=told)


def _menu(title: str, labels: dict[str, str], codes: tuple[str, ...]) -> str:
    marks = [f"{code})" for code in codes] or ["-"] * len(labels)
    lines = (
        f"{mark} {label}" + (f": {text}" if text else "")
        for mark, (label, text) in zip(marks, labels.items(), strict=True)
    )
    return f"{title}:\n" + "\n".join(lines)


def _example(
    task: Classify | Extract | Impute, cue: str, example: Example, labels: tuple[str, ...], codes: tuple[str, ...]
) -> str:
    lead = "" if isinstance(task, Impute) or len(task.inputs) > 1 else "Text: "
    return f"{lead}{example.input}\n{cue}: {_coded(_output(task, example.output), labels, codes)}"


def _output(task: Classify | Extract | Impute, value: object) -> str:
    if isinstance(task, Classify) and value is None:
        return task.abstain or ""
    return json.dumps(value, ensure_ascii=False) if isinstance(task, Extract) else shown(value)


def _coded(text: str, labels: tuple[str, ...], codes: tuple[str, ...]) -> str:
    return codes[labels.index(text)] if codes and text in labels else text

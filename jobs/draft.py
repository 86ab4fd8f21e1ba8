"""The text of a first job file: comments say what was checked and what is a placeholder."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.errors import DataContractError, JobFileError
from schemas.fields import NAME_PATTERN, SUFFIXES
from schemas.job import EMBEDDED_MODELS, Place
from schemas.yaml_file import yaml_text

MAX_LABELS: Final = 500
# YAML's reader gives up on a key of more than 1,024 letters.
MAX_KEY_LETTERS: Final = 1000
LEAST_COLUMNS: Final = {"impute": 2, "match": 2}
LABELLED: Final = ("classify", "multilabel", "impute", "answer")


@dataclass(frozen=True)
class Key:
    """Columns that were never null and never repeated together in so many rows."""

    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Draft:
    """What was found out about a table, and what is to be asked of it."""

    place: Place
    version: int
    task: str
    columns: tuple[str, ...]
    name: str
    model: str
    key: Key
    labels_from: str | None = None
    labels: dict[str, int] = field(default_factory=dict)


def output_name(
    task: str, columns: Sequence[str], *, labels_from: str | None, wanted: str | None, taken: Iterable[str]
) -> str:
    """Return the name of the column to write: the one to correct, the one wanted, or a free one.

    Raises:
        JobFileError: too few columns for the task.
        DataContractError: the wanted name, or one of the columns beside it, is there already.
    """
    least = LEAST_COLUMNS.get(task, 1)
    if len(columns) < least:
        raise JobFileError(f"{task} needs at least {least} --column, got {len(columns)}")
    if labels_from is not None and task not in LABELLED:
        raise JobFileError(f"{task} takes no labels; --labels-from goes with {', '.join(LABELLED)}")
    if task in ("clean", "impute"):
        if wanted not in (None, columns[0]):
            raise JobFileError(f"{task} writes its first --column, {columns[0]}, where it stands; leave --name out")
        return columns[0]
    there = {name.casefold() for name in taken}
    if wanted is not None:
        if not re.fullmatch(NAME_PATTERN, wanted):
            raise JobFileError(f"--name takes letters, digits and underscores, got {wanted!r}")
        if _clashes(wanted, there):
            raise DataContractError(f"the table has a column {wanted}, or one beside it, already; take another --name")
        return wanted
    stem = re.sub(r"\W+", "_", f"{labels_from}_suggested" if labels_from else f"{columns[0]}_{task}", flags=re.ASCII)
    stem = stem if re.match(NAME_PATTERN, stem) else f"x_{stem}"
    return next(name for name in (stem, *(f"{stem}_{n}" for n in range(2, 10_000))) if not _clashes(name, there))


def _clashes(name: str, there: set[str]) -> bool:
    return any(f"{name}{suffix}".casefold() in there for suffix in ("", *SUFFIXES, "_score"))


def draft_text(draft: Draft) -> str:
    """Return the commented job file."""
    where = "table" if draft.place.table is not None else "path"
    known = draft.model in EMBEDDED_MODELS
    lines = [
        "# Written by `burnish init`. `burnish validate` checks it, `burnish plan` says what it would cost,",
        "# `burnish preview` shows some answers, `burnish run` writes them.",
        f"source: {{{where}: {yaml_text(draft.place.text)}}}",
        *_key_lines(draft),
        "# target: {table: …}    # without a target the answers go into the source itself, beside its columns",
        f"model: {draft.model}" if known else f"model: {{path: {yaml_text(draft.model)}}}",
        "accept: 0.8             # least confidence; answers below it wait for review",
        "columns:",
        f"  - task: {draft.task}",
        f"    name: {yaml_text(draft.name)}",
        *(f"    {line}" for line in _task_lines(draft)),
    ]
    return "\n".join(lines) + "\n"


def _key_lines(draft: Draft) -> list[str]:
    rows = draft.key.rows
    checked = f"checked: never null and never repeated in {rows:,} rows" if rows else "not checked: the table is empty"
    return [f"# {checked} (version {draft.version})", f"key: {_list(draft.key.columns)}"]


def _task_lines(draft: Draft) -> list[str]:
    first, *others = draft.columns
    half = (len(draft.columns) + 1) // 2
    labels = _label_lines(draft)
    forms: dict[str, list[str]] = {
        "classify": [f"from: {_list(draft.columns)}", *labels],
        "multilabel": [f"from: {_list(draft.columns)}", *labels],
        "extract": [
            f"from: {_list(draft.columns)}",
            "attributes:             # placeholders: name what the text states",
            "  summary: {type: string, description: 'what it is about, in a few words'}",
            "  # bought_on: date      # or string, int, float, bool, {type: enum, values: […]}, {type: list}",
        ],
        "clean": [
            "rules: correct typing errors and leave everything else as it is    # a placeholder: say what is right",
            f"context: {_list(others)}" if others else "# context: [other columns that help]",
        ],
        "impute": [f"from: {_list(others)}", *(labels if draft.labels else [])],
        "match": [
            f"left: {_list(draft.columns[:half])}     # check which columns belong to which record",
            f"right: {_list(draft.columns[half:])}",
        ],
        "answer": [
            f"from: {_list(draft.columns)}",
            f"question: {yaml_text(f'What does {first} ask for?')}    # a placeholder: ask your own",
            *([labels[0], "options:", *labels[2:]] if draft.labels else []),
        ],
    }
    return forms[draft.task]


def _label_lines(draft: Draft) -> list[str]:
    """Return `labels:` below a comment, then one line a label."""
    if not draft.labels:
        return [
            "# placeholders: name your own, each with what it means",
            "labels:",
            "  first: what belongs here",
            "  other: anything else",
        ]
    kept, left_out = _distinct_labels(draft.labels)
    column = yaml_text(draft.labels_from or "")
    note = f"# the values of {column}, most frequent first; say between the quotes what each means"
    as_list = any(len(yaml_text(label)) > MAX_KEY_LETTERS for label in kept)
    lines = [
        f"  - {yaml_text(label)}    # rows: {rows:,}" if as_list else f"  {yaml_text(label)}: ''    # rows: {rows:,}"
        for label, rows in kept.items()
    ]
    return [note, "labels:", *lines, *left_out]


def _distinct_labels(labels: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """Return the labels to keep, and a comment on each left out."""
    kept: dict[str, int] = {}
    folded: dict[str, str] = {}
    comments = []
    for label, rows in labels.items():
        twin = folded.setdefault(label.strip().casefold(), label)
        if twin != label:
            comments.append(f"  # left out: {yaml_text(label)} (rows: {rows:,}), too close to {yaml_text(twin)}")
        elif len(kept) == MAX_LABELS:
            comments.append(f"  # left out: every value after the {MAX_LABELS} most frequent")
            break
        else:
            kept[label] = rows
    return kept, comments


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(yaml_text(name) for name in names) + "]"

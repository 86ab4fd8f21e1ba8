"""What people say of drawn rows: from a sheet, from a table of true values, or typed at a terminal."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.text import Text

from jobs import lake
from jobs.prepare import Opened, open_job
from jobs.review import VERDICTS, Reviewed, Said, apply, open_rows, shown, standing
from jobs.scores import Cell, is_right, read_value, truth_of
from jobs.sheet import SHEET, harmless, read_sheet
from jobs.texts import text_of
from schemas.errors import DataContractError, JobFileError
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.tasks import AnyTask
from udfs.parse import dumps

MOST_DIGITS = 9  # of a place, which is a 32-bit number
SAVE_EVERY = 10  # typed verdicts; each commit takes a second
LEAVE = "q"
KEYS = {"y": "yes", "n": "no", "s": "skip"}
# how answers that are no mere text are written
FORMS = {"multilabel": "a JSON list of ", "extract": "a JSON object with ", "match": "true or false"}


def write_sheet(spark: SparkSession, job: EnrichJob, sheet: Path) -> int:
    """Write the rows that wait for a verdict as CSV; return how many.

    Raises:
        JobFileError: the file is there already, or cannot be written.
    """
    opened = open_job(spark, job, options=RunOptions())
    tasks = {task.name: task for task in opened.tasks}
    rows = open_rows(spark, opened)
    try:
        with sheet.open("x", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, SHEET, extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                inputs, answer = shown(tasks[row["column"]], row)
                writer.writerow(row | {"inputs": harmless(inputs), "answer": harmless(answer)})
    except OSError as problem:
        raise JobFileError(f"{sheet}: cannot be written: {problem.strerror}") from problem
    return len(rows)


def import_sheet(spark: SparkSession, job: EnrichJob, sheet: Path) -> Reviewed:
    """Read back a sheet that `sample` wrote; rows without a verdict stay open.

    Raises:
        JobFileError: with every line that cannot be understood; nothing is applied then.
    """
    opened = open_job(spark, job, options=RunOptions())
    apply(spark, opened, said_in(sheet, opened.tasks), reviewer=str(sheet.name))
    return standing(spark, opened)


def said_in(sheet: Path, tasks: Sequence[AnyTask]) -> list[Said]:
    """What a sheet says of these columns.

    Raises:
        JobFileError: with every line that cannot be understood.
    """
    named = {task.name: task for task in tasks}
    return read_sheet(sheet, lambda line: _read_line(named, line))


def _read_line(tasks: Mapping[str, AnyTask], line: Mapping[str, str]) -> Said | None:
    verdict, correction = line["verdict"].strip().lower(), line["correction"].strip()
    if not verdict and not correction:
        return None
    verdict = verdict or "no"
    column, place = line["column"].strip(), line["place"].strip()
    if column not in tasks:
        raise ValueError(f"column {column!r} is none of this job's")
    if not (place.isascii() and place.isdigit() and len(place) <= MOST_DIGITS):
        raise ValueError(f"place {place!r} is no number of a drawn row")
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r}; it takes {', '.join(VERDICTS)}")
    return Said(line["frame"].strip(), column, int(place), verdict, corrected(tasks[column], verdict, correction))


def corrected(task: AnyTask, verdict: str, correction: str) -> str | None:
    """A person's correction as JSON; None where there is none.

    Raises:
        ValueError: it is no answer of this task, or stands beside another verdict than "no".
    """
    if not correction:
        return None
    if verdict != "no":
        raise ValueError(f"a correction goes with verdict no, not {verdict}")
    found = truth_of(task, correction)
    allowed = task.example_words
    if found is None or (allowed is not None and isinstance(found[0], str) and found[0] not in allowed):
        takes = FORMS.get(task.task, "") + ", ".join(sorted(allowed or ()))
        raise ValueError(f"that is no answer for {task.name}" + (f", which takes {takes}" if takes else ""))
    return dumps(found[0])


def import_truth(spark: SparkSession, job: EnrichJob, table: str, truth: Mapping[str, str]) -> Reviewed:
    """Judge the open rows by a table that holds their true values under the job's key.

    Args:
        table: its name or folder.
        truth: the column of true values, by the column that the job writes.

    Raises:
        DataContractError: the table lacks a column.
    """
    opened = open_job(spark, job, options=RunOptions())
    tasks = {task.name: task for task in opened.tasks}
    texts = truth_texts(spark, opened, table, truth)
    rows = [row for row in open_rows(spark, opened) if row["column"] in truth]
    said = []
    keys = lake.rows_of(spark, [{"key": key} for key in {row["key"] for row in rows}], {"key": "string"})
    known = {row["key"]: row for row in texts.join(F.broadcast(keys), "key").collect()}
    for row in rows:
        task = tasks[row["column"]]
        found = truth_of(task, known[row["key"]][task.name]) if row["key"] in known else None
        if found is None:
            continue
        cell = Cell(found[0], read_value(row["value"]), is_answered=row["value"] is not None)
        right = is_right(task, cell)
        correction = None if right else dumps(found[0])
        said.append(Said(row["frame"], row["column"], row["place"], "yes" if right else "no", correction))
    apply(spark, opened, said, reviewer=table)
    return standing(spark, opened)


def truth_texts(spark: SparkSession, opened: Opened, table: str, truth: Mapping[str, str]) -> DataFrame:
    """A table of true values as texts: `key`, and one column for each that the job writes.

    Raises:
        DataContractError: the table lacks a column.
        JobFileError: `truth` names a column that the job does not write.
    """
    if unknown := sorted(set(truth) - {task.name for task in opened.tasks}):
        known_names = ", ".join(task.name for task in opened.tasks)
        raise JobFileError(f"--column names {', '.join(unknown)}; this job writes {known_names}")
    known = lake.read(spark, lake.place_of(table))
    if missing := sorted({*opened.job.key, *truth.values()} - set(known.columns)):
        raise DataContractError(f"{table} lacks {', '.join(missing)}; it has {', '.join(known.columns)}")
    kinds = {field.name: field.dataType for field in known.schema}
    texts = [text_of(lake.col(column), kinds[column]).alias(name) for name, column in truth.items()]
    return known.select(lake.key_json(opened.job.key).alias("key"), *texts)


def label(spark: SparkSession, job: EnrichJob, *, console: Console, reviewer: str, blind: bool = False) -> Reviewed:
    """Ask for a verdict on one open row after the other; what was said is kept when it is left.

    Args:
        blind: the model's answer is not shown, and the person gives one of their own.
    """
    opened = open_job(spark, job, options=RunOptions())
    tasks = {task.name: task for task in opened.tasks}
    rows = open_rows(spark, opened)
    said: list[Said] = []
    try:
        for number, row in enumerate(rows, 1):
            task = tasks[row["column"]]
            inputs, answer = shown(task, row)
            console.print(Text(f"\n{number} of {len(rows)}: {task.name}", style="bold"), Text(inputs), sep="\n")
            found = own_answer(console, task, row) if blind else _verdict(console, task, row, answer)
            if found is None:
                break
            said.append(found)
            if len(said) >= SAVE_EVERY:
                apply(spark, opened, said, reviewer=reviewer)
                said = []
    except (EOFError, KeyboardInterrupt):
        pass
    apply(spark, opened, said, reviewer=reviewer)
    return standing(spark, opened)


def _verdict(console: Console, task: AnyTask, row: Mapping[str, Any], answer: str) -> Said | None:
    console.print(Text(f"-> {answer}", style="bold green"))
    while True:
        typed = console.input("y right, n wrong, e wrong and give the right one, s skip, q leave: ").strip().lower()
        if typed == LEAVE:
            return None
        if typed in KEYS:
            return Said(row["frame"], row["column"], row["place"], KEYS[typed])
        if typed == "e" and (found := _checked(console, task, console.input("the right answer: ").strip())) is not None:
            return Said(row["frame"], row["column"], row["place"], "no", found)


def own_answer(console: Console, task: AnyTask, row: Mapping[str, Any]) -> Said | None:
    """The person's answer, which is the verdict on the model's; None where they leave."""
    is_label = LEAVE in (task.example_words or ())
    prompt = f"the right answer (empty skips, {'Ctrl-D' if is_label else LEAVE} leaves): "
    found = None
    while found is None:
        typed = console.input(prompt).strip()
        if typed == LEAVE and not is_label:
            return None
        if not typed:
            return Said(row["frame"], row["column"], row["place"], "skip")
        found = _checked(console, task, typed)
    right = is_right(task, Cell(read_value(found), read_value(row["value"]), is_answered=row["value"] is not None))
    return Said(row["frame"], row["column"], row["place"], "yes" if right else "no", None if right else found)


def _checked(console: Console, task: AnyTask, typed: str) -> str | None:
    """What was typed as JSON; None, and why is told, where it is no answer."""
    try:
        return corrected(task, "no", typed)
    except ValueError as problem:
        console.print(Text(str(problem), style="red"))
        return None

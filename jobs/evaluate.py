"""`burnish evaluate`: job files on tables with truth, through the same path as `run`, beside what needs no model."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.baselines import RETRIEVAL, baseline, retrieved
from jobs.cells import nothing_to_ask
from jobs.chosen import score_of
from jobs.comparison import Beside, Comparison, compare
from jobs.evaluation import Evaluation, Line
from jobs.replicas import stop_replicas
from jobs.run import run
from jobs.scores import Cell, is_right, read_value, score, truth_of
from jobs.source import resolve_labels, source_rows
from jobs.store import answers_by_question, store_of
from jobs.texts import text_of
from schemas.errors import DataContractError, JobFileError
from schemas.job import EnrichJob, ModelRef, Place, Source
from schemas.options import RunOptions
from schemas.suite import SuiteFile, SuiteSet
from schemas.tasks import AnyTask, Classify, Clean, Impute
from schemas.yaml_file import load_job
from udfs.nearest import NearestLabels

MOST_TRAINING_ROWS = 50_000  # that a baseline learns from; it holds them in memory
KEEP_WARM_MIN = 15.0
# beside each set's answers, one row a cell: all that a calibration or a promise would see of it
JUDGED_DDL = "column string, right boolean, confidence double"


@dataclass(frozen=True)
class Judged:
    """One set as it is asked: the job over its sampled rows, and where they stand."""

    declared: SuiteSet
    job: EnrichJob
    rows: Place


def evaluate(spark: SparkSession, file: SuiteFile, *, only: Sequence[str] = (), scores: bool = False) -> Evaluation:
    """Ask every set, score the answers, and write `scores.json` and `scores.md` into the output folder.

    Args:
        only: sets, by name; by default all.
        scores: compare all that each answer is stored with, too, into `confidences.json` and `confidences.md`.

    Raises:
        JobFileError: a job file is wrong, or `truth` or `only` do not fit it.
        DataContractError: a table or column is missing, or no row has a truth.
    """
    chosen = _chosen(file, only)
    jobs = {one.name: load_job(Path(one.job)) for one in chosen}
    for one in chosen:
        _check_truth(jobs[one.name], one)
    folder = Path(file.output).expanduser().resolve()
    found: list[tuple[Line, AnyTask, list[Cell]]] = []
    models = file.models or (None,)
    judged = [_sampled(spark, file, one, jobs[one.name], folder) for one in chosen]
    # one model after the other, so that each starts its engines once
    for model in models:
        try:
            for asked in judged:
                found += _of_model(spark, file, asked, model, folder)
        finally:
            stop_replicas(spark)
    lines = [line for line, _, _ in found]
    for asked in judged:
        lines += _of_baselines(spark, file, asked)
    comparison = Comparison(tuple(_beside(file, *one) for one in found)) if scores else None
    evaluation = Evaluation(str(folder), tuple(lines), rows=file.rows, seed=file.seed, comparison=comparison)
    evaluation.write(folder)
    return evaluation


def _chosen(file: SuiteFile, only: Sequence[str]) -> list[SuiteSet]:
    if unknown := sorted(set(only) - {one.name for one in file.sets}):
        raise JobFileError(f"the suite has no set {', '.join(unknown)}; it has {', '.join(s.name for s in file.sets)}")
    return [one for one in file.sets if not only or one.name in only]


def _check_truth(job: EnrichJob, one: SuiteSet) -> None:
    inputs = {task.name: task.inputs for task in job.columns}
    if unknown := sorted(set(one.truth) - inputs.keys()):
        raise JobFileError(f"set {one.name}: {one.job} writes no {', '.join(unknown)}; it writes {', '.join(inputs)}")
    for name, column in one.truth.items():
        if column in inputs[name]:
            raise JobFileError(f"set {one.name}: the question of {name} shows {column}, so that it is no test of it")


def _sampled(spark: SparkSession, file: SuiteFile, one: SuiteSet, job: EnrichJob, folder: Path) -> Judged:
    """Write the set's sampled rows as a table of their own, which the job then works on in place."""
    job = job.model_copy(update={"source": one.source or job.source})
    rows = source_rows(spark, job)
    for column in (*one.truth.values(), *job.key):
        if column not in rows.columns:
            raise DataContractError(f"set {one.name}: {job.source.text} has no column {column}")
    order = F.xxhash64(F.lit(file.seed), *[lake.col(name).cast("string") for name in job.key])
    # cells that an earlier run of the same job wrote are no part of the question
    written = {name for task in job.columns if not task.in_place for name in task.written}
    kept = rows.drop(
        *written, *(f"{task.name}_{end}" for task in job.columns for end in ("confidence", "error", "meta"))
    )
    place = Place(path=str(folder / one.name / "rows"))
    lake.replace(kept.orderBy(order, *map(lake.col, job.key)).limit(one.rows or file.rows).coalesce(1), place)
    columns = tuple(task.model_copy(update={"accept": 0.0}) for task in job.columns if task.name in one.truth)
    limits = job.limits.model_copy(update={"max_failed_share": 1.0})
    changes = {"source": _source(place), "target": None, "accept": 0.0, "columns": columns, "limits": limits}
    return Judged(one, job.model_copy(update=changes), place)


def _source(place: Place) -> Source:
    return Source(path=place.path)


def _of_model(
    spark: SparkSession, file: SuiteFile, one: Judged, model: ModelRef | None, folder: Path
) -> Iterator[tuple[Line, AnyTask, list[Cell]]]:
    job = one.job if model is None else one.job.model_copy(update={"model": model})
    # every model answers the rows as they were
    name = _file_name(job.model.text)
    place = Place(path=str(folder / one.declared.name / name / "rows"))
    lake.replace(lake.read(spark, one.rows), place)
    engine = job.engine.model_copy(update={"keep_warm_min": KEEP_WARM_MIN})
    job = job.model_copy(
        update={"source": _source(place), "store": str(folder / one.declared.name / name / "store"), "engine": engine}
    )
    result = run(spark, job, options=RunOptions())
    answers = answers_by_question(spark, store_of(job), sorted(set(result.prepared.cells.fingerprints.values())))
    judged: list[tuple[str, bool, float | None]] = []
    for task in resolve_labels(spark, job).columns:
        cells = _cells(spark, one, job, task, answers)
        judged += [(task.name, is_right(task, cell), cell.confidence) for cell in cells]
        seconds = result.seconds if len(job.columns) == 1 else None
        yield _line(file, one, task, job.model.text, cells, seconds), task, cells
    table = spark.createDataFrame(judged, JUDGED_DDL).coalesce(1)
    lake.replace(table, Place(path=str(folder / one.declared.name / name / "judged")))


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[-100:]


def _cells(spark: SparkSession, one: Judged, job: EnrichJob, task: AnyTask, answers: DataFrame) -> list[Cell]:
    written = lake.read(spark, job.target_place)
    before = lake.read(spark, one.rows)
    keys = [lake.col(name).alias(f"k{at}") for at, name in enumerate(job.key)]
    names = [f"k{at}" for at in range(len(job.key))]
    meta = lake.col(f"{task.name}_meta")
    asked = written.select(*keys, meta["question_id"].alias("question_id"))
    known = with_truth(before, one.declared.truth[task.name], task, keys)
    found = answers.select("question_id", "status", "value", "label_mass", *scored(task))
    rows = (
        known.join(asked, names)
        .join(found, "question_id", "left")
        .select("inputs", "truth", "before", *found.columns[1:])
    )
    cells = []
    for row in rows.collect():
        truth = truth_of(task, row["truth"])
        if truth is None:
            continue
        is_answered = row["status"] == "ok" and row["value"] is not None
        cells.append(
            Cell(
                truth[0],
                read_value(row["value"]) if is_answered else None,
                is_answered,
                row["confidence"] if is_answered else None,
                row["label_mass"],
                row["before"],
                tuple(row["inputs"]),
                row["scores"].asDict() if is_answered else {},
            )
        )
    if not cells:
        raise DataContractError(f"set {one.declared.name}: no row of {task.name} has a truth and something to ask")
    return cells


def scored(task: AnyTask) -> tuple[Column, Column]:
    """Of the answers table: `confidence`, the score that the task chose, and `scores`, all that it could choose."""
    each = F.struct(*[score_of(task, F.col, name).alias(name) for name in task.score_names])
    return score_of(task, F.col).alias("confidence"), each.alias("scores")


def with_truth(rows: DataFrame, column: str, task: AnyTask, more: list[Any]) -> DataFrame:
    """The rows that ask something: `inputs`, `before` (the old cell) and `truth` as texts, beside `more`."""
    kinds = {field.name: field.dataType for field in rows.schema}
    texts = [text_of(lake.col(name), kinds[name]) for name in task.inputs]
    before = text_of(lake.col(task.name), kinds[task.name]) if isinstance(task, Clean) else F.lit(None).cast("string")
    asks = ~nothing_to_ask(task, texts)
    if isinstance(task, Impute):
        asks = asks & lake.col(task.name).isNull()
    truth = text_of(lake.col(column), kinds[column])
    return rows.where(asks).select(*more, F.array(*texts).alias("inputs"), before.alias("before"), truth.alias("truth"))


def _of_baselines(spark: SparkSession, file: SuiteFile, one: Judged) -> Iterator[Line]:
    for task in resolve_labels(spark, one.job).columns:
        column = one.declared.truth[task.name]
        asked = _pairs(with_truth(lake.read(spark, one.rows), column, task, []), task)
        known: list[tuple[list[str | None], Any]] = []
        if one.declared.train is not None:
            rows = with_truth(lake.read(spark, one.declared.train), column, task, []).limit(MOST_TRAINING_ROWS)
            known = _pairs(rows, task)
        inputs = [texts for texts, _ in asked]
        answered: dict[str, list[Cell] | None] = {
            kind: baseline(kind, task, known, inputs) for kind in file.baselines
        } | {RETRIEVAL: retrieved(task, inputs)}
        for system, cells in answered.items():
            if cells is not None:
                judged = [replace(cell, truth=truth) for cell, (_, truth) in zip(cells, asked, strict=True)]
                yield _line(file, one, task, system, judged, None)


def _pairs(rows: DataFrame, task: AnyTask) -> list[tuple[list[str | None], Any]]:
    found = [(list(row["inputs"]), truth_of(task, row["truth"])) for row in rows.collect()]
    return [(inputs, truth[0]) for inputs, truth in found if truth is not None]


def _line(file: SuiteFile, one: Judged, task: AnyTask, system: str, cells: list[Cell], seconds: float | None) -> Line:
    name = one.declared.name if len(one.declared.truth) == 1 else f"{one.declared.name}.{task.name}"
    found = score(task, cells, resamples=file.resamples, seed=file.seed, seconds=seconds)
    if recall := _recall(task, cells):
        found = replace(found, more=found.more | {"preselection recall": recall})
    return Line(name, one.declared.kind or KINDS[task.task], task.task, system, found, one.declared.note)


def _beside(file: SuiteFile, line: Line, task: AnyTask, cells: Sequence[Cell]) -> Beside:
    """Compare the scores that a set's answers are stored with."""
    answered = [cell for cell in cells if cell.is_answered]
    stored: dict[str, list[float | None]] = {
        name: [cell.scores.get(name) for cell in answered] for name in task.score_names
    }
    right, own = [is_right(task, cell) for cell in answered], task.score or task.score_names[0]
    found = compare(right, stored, own, resamples=file.resamples, seed=file.seed)
    return Beside(line.name, line.task, line.system, tuple(found))


def _recall(task: AnyTask, cells: Sequence[Cell]) -> float | None:
    """How often the truth is among the labels that a row's prompt lists."""
    asked = [(cell.inputs, cell.truth) for cell in cells if cell.inputs and cell.truth is not None]
    if not (isinstance(task, Classify) and task.preselect and asked):
        return None
    near = NearestLabels(task)
    return sum(truth in near.of(inputs) for inputs, truth in asked) / len(asked)


KINDS = {
    "classify": "classification",
    "multilabel": "classification",
    "extract": "extraction",
    "clean": "cleaning",
    "impute": "enrichment",
    "match": "entity matching",
    "answer": "reading comprehension",
}

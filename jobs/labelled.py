"""Examples out of a table of labelled rows, or out of what people said: read once, at a pinned version."""

import json
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.people import as_text, people_said
from jobs.store import store_of
from jobs.texts import text_of
from schemas.canonical import digest
from schemas.errors import DataContractError
from schemas.fields import Example, ExamplePool, ExampleTable, LabelledRow, ReviewedExamples, misfit
from schemas.job import EnrichJob
from schemas.tasks import AnyTask
from udfs.masked import Unteachable
from udfs.nearest import check_installed
from udfs.prompts import sheet_of, shown_inputs
from udfs.truth import answer_of

MOST_ROWS = 5000
MOST_CHARACTERS = 600  # of one example's inputs


def with_examples(spark: SparkSession, job: EnrichJob, task: AnyTask) -> AnyTask:
    """Replace `examples: {from_table, …}` and `{reviewed, …}` by the rows that stand there.

    Raises:
        DataContractError: the table or a column is missing, or no row has a truth that this task could answer.
        EnvironmentProblem: similar examples need a package that is not installed.
    """
    declared = task.examples
    if isinstance(declared, ExampleTable):
        rows = _rows(task, _of_table(spark, task, declared), declared.from_table)
    elif isinstance(declared, ReviewedExamples):
        rows = _rows(task, _of_people(spark, job, task, declared), "what people said under `burnish review`")
    else:
        return task
    if declared.select == "fixed":
        return task.model_copy(update={"examples": tuple(row.example for row in rows[: declared.k])})
    check_installed()
    told = digest([row.model_dump(mode="json") for row in rows])
    pool = ExamplePool(select=declared.select, k=declared.k, digest=told, rows=tuple(rows))
    return task.model_copy(update={"examples": pool})


def _rows(task: AnyTask, known: DataFrame, where: str) -> list[LabelledRow]:
    """Labelled rows, from `texts` and `truth`, in an order that their content alone decides."""
    order = F.xxhash64("texts", "truth")
    distinct = known.where("truth IS NOT NULL").distinct()
    found = distinct.orderBy(order, "truth", F.to_json("texts")).limit(MOST_ROWS).collect()
    rows = [row for one in found if (row := _labelled(task, list(one["texts"]), one["truth"])) is not None]
    if not rows:
        raise DataContractError(
            f"{task.name}: no row of {where} has a truth that fits the task",
            hint="it must be one of the task's own labels, or a value of its type, beside texts",
        )
    return rows


def _of_table(spark: SparkSession, task: AnyTask, table: ExampleTable) -> DataFrame:
    frame = _read(spark, table)
    missing = sorted({*task.inputs, table.truth} - set(frame.columns))
    if missing:
        raise DataContractError(
            f"{task.name}: the table of examples {table.from_table} lacks {', '.join(missing)};"
            f" it has {', '.join(frame.columns)}",
            hint="it needs the columns that the task reads, called as they are there, and the one that `truth` names",
        )
    kinds = {one.name: one.dataType for one in frame.schema}
    texts = F.array(*[text_of(lake.col(name), kinds[name]) for name in task.inputs])
    return frame.select(texts.alias("texts"), text_of(lake.col(table.truth), kinds[table.truth]).alias("truth"))


def _of_people(spark: SparkSession, job: EnrichJob, task: AnyTask, declared: ReviewedExamples) -> DataFrame:
    store = store_of(job)
    try:
        said = people_said(spark, store, job, task, version=declared.reviewed)
    except AnalysisException as problem:
        raise DataContractError(
            f"{task.name}: there is no version {declared.reviewed} of {store.place('review').text}",
            hint="`burnish review status` tells the version that holds what people have said so far",
        ) from problem
    fits = F.size("inputs") == len(task.inputs)
    return said.where(fits).select(F.col("inputs").alias("texts"), as_text(F.col("said")).alias("truth"))


def _read(spark: SparkSession, table: ExampleTable) -> DataFrame:
    place = lake.place_of(table.from_table)
    try:
        lake.delta_table(spark, place)
        return lake.read(spark, place, version=table.version)
    except AnalysisException as problem:
        raise DataContractError(
            f"{table.from_table} has no version {table.version}", hint="DESCRIBE HISTORY lists those that there are"
        ) from problem


def _labelled(task: AnyTask, texts: list[str | None], truth: str) -> LabelledRow | None:
    try:
        value = _as_output(json.loads(answer_of(task, truth)))
    except Unteachable:
        return None
    if misfit(task.kind, value, task.example_words) or not any(text and text.strip() for text in texts):
        return None
    short = [None if text is None else text[:MOST_CHARACTERS] for text in texts]
    shown = shown_inputs(sheet_of(task).names, short)
    return LabelledRow(inputs=tuple(texts), example=Example(input=shown, output=value))


def _as_output(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

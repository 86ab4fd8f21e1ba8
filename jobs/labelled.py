"""Examples out of a table of labelled rows: read once, at a pinned version."""

import json
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.texts import text_of
from schemas.canonical import digest
from schemas.errors import DataContractError
from schemas.fields import Example, ExamplePool, ExampleTable, LabelledRow, misfit
from schemas.tasks import AnyTask
from udfs.masked import Unteachable
from udfs.nearest import check_installed
from udfs.prompts import sheet_of, shown_inputs
from udfs.truth import answer_of

MOST_ROWS = 5000
MOST_CHARACTERS = 600  # of one example's inputs


def with_examples(spark: SparkSession, task: AnyTask) -> AnyTask:
    """Replace `examples: {from_table, …}` by the rows that stand there.

    Raises:
        DataContractError: the table or a column is missing, or no row has a truth that this task could answer.
        EnvironmentProblem: similar examples need a package that is not installed.
    """
    table = task.examples
    if not isinstance(table, ExampleTable):
        return task
    rows = _rows(spark, task, table)
    if table.select == "fixed":
        return task.model_copy(update={"examples": tuple(row.example for row in rows[: table.k])})
    check_installed()
    told = digest([row.model_dump(mode="json") for row in rows])
    pool = ExamplePool(select=table.select, k=table.k, digest=told, rows=tuple(rows))
    return task.model_copy(update={"examples": pool})


def _rows(spark: SparkSession, task: AnyTask, table: ExampleTable) -> list[LabelledRow]:
    """Labelled rows in an order that their content alone decides."""
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
    truth = text_of(lake.col(table.truth), kinds[table.truth])
    known = frame.select(texts.alias("texts"), truth.alias("truth")).where("truth IS NOT NULL").distinct()
    order = F.xxhash64("texts", "truth")
    found = known.orderBy(order, "truth", F.to_json("texts")).limit(MOST_ROWS).collect()
    rows = [row for one in found if (row := _labelled(task, list(one["texts"]), one["truth"])) is not None]
    if not rows:
        raise DataContractError(
            f"{task.name}: no row of {table.from_table} has a truth that fits the task",
            hint=f"{table.truth} must hold the task's own labels, or values of its type, beside texts",
        )
    return rows


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

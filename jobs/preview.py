"""Preview: the answers for a few rows, asked for real and written nowhere."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import cells as cells_
from jobs import lake
from jobs.acceptance import shown_rules
from jobs.asking import Model, ready_model, spec_of
from jobs.cells import CellFrame
from jobs.judge import Judgement, judge
from jobs.prepare import remarks_on
from jobs.source import Scope, check_columns, open_scope, resolve_labels
from jobs.to_do import distinct_questions, to_do
from schemas.job import EnrichJob, Place, Source
from schemas.options import RunOptions
from schemas.tasks import AnyTask
from udfs.ask import OUTPUT_DDL, asker

ROW = "_row"
FRAME = {"path": "the DataFrame"}  # what messages call it; nothing is read from there
LONGEST_CELL = 60


@dataclass(frozen=True)
class Preview:
    """What a few rows would become."""

    frame: DataFrame
    model: Model
    tasks: tuple[AnyTask, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the rows as JSON-able values."""
        rows = [json.loads(str(row)) for row in self.frame.toJSON().collect()]
        return {"rows": rows, "remarks": remarks_on(self.model)}

    def render(self) -> Group:
        """Return the rows for a terminal: per column the value proposed, its confidence, its status."""
        table = Table(show_lines=True)
        inputs = list(dict.fromkeys(name for task in self.tasks for name in task.inputs))
        for heading in (*inputs, *(f"→ {task.name}" for task in self.tasks)):
            table.add_column(heading, overflow="fold")
        for row in self.frame.collect():
            cells = [_cut(row[name]) for name in inputs]
            table.add_row(*cells, *(_answer(row, task.name) for task in self.tasks))
        return Group(table, *(Text(remark) for remark in remarks_on(self.model)))


def _cut(value: Any) -> Text:
    text = "" if value is None else str(value)
    return Text(text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…")


def _answer(row: Any, name: str) -> Text:
    meta, confidence = row[f"{name}_meta"], row[f"{name}_confidence"]
    if meta is None:
        return Text("-")
    error = row[f"{name}_error"]
    value = error or meta["proposed"] or row[name]
    score = "" if confidence is None else f" {confidence:.2f}"
    return Text(f"{_cut(value)}{score} {meta['status']}")


def preview_table(spark: SparkSession, job: EnrichJob, *, rows: int = 20) -> Preview:
    """Answer the first rows of the job's source; no table is written.

    Raises:
        BurnishError: as `jobs.run.run` does.
    """
    scope = open_scope(spark, job, RunOptions())
    return _preview(spark, scope, ready_model(scope.job), rows)


def preview(
    df: DataFrame, columns: Sequence[AnyTask], *, model: str | dict[str, Any] = "smollm2", rows: int = 20
) -> DataFrame:
    """Return the first rows of any DataFrame with the columns answered; no key, no store, nothing written.

    Raises:
        BurnishError: as `jobs.run.run` does.
    """
    spark = df.sparkSession
    declared = [
        # a column that is overwritten must say `accept`; where nothing is written, any score will do
        ({"accept": 0.0} if task.in_place else {}) | task.model_dump(by_alias=True, exclude_none=True)
        for task in columns
    ]
    job = EnrichJob.model_validate({"source": FRAME, "key": [ROW], "model": model, "columns": declared})
    check_columns(job.model_copy(update={"key": ()}), df.schema)
    as_given = job.model_copy(update={"columns": tuple(columns)})
    scope = Scope(resolve_labels(spark, job), 0, df, df.schema, True)
    return _preview(spark, scope, ready_model(as_given), rows).frame.drop(ROW)


def _preview(spark: SparkSession, scope: Scope, model: Model, rows: int) -> Preview:
    numbered = _numbered(spark, scope, rows)
    job = scope.job.model_copy(
        update={"key": (ROW,), "source": Source.model_validate(FRAME), "target": Place.model_validate(FRAME)}
    )
    scope = Scope(job, scope.version, numbered, numbered.schema, True)
    fingerprints = {task.name: model.fingerprint(task) for task in scope.tasks}
    # as if nothing had been answered before: a preview shows what the model says now
    cells = cells_.with_cells(spark, scope, fingerprints, RunOptions(retry_failed=True), rules=shown_rules(job))
    spec = spec_of(spark, scope.job, model, run_id="preview")
    # collected at once: the model must be called once, and a DataFrame is evaluated as often as it is used
    # as Arrow: pandas makes NaN, which passes any acceptance, of a null; Python moves an hour that clocks repeat
    answers = distinct_questions(cells).coalesce(2).mapInPandas(asker(spec), OUTPUT_DDL)
    known = spark.createDataFrame(answers.toArrow(), answers.schema)
    return Preview(_joined(cells, known), model, scope.tasks)


def _numbered(spark: SparkSession, scope: Scope, rows: int) -> DataFrame:
    """Take a few rows, number them, and leave out what earlier runs wrote beside them."""
    ours = {name for task in scope.tasks for name in task.written if not (task.in_place and name == task.name)}
    kept = [name for name in scope.rows.columns if name not in ours and name in scope.schema.names]
    few = scope.rows.select(*[lake.col(name) for name in kept]).limit(rows)
    taken = few.toArrow()
    numbered = taken.append_column(ROW, pa.array(range(taken.num_rows), pa.int64()))
    return spark.createDataFrame(numbered, StructType([*few.schema.fields, StructField(ROW, LongType())]))


def _joined(cells: CellFrame, answers: DataFrame) -> DataFrame:
    wanted = to_do(cells, prefixes=cells_.TO_DO)
    judged = judge(wanted, answers, cells)
    gathered = judged.groupBy("k0").agg(
        *[
            F.first(F.when(F.col("task") == at, F.col("judged")), ignorenulls=True).alias(f"c{at}")
            for at in range(len(cells.scope.tasks))
        ]
    )
    rows = cells.scope.rows.join(gathered, F.col(ROW) == F.col("k0"), "left").drop("k0")
    for at, task in enumerate(cells.scope.tasks):
        cell, judgement = F.col(f"c{at}"), Judgement(cells, at)
        value = F.when(cell["status"] == "accepted", judgement.typed(cell["json"]))
        if task.in_place:
            value = F.coalesce(value, lake.col(task.name))
        meta = F.struct(
            *[cell[name].alias(name) for name in ("status", "proposed", "label_mass", "notes", "question_id")]
        )
        rows = rows.withColumns(
            {
                task.name: value,
                f"{task.name}_confidence": cell["confidence"],
                f"{task.name}_error": cell["error"],
                f"{task.name}_meta": F.when(cell.isNotNull(), meta),
            }
        )
    return rows.orderBy(ROW).drop(*[f"c{at}" for at in range(len(cells.scope.tasks))])

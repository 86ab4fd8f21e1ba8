"""`burnish calibrate`: from what people judged, how often an answer of each score is right."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.calibration import Calibration, Scored, calibrate, rows_missing
from jobs.cells import CellFrame, asked_question, inputs_hash
from jobs.chosen import with_score
from jobs.frames import SCORED_STATES
from jobs.people import as_text, found_right, newest, people_said
from jobs.prepare import Opened, open_job
from jobs.scores import Cell, is_right, read_value, truth_of
from jobs.store import answers_by_question
from jobs.verdicts import truth_texts
from schemas.errors import DataContractError
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.tables import CALIBRATIONS
from schemas.tasks import AnyTask
from udfs.extras import need

MOST_ROWS = 50_000
FIGURES = ("auroc", "ece", "brier", "log_loss")


@dataclass(frozen=True)
class Calibrated:
    """The calibrations made, by column, and why others were not."""

    columns: tuple[Calibration, ...]
    refused: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        found = {one.column: {"rows": one.rows, "labels": _own(one), **one.told} for one in self.columns}
        return {"columns": found, "refused": list(self.refused)}

    def render(self) -> Group:
        """Return the facts for a terminal: each figure before and after."""
        table = Table(title="on rows that were not fitted on: before, after", title_justify="left")
        for heading in ("column", "form", "judged rows", "AUROC", "calibration error", "Brier", "log loss"):
            table.add_column(heading, justify="left" if heading in ("column", "form") else "right")
        for one in self.columns:
            before, after = one.told["before"], one.told
            figures = (f"{_figure(before[name])}, {_figure(after[name])}" for name in FIGURES)
            form = one.told["kind"] + (f" ({len(_own(one))} labels by themselves)" if _own(one) else "")
            table.add_row(one.column, form, f"{one.rows:,}", *figures)
        curves = [part for one in self.columns for part in _reliability(one)]
        told = "the next run writes confidences by it; nothing is asked again"
        return Group(table, *curves, *map(Text, self.refused), told)


def _reliability(one: Calibration) -> Iterator[Text | Table]:
    """How often held-back rows of each confidence are right, with 95 % intervals."""
    yield Text(f"\n{one.column}: of the answers with this confidence so many are right")
    table = Table()
    for heading in ("confidence", "right", "95 %", "rows"):
        table.add_column(heading, justify="right")
    for part in one.told["reliability"]:
        interval = f"{part['low']:.2f} to {part['high']:.2f}"
        table.add_row(f"{part['confidence']:.2f}", f"{part['right']:.2f}", interval, f"{part['rows']:,}")
    yield table


def _own(one: Calibration) -> list[str]:
    return [label for label in one.curves if label is not None]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def calibrate_columns(
    spark: SparkSession,
    job: EnrichJob,
    *,
    truth_table: str | None = None,
    truth: Mapping[str, str] | None = None,
) -> Calibrated:
    """Fit a map from score to the probability of being right for each column that has judged rows enough.

    Args:
        truth_table: a table of true values under the job's key; by default the verdicts of the review table count.
        truth: its column of true values, by the column that the job writes.

    Raises:
        DataContractError: every column has too few judged rows, with how many more are needed.
        EnvironmentProblem: scikit-learn is not installed.
    """
    need("sklearn", extra="evaluate", what="calibrations")
    opened = open_job(spark, job, options=RunOptions())
    found: list[Calibration] = []
    complaints: list[str] = []
    for task, rows in _judged(spark, opened, truth_table, truth or {}):
        if missing := rows_missing(rows):
            known = f"{task.name}: {len(rows)} judged rows, {sum(row.right for row in rows)} of them right, are too few"
            complaints.append(f"{known}; about {missing} more are needed")
        else:
            found.append(calibrate(task.name, rows))
    if not found:
        raise DataContractError(
            "; ".join(complaints) or "no row was judged yet",
            hint="`burnish review sample` draws rows to judge; a calibration needs right ones and wrong ones",
        )
    _record(spark, opened, found)
    return Calibrated(tuple(found), tuple(complaints))


Judged = tuple[AnyTask, list[Scored]]


def _judged(spark: SparkSession, opened: Opened, table: str | None, truth: Mapping[str, str]) -> list[Judged]:
    if table is not None:
        texts = truth_texts(spark, opened, table, truth)
        tasks = [(at, task) for at, task in enumerate(opened.tasks) if task.name in truth]
        truths = {task.name: texts.select("key", lake.col(task.name).alias("truth")) for _, task in tasks}
        known = [(task, _asked(opened.cells.alone(at)).join(truths[task.name], "key")) for at, task in tasks]
        return [(task, _by_truth(spark, opened, rows, task)) for task, rows in known]
    judged = [at for at, task in enumerate(opened.tasks) if opened.cells.rules[task.name].people is not None]
    return [(opened.tasks[at], _by_verdict(spark, opened, at)) for at in judged]


def _by_verdict(spark: SparkSession, opened: Opened, at: int) -> list[Scored]:
    """What people judged of these answers, and where they looked at others to the same inputs, what they said then."""
    task = opened.tasks[at]
    mine = (F.col("target") == opened.job.target_place.text) & (F.col("column") == task.name)
    # a row that somebody skipped counts against a promise, and says nothing of how often such answers are right
    judged = opened.store.read(spark, "review").where(mine & F.col("verdict").isin("yes", "no"))
    judged = newest(judged.withColumn("said", F.coalesce("correction", "value")), "key", "question_id")
    theirs = judged.select("key", "question_id", "verdict", "correction", F.col("value").alias("shown"))
    known = _with_answers(spark, opened, theirs, task)
    found = [_scored(row, found_right(row["verdict"], row["shown"], row["correction"])) for row in known.collect()]
    said = people_said(spark, opened.store, opened.job, task).join(known.select("key"), "key", "left_anti")
    if said.isEmpty():
        return found
    same = (F.col("said_key") == F.col("key")) & (F.col("said_inputs") == F.col("inputs_hash"))
    truth = said.select(
        F.col("key").alias("said_key"), F.col("inputs_hash").alias("said_inputs"), as_text(F.col("said")).alias("truth")
    )
    asked = _asked(opened.cells.alone(at))
    return found + _by_truth(spark, opened, asked.join(F.broadcast(truth), same), task)


def _asked(cells: CellFrame) -> DataFrame:
    """The rows with an answer of a single column: key, question_id, inputs_hash."""
    return cells.rows.where(F.col("_state0").isin(*SCORED_STATES, "person")).select(
        lake.key_json(cells.scope.job.key).alias("key"),
        asked_question(cells).alias("question_id"),
        inputs_hash(cells).alias("inputs_hash"),
    )


def _by_truth(spark: SparkSession, opened: Opened, known: DataFrame, task: AnyTask) -> list[Scored]:
    found = []
    for row in _with_answers(spark, opened, known, task).limit(MOST_ROWS).collect():
        truth = truth_of(task, row["truth"])
        if truth is not None:
            cell = Cell(truth[0], read_value(row["value"]), is_answered=row["value"] is not None)
            found.append(_scored(row, is_right(task, cell)))
    return found


def _with_answers(spark: SparkSession, opened: Opened, rows: DataFrame, task: AnyTask) -> DataFrame:
    answers = answers_by_question(spark, opened.store, [opened.cells.fingerprints[task.name]])
    answers = with_score(answers.where("status = 'ok'"), task).where("confidence IS NOT NULL")
    return rows.join(answers.select("question_id", "value", "confidence", "label_mass"), "question_id")


def _scored(row: Any, right: bool) -> Scored:
    value = read_value(row["value"])
    return Scored(row["confidence"], row["label_mass"], value if isinstance(value, str) else None, right)


def _record(spark: SparkSession, opened: Opened, found: Sequence[Calibration]) -> None:
    rows = []
    for one in found:
        curves = [(label, curve.kind, curve.numbers) for label, curve in one.curves.items()]
        row: dict[str, Any] = {
            "target": opened.job.target_place.text,
            "column": one.column,
            "fingerprint": opened.cells.scored_as(one.column),
            "curves": json.dumps(curves, ensure_ascii=False),
            "rows": one.rows,
            "told": json.dumps(one.told, ensure_ascii=False),
            "fitted_at": datetime.now(UTC),
        }
        rows.append(row)
    opened.store.append(lake.rows_of(spark, rows, CALIBRATIONS), "calibrations")

"""`burnish review`: rows drawn from a frame, and what people say of the model's answers to them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.table import Table

from jobs import lake
from jobs.frames import Frame, draw, latest_frame, open_frame
from jobs.prepare import Prepared, prepare
from jobs.scores import read_value
from jobs.store import Store
from schemas.accept import Promise
from schemas.errors import DataContractError, JobFileError
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.tables import REVIEW, ddl
from schemas.tasks import AnyTask

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line ends
VERDICTS = ("yes", "no", "skip")


@dataclass(frozen=True)
class Said:
    """What somebody says of one drawn row; a correction is a value as JSON."""

    frame: str
    column: str
    place: int
    verdict: str
    correction: str | None = None


@dataclass(frozen=True)
class Reviewed:
    """Where the review of each column stands: drawn rows, judged ones, and how many of these were right."""

    columns: dict[str, dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {"columns": self.columns}

    def render(self) -> Table:
        """Return the facts for a terminal."""
        table = Table()
        for heading in ("column", "frame", "rows of the frame", "drawn", "judged", "right"):
            table.add_column(heading, justify="left" if heading in ("column", "frame") else "right")
        for name, one in self.columns.items():
            counts = (f"{one[count]:,}" for count in ("rows", "drawn", "judged", "right"))
            table.add_row(name, one["frame"], *counts)
        return table


def sample(
    spark: SparkSession,
    job: EnrichJob,
    *,
    rows: int,
    columns: Sequence[str] = (),
    new_frame: bool = False,
) -> Reviewed:
    """Draw rows of each column's frame for people to judge; the first draw opens the frame.

    Args:
        columns: those to judge; by default those about which something is promised, or all where nothing is.
        new_frame: open another frame over the newest version, which knows nothing of earlier verdicts.

    Raises:
        DataContractError: a column has no answers with a score.
        JobFileError: `columns` names one that the job does not write.
    """
    prepared = prepare(spark, job, options=RunOptions())
    for at, task in enumerate(prepared.tasks):
        if task.name in _chosen(prepared, columns):
            fingerprint = prepared.cells.fingerprints[task.name]
            frame = None if new_frame else latest_frame(spark, prepared.store, job, task.name, fingerprint)
            frame = frame or open_frame(spark, prepared.cells, prepared.store, at)
            draw(spark, prepared.cells, prepared.store, frame, at, rows=rows)
    return standing(spark, prepared)


def _chosen(prepared: Prepared, columns: Sequence[str]) -> tuple[str, ...]:
    names = [task.name for task in prepared.tasks]
    if unknown := sorted(set(columns) - set(names)):
        raise JobFileError(f"--column names {', '.join(unknown)}; this job writes {', '.join(names)}")
    promised = [task.name for task in prepared.tasks if isinstance(prepared.job.accept_of(task), Promise)]
    return tuple(columns or promised or names)


def newest_frames(spark: SparkSession, prepared: Prepared) -> dict[str, Frame]:
    """Each column's newest frame, where it has one."""
    found = {}
    for task in prepared.tasks:
        fingerprint = prepared.cells.fingerprints[task.name]
        frame = latest_frame(spark, prepared.store, prepared.job, task.name, fingerprint)
        if frame is not None:
            found[task.name] = frame
    return found


def standing(spark: SparkSession, prepared: Prepared) -> Reviewed:
    """Count what of each column's newest frame is drawn and judged."""
    found: dict[str, dict[str, Any]] = {}
    for name, frame in newest_frames(spark, prepared).items():
        drawn = _drawn(spark, prepared.store, frame.name, name)
        right = F.count_if(F.col("verdict") == "yes").alias("right")
        row = drawn.agg(F.count("*").alias("drawn"), F.count("verdict").alias("judged"), right).collect()[0]
        found[name] = {"frame": frame.name, "rows": frame.rows, **row.asDict()}
    return Reviewed(found)


def _drawn(spark: SparkSession, store: Store, frame: str, column: str) -> DataFrame:
    return store.read(spark, "review").where((F.col("frame") == frame) & (F.col("column") == column))


def open_rows(spark: SparkSession, prepared: Prepared) -> list[dict[str, Any]]:
    """The drawn rows of the newest frames that nobody has judged, in the order of the draw."""
    frames = [one["frame"] for one in standing(spark, prepared).columns.values()]
    rows = prepared.store.read(spark, "review").where(F.col("frame").isin(frames) & F.col("verdict").isNull())
    return [row.asDict() for row in rows.orderBy("place", "column").collect()]


def printable(text: str) -> str:
    """A text without control characters: in a terminal they would be commands."""
    return CONTROL.sub("\ufffd", text)


def shown(task: AnyTask, row: Mapping[str, Any]) -> tuple[str, str]:
    """A drawn row's inputs and the model's answer, as texts for a person."""
    texts = row["inputs"] or ["(changed since it was drawn)"] * len(task.inputs)
    inputs = "\n".join(f"{name}: {'' if text is None else text}" for name, text in zip(task.inputs, texts, strict=True))
    value = read_value(row["value"])
    answer = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(inputs), printable(answer)


def apply(spark: SparkSession, prepared: Prepared, said: Sequence[Said], *, reviewer: str) -> None:
    """Write verdicts into the review table; a later one replaces an earlier one.

    Raises:
        DataContractError: a verdict is about a row that was never drawn.
    """
    if not said:
        return
    now = datetime.now(UTC)
    fields = ("frame", "column", "place", "verdict", "correction", "reviewer", "reviewed_at")
    kinds = ddl({name: REVIEW[name] for name in fields})
    given = [(one.frame, one.column, one.place, one.verdict, one.correction, reviewer, now) for one in said]
    frame = spark.createDataFrame(given, kinds).dropDuplicates(["frame", "column", "place"])
    place = prepared.store.place("review")
    same = " AND ".join(f"t.`{name}` = s.`{name}`" for name in ("frame", "column", "place"))
    known = prepared.store.read(spark, "review")
    strangers = frame.join(known, ["frame", "column", "place"], "left_anti").count()
    if strangers:
        raise DataContractError(
            f"{strangers} verdicts are about rows that {place.text} does not hold", hint="was the sheet drawn from it?"
        )
    updates = {f"`{name}`": F.col(f"s.{name}") for name in fields[3:]}
    merge = lake.delta_table(spark, place).alias("t").merge(frame.alias("s"), same)
    lake.patiently(lambda: merge.whenMatchedUpdate(set=dict(updates)).execute(), what=place.text)

"""Status: where a job's columns stand and what its last runs did."""

import json
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.store import store_of
from schemas.job import EnrichJob
from schemas.tables import STATUSES

LAST_RUNS = 10


@dataclass(frozen=True)
class JobStatus:
    """Cells per column and status, the last runs, newest first, and how far the newest is where it has not ended."""

    target: str
    columns: dict[str, dict[str, int]]
    runs: list[dict[str, Any]]
    under_way: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return dict(vars(self))

    def render(self) -> Group:
        """Return the facts for a terminal."""
        cells = Table(title=self.target, title_justify="left")
        shown = [name for name in (*STATUSES, "never") if any(one.get(name) for one in self.columns.values())]
        for heading in ("column", *shown):
            cells.add_column(heading, justify="left" if heading == "column" else "right")
        for name, one in self.columns.items():
            cells.add_row(name, *(f"{one.get(status, 0):,}" for status in shown))
        runs = Table(title="last runs", title_justify="left")
        for heading in ("run", "state", "started", "questions", "failed", "complete"):
            runs.add_column(heading)
        for run in self.runs:
            facts = (run["run_id"], run["state"], run["started_at"], run["questions"], run["failed"], run["complete"])
            runs.add_row(*("" if fact is None else str(fact) for fact in facts))
        return Group(cells, runs, *([Text(self._told())] if self.under_way is not None else []))

    def _told(self) -> str:
        one = self.under_way or {}
        rate = "" if one["rows_per_sec"] is None else f" at {one['rows_per_sec']:g} rows/s"
        silent = "" if one["silent_sec"] is None else f"; the last answers were committed {one['silent_sec']:,} s ago"
        done = f"{one['answered']:,} of {one['questions']:,} questions answered in {one['waves']:,} waves{rate}{silent}"
        rest = f"Where it is dead, the same command goes on and asks {one['left']:,}"
        return f"run {one['run_id']} has no end on record: {done}. {rest}"


def status(spark: SparkSession, job: EnrichJob) -> JobStatus:
    """Count the target's cells by the status on record; `never` are cells that no run has written."""
    columns: dict[str, dict[str, int]] = {}
    if lake.exists(spark, job.target_place):
        target = lake.read(spark, job.target_place)
        for task in job.columns:
            meta = f"{task.name}_meta"
            found = lake.col(meta)["status"] if meta in target.columns else F.lit(None).cast("string")
            counted = target.groupBy(F.coalesce(found, F.lit("never")).alias("status")).count().collect()
            columns[task.name] = {row["status"]: int(row["count"]) for row in counted}
    runs = _told(spark, job)
    return JobStatus(job.target_place.text, columns, runs, _under_way(spark, job, runs))


def last_runs(spark: SparkSession, job: EnrichJob, *, most: int) -> list[tuple[Row, dict[str, Any]]]:
    """Return a target's last runs, newest first, each with its report; one that did not end has an empty one."""
    runs = store_of(job).read(spark, "runs").where(F.col("target") == job.target_place.text)
    # a run leaves a row when it starts and one when it ends; the later one counts
    latest = runs.groupBy("run_id").agg(
        F.max_by(F.struct("state", "complete", "report"), F.coalesce("ended_at", "started_at")).alias("last"),
        F.min("started_at").alias("started_at"),
        F.max("ended_at").alias("ended_at"),
    )
    rows = latest.orderBy(F.col("started_at").desc(), "run_id").limit(most).collect()
    return [(row, json.loads(row["last"]["report"]) if row["last"]["report"] else {}) for row in rows]


def _told(spark: SparkSession, job: EnrichJob) -> list[dict[str, Any]]:
    found = []
    for row, report in last_runs(spark, job, most=LAST_RUNS):
        found.append(
            {
                "run_id": row["run_id"],
                "state": row["last"]["state"],
                "started_at": str(row["started_at"]),
                "ended_at": None if row["ended_at"] is None else str(row["ended_at"]),
                "complete": row["last"]["complete"],
                "questions": report.get("questions"),
                "failed": report.get("failed"),
            }
        )
    return found


def _under_way(spark: SparkSession, job: EnrichJob, runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """How far the newest run is, from what it committed, if no end of it is on record."""
    if not runs or runs[0]["state"] != "running":
        return None
    store, run_id = store_of(job), runs[0]["run_id"]
    asked = store.read(spark, "questions").where(F.col("run_id") == run_id).count()
    row = (
        store.read(spark, "answers")
        .where(F.col("answered_run") == run_id)
        .agg(
            F.count("*").alias("answered"),
            F.count_if(F.col("status") == "failed").alias("failed"),
            F.countDistinct("lane", "lane_version").alias("waves"),
            F.unix_timestamp(F.max("answered_at")).alias("last"),
            F.unix_timestamp(F.current_timestamp()).alias("now"),
            F.min("answered_at").alias("first_at"),
            F.max("answered_at").alias("last_at"),
        )
        .collect()[0]
    )
    began = row["first_at"]
    seconds = (row["last_at"] - began).total_seconds() if began is not None else 0.0
    return {
        "run_id": run_id,
        "questions": asked,
        "answered": int(row["answered"]),
        "failed": int(row["failed"]),
        "waves": int(row["waves"]),
        "rows_per_sec": round(row["answered"] / seconds, 1) if seconds else None,
        "silent_sec": None if row["last"] is None else int(row["now"] - row["last"]),
        "left": max(0, asked - int(row["answered"])),
    }

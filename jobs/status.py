"""Status: where a job's columns stand and what its last runs did."""

import json
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F
from rich.console import Group
from rich.table import Table

from jobs import lake
from jobs.store import store_of
from schemas.job import EnrichJob
from schemas.tables import STATUSES

LAST_RUNS = 10


@dataclass(frozen=True)
class JobStatus:
    """Cells per column and status, and the last runs, newest first."""

    target: str
    columns: dict[str, dict[str, int]]
    runs: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {"target": self.target, "columns": self.columns, "runs": self.runs}

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
        return Group(cells, runs)


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
    return JobStatus(job.target_place.text, columns, _told(spark, job))


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

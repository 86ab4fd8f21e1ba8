"""Status: where a job's columns stand, what its last runs did, and how the one is that has not ended well."""

import json
import socket
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.replicas import list_replicas
from jobs.store import answers_by_question, settled, store_of
from schemas.job import EnrichJob
from schemas.tables import STATUSES
from udfs.processes import Identity

LAST = ("state", "complete", "source_version", "report")
LAST_RUNS = 10
UNDONE = ("running", "interrupted", "failed")  # of a run's states


@dataclass(frozen=True)
class JobStatus:
    """Cells per column and status, the last runs, newest first, and how far the newest is where it is not done.

    Attributes:
        replicas: of this user, on the hosts that this session's tasks run on; `of_run` are the newest run's own.
    """

    target: str
    columns: dict[str, dict[str, int]]
    runs: list[dict[str, Any]]
    under_way: dict[str, Any] | None = None
    replicas: tuple[dict[str, Any], ...] = ()

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
        told = [Text(_sentences(self.under_way))] if self.under_way is not None else []
        return Group(cells, runs, *([_replica_table(self.replicas)] if self.replicas else []), *told)


def _replica_table(replicas: tuple[dict[str, Any], ...]) -> Table:
    table = Table(title="replicas", title_justify="left")
    for heading in ("host", "of", "phase", "health", "restarts", "last step", "processes"):
        table.add_column(heading)
    for one in replicas:
        owner = "a dead run" if one["is_orphan"] else "this run" if one["of_run"] else "another run"
        health = "answers" if one["is_healthy"] else "does not answer"
        step = "none yet" if one["idle_sec"] is None else f"{one['idle_sec']:,} s ago"
        processes = ", ".join(map(str, one["processes"]))
        table.add_row(
            one["host"],
            owner,
            one["phase"],
            f"{health}, {'in use' if one['is_used'] else 'idle'}",
            str(one["restarts"]),
            step,
            processes,
        )
    return table


def _sentences(one: dict[str, Any]) -> str:
    states = {True: "is running", False: "is dead: its process is gone", None: "has no end on record"}
    state = states[one["alive"]] if one["state"] == "running" else f"ended as {one['state']}"
    rate = "" if one["rows_per_sec"] is None else f" at {one['rows_per_sec']:g} rows/s"
    silent = "" if one["silent_sec"] is None else f"; the last answers were committed {one['silent_sec']:,} s ago"
    done = f"{one['answered']:,} of {one['questions']:,} questions answered in {one['waves']:,} waves{rate}{silent}"
    when = {True: "Where it dies, the", False: "The", None: "Where it is dead, the"}[one["alive"]]
    rest = f"{when} same command asks {one['left']:,} questions and writes what is answered"
    return f"run {one['run_id']} {state}. {done}. {rest}."


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
    rows = last_runs(spark, job, most=LAST_RUNS)
    newest = rows[0][1] if rows else {}
    replicas = [one | {"of_run": one["app"] == newest.get("app")} for one in list_replicas(spark)]
    under_way = _under_way(spark, job, *rows[0]) if rows else None
    return JobStatus(job.target_place.text, columns, _told(rows), under_way, tuple(replicas))


def last_runs(spark: SparkSession, job: EnrichJob, *, most: int) -> list[tuple[Row, dict[str, Any]]]:
    """Return a target's last runs, newest first, each with its report; one that did not end has an empty one."""
    runs = store_of(job).read(spark, "runs").where(F.col("target") == job.target_place.text)
    # a run leaves a row when it starts and one when it ends; the later one counts
    latest = runs.groupBy("run_id").agg(
        F.max_by(F.struct("state", "complete", "source_version", "report"), F.coalesce("ended_at", "started_at")).alias(
            "last"
        ),
        F.min("started_at").alias("started_at"),
        F.max("ended_at").alias("ended_at"),
    )
    rows = latest.orderBy(F.col("started_at").desc(), "run_id").limit(most).collect()
    return [(row, json.loads(row["last"]["report"]) if row["last"]["report"] else {}) for row in rows]


def _told(rows: list[tuple[Row, dict[str, Any]]]) -> list[dict[str, Any]]:
    found = []
    for row, report in rows:
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


def _under_way(spark: SparkSession, job: EnrichJob, newest: Row, report: dict[str, Any]) -> dict[str, Any] | None:
    """How far a run is, from what it committed, if it is not done; what is left is what the same command would ask."""
    state = newest["last"]["state"]
    if state not in UNDONE:
        return None
    store, run_id = store_of(job), newest["run_id"]
    asked = store.read(spark, "questions").where(F.col("run_id") == run_id).select("question_id", "fingerprint")
    answers = store.read(spark, "answers").where(F.col("answered_run") == run_id)
    row = answers.agg(
        F.count("*").alias("answered"),
        F.count_if(F.col("status") == "failed").alias("failed"),
        F.countDistinct("lane", "lane_version").alias("waves"),
        F.unix_timestamp(F.max("answered_at")).alias("last"),
        F.unix_timestamp(F.current_timestamp()).alias("now"),
        F.min("answered_at").alias("first_at"),
        F.max("answered_at").alias("last_at"),
    ).collect()[0]
    began = row["first_at"]
    seconds = (row["last_at"] - began).total_seconds() if began is not None else 0.0
    return {
        "run_id": run_id,
        "state": state,
        "alive": _lives(report) if state == "running" else False,
        "questions": asked.count(),
        "answered": int(row["answered"]),
        "failed": int(row["failed"]),
        "waves": int(row["waves"]),
        "rows_per_sec": round(row["answered"] / seconds, 1) if seconds else None,
        "silent_sec": None if row["last"] is None else int(row["now"] - row["last"]),
        "left": _left(spark, job, asked),
    }


def _left(spark: SparkSession, job: EnrichJob, asked: DataFrame) -> int:
    fingerprints = [row[0] for row in asked.select("fingerprint").distinct().collect()]
    known = answers_by_question(spark, store_of(job), fingerprints, wanted=asked)
    done = settled(known, retry_failed=False).select("question_id")
    return asked.join(done, "question_id", "left_anti").count()


def _lives(report: dict[str, Any]) -> bool | None:
    """Whether a run's driver still runs; None where that cannot be seen from here."""
    driver = report.get("driver") or {}
    if driver.get("host") != socket.gethostname():
        return None
    return Identity(*driver["process"]).is_alive()

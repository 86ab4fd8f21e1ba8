"""`burnish history`: the runs that wrote a job's target, with what each changed, undid and cost."""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.box import SIMPLE
from rich.table import Table

from jobs import lake
from jobs.judge import writer
from jobs.status import last_runs
from jobs.store import store_of
from jobs.undo import STATE
from schemas.job import EnrichJob

MOST_RUNS = 50
ENDED = ("done", STATE)


@dataclass(frozen=True)
class History:
    """Runs, newest first."""

    target: str
    runs: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {"target": self.target, "runs": list(self.runs)}

    def render(self) -> Table:
        """Return the facts for a terminal."""
        table = Table(title=self.target, title_justify="left", box=SIMPLE)
        # a run's name is what `undo --run` takes: it and the columns' must not be cut
        table.add_column("run", no_wrap=True)
        table.add_column("cost")
        table.add_column("column", no_wrap=True)
        for heading in ("changed", "still its"):
            table.add_column(heading, justify="right")
        for run in self.runs:
            names = list({**run["changed"], **run["stands"]})
            if not run["published"]:
                table.add_row(_named(run), _cost(run), "\n".join(names), "none: it ended before its MERGE", "")
                continue
            counts = ("\n".join(f"{run[part].get(name, 0):,}" for name in names) for part in ("changed", "stands"))
            table.add_row(_named(run), _cost(run), "\n".join(names), *counts)
        return table


def _named(run: dict[str, Any]) -> str:
    return f"{run['run_id']}\n" + (f"undoes {run['undoes']}" if run["undoes"] else run["state"])


def _cost(run: dict[str, Any]) -> str:
    counts = ((run["questions"], "questions"), (run["tokens"], "tokens"), (run["seconds"], "s"))
    told = [f"{count:,} {unit}" for count, unit in counts if count is not None]
    return "\n".join([*told, *([] if run["cost"] is None else [f"{run['cost']:,.2f} for GPUs"])])


def history(spark: SparkSession, job: EnrichJob) -> History:
    """Read the last runs of this target: what the change log says of each, and how many cells still carry it."""
    store, target = store_of(job), job.target_place.text
    logged = store.read(spark, "changes").where(F.col("target") == target).groupBy("run_id", "column").count().collect()
    changed: dict[str, dict[str, int]] = {}
    for row in logged:
        changed.setdefault(row["run_id"], {})[row["column"]] = int(row["count"])
    stands = _standing(spark, job)
    runs = last_runs(spark, job, most=MOST_RUNS)
    # a run writes the change log first, the table after it: one that died in between has changed nothing
    open_ = {row["run_id"] for row, _ in runs if row["last"]["state"] not in ENDED} & changed.keys() - stands.keys()
    published = changed.keys() - open_ | _overwritten(spark, job, open_)
    found = []
    for row, report in runs:
        found.append(
            {
                "run_id": row["run_id"],
                "started_at": str(row["started_at"]),
                "state": row["last"]["state"],
                "published": row["run_id"] in published or row["run_id"] not in changed,
                "undoes": report.get("undoes") if row["last"]["state"] == STATE else None,
                "questions": report.get("questions"),
                "tokens": _sum(report.get("prompt_tokens"), report.get("completion_tokens")),
                "seconds": report.get("seconds"),
                "cost": report.get("cost"),
                "changed": dict(sorted(changed.get(row["run_id"], {}).items())),
                "stands": stands.get(row["run_id"], {}),
            }
        )
    return History(target, tuple(found))


def _standing(spark: SparkSession, job: EnrichJob) -> dict[str, dict[str, int]]:
    """By run: how many cells of each column hold what it wrote."""
    found: dict[str, dict[str, int]] = {}
    if not lake.exists(spark, job.target_place):
        return found
    target = lake.read(spark, job.target_place)
    for task in job.columns:
        if f"{task.name}_meta" in target.columns:
            run = writer(lake.col(f"{task.name}_meta")).alias("run")
            for row in target.select(run).where("run IS NOT NULL").groupBy("run").count().collect():
                found.setdefault(row["run"], {})[task.name] = int(row["count"])
    return found


def _overwritten(spark: SparkSession, job: EnrichJob, runs: set[str]) -> set[str]:
    """Of these runs, those whose values a later change found in the table."""
    if not runs:
        return set()
    found = F.get_json_object("old_meta", "$.published_run").alias("run")
    mine = store_of(job).read(spark, "changes").where(F.col("target") == job.target_place.text).select(found)
    return {row["run"] for row in mine.where(F.col("run").isin(*runs)).distinct().collect()}


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None

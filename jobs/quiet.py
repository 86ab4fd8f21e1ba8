"""Nights on which nothing can be to do: all that decides it is as it was when nothing was left to do.

What a look at the rows finds is decided by the job, the options, the code, and by versions of tables. A night that
looked at every row in vain, and one that wrote all there was to write while nobody else wrote the table, put a digest
of these on record; a night of the same digest takes over what they counted.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.source import Scope
from jobs.store import OF_PROMISES, Store
from schemas.canonical import digest
from schemas.job import Place
from schemas.options import RunOptions
from schemas.tables import QUIET
from schemas.tasks import Impute
from udfs.ask import code_digest

LEAST_ROWS = 100_000  # looking at fewer costs less than the record
# a table that was written so shortly before a look may have been written under it: clocks of writers differ
MARGIN = timedelta(minutes=1)
# what changes only how a run is told, or when it writes
OF_NO_ACCOUNT = ("json_lines", "require_complete", "publish_every_min")
SESSION = ("spark.sql.session.timeZone", "spark.sql.ansi.enabled")
HARMLESS = ("ADD COLUMNS", "OPTIMIZE")  # commits, whoever's, that leave every value as it is
MOST_HARMLESS = 10
States = dict[str, dict[str, int]]
Commit = tuple[int, datetime]


@dataclass(frozen=True)
class Context:
    """All that decides what a look at the rows finds, as a digest; `commits` are the newest of its tables."""

    digest: str
    commits: dict[str, Commit]

    def is_as_seen(self, began: datetime, known: Mapping[str, int]) -> bool:
        """Whether each table stands at its known version, or was written well before a moment."""
        return all(
            version == known[name] if name in known else moment <= began - MARGIN
            for name, (version, moment) in self.commits.items()
        )


def states_before(
    spark: SparkSession, scope: Scope, fingerprints: dict[str, str], options: RunOptions, store: Store
) -> States | None:
    """Return what an earlier look found, with nothing to do, if this night's could find nothing else."""
    if not store.exists(spark, "quiet"):
        return None
    found = context_of(spark, scope, fingerprints, options, store)
    if found is None:
        return None
    mine = (F.col("target") == scope.job.target_place.text) & (F.col("context") == found.digest)
    row = store.read(spark, "quiet").where(mine).select("states").first()
    return None if row is None else json.loads(row[0])


def note(
    spark: SparkSession,
    scope: Scope,
    fingerprints: dict[str, str],
    options: RunOptions,
    store: Store,
    *,
    states: States,
    began: datetime,
    merges: int = 0,
) -> None:
    """Put on record that nothing is left to do.

    Args:
        states: what a look at the rows finds now.
        began: when the run began.
        merges: how many MERGEs it wrote the target with; none: it has looked at every row in vain.
    """
    known: dict[str, int] = {}
    if merges:
        version = _version_left(spark, scope, merges)
        if version is None:
            return
        scope, known = replace(scope, version=version), {"source": version, "target": version}
    found = context_of(spark, scope, fingerprints, options, store)
    if found is None or not found.is_as_seen(began, known):
        return
    row = (scope.job.target_place.text, found.digest, json.dumps(states), datetime.now(UTC))
    store.append(lake.rows_of(spark, [dict(zip(QUIET, row, strict=True))], QUIET), "quiet")


def _version_left(spark: SparkSession, scope: Scope, merges: int) -> int | None:
    """Return the version of a table filled in place that a run has left behind; None where others wrote it, too."""
    source = scope.job.source
    if not scope.job.is_in_place or scope.is_narrowed or source.version is not None or source.timestamp is not None:
        return None
    history = lake.delta_table(spark, scope.job.target_place).history(merges + MOST_HARMLESS)
    commits = history.where(F.col("version") > scope.version).select("version", "operation").collect()
    told = [row["operation"] for row in commits if row["operation"] not in HARMLESS]
    newest = max((int(row["version"]) for row in commits), default=scope.version)
    is_whole = newest - scope.version == len(commits)
    return newest if is_whole and told == ["MERGE"] * merges else None


def context_of(
    spark: SparkSession, scope: Scope, fingerprints: dict[str, str], options: RunOptions, store: Store
) -> Context | None:
    """Return what decides; None where something else does: time, chance, or a table that has no versions."""
    job = scope.job
    is_open = options.keep_old or options.publish_only or job.review.top_up is not None
    # a condition with a function in it may ask for the time
    has_function = job.source.where is not None and "(" in job.source.where
    if is_open or has_function or any(isinstance(task, Impute) and task.reference for task in scope.tasks):
        return None
    places = {
        "source": Place(table=job.source.table, path=job.source.path),
        "target": job.target_place,
        **{table: store.place(table) for table in OF_PROMISES},
    }
    commits = {name: lake.newest_commit(spark, place) for name, place in places.items() if lake.exists(spark, place)}
    told = {name: value for name, value in asdict(options).items() if name not in OF_NO_ACCOUNT}
    facts: dict[str, Any] = {
        "job": job.model_dump(mode="json", by_alias=True),
        "fingerprints": fingerprints,
        "options": json.loads(json.dumps(told, default=str)),
        "read": scope.version,
        # the moment too: a table that was dropped and made anew counts its versions from the start
        "versions": {name: (version, moment.isoformat()) for name, (version, moment) in commits.items()},
        "code": code_digest(("schemas", "udfs", "jobs")),
        "session": {name: spark.conf.get(name, None) for name in SESSION},
    }
    return Context(digest(facts), commits)

"""Nights on which nothing can be to do: all that decides it is as it was on a night that looked at every row in vain.

What a look at the rows finds is decided by the job, the options, the code, and by versions of tables. A night that
finds nothing to do puts a digest of these on record; a night of the same digest takes over what that one counted.
"""

import json
from dataclasses import asdict, dataclass
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
from schemas.tables import QUIET, ddl
from schemas.tasks import Impute
from udfs.ask import code_digest

LEAST_ROWS = 100_000  # looking at fewer costs less than the record
# a table that was written so shortly before a look may have been written under it: clocks of writers differ
MARGIN = timedelta(minutes=1)
# what changes only how a run is told, or when it writes
OF_NO_ACCOUNT = ("json_lines", "require_complete", "publish_every_min")
SESSION = ("spark.sql.session.timeZone", "spark.sql.ansi.enabled")
States = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Context:
    """All that decides what a look at the rows finds, as a digest; `newest` is the last commit among its tables."""

    digest: str
    newest: datetime


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
) -> None:
    """Put on record that a look which began at a moment has found nothing to do."""
    found = context_of(spark, scope, fingerprints, options, store)
    if found is None or found.newest > began - MARGIN:
        return
    row = (scope.job.target_place.text, found.digest, json.dumps(states), datetime.now(UTC))
    store.append_quiet(spark.createDataFrame([row], ddl(QUIET)).coalesce(1))


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
    return Context(digest(facts), max(moment for _, moment in commits.values()))

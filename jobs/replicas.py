"""Replicas wherever a session's tasks run: which there are, ending warm ones by hand, ending what dead runs left."""

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from schemas.job import Engine
from udfs.hosts import TOLD_DDL, ended, listed, on_this_host, stopped

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TASKS_PER_SLOT = 4


def stop_replicas(spark: "SparkSession") -> int:
    """End this application's replicas on every executor that takes one of the tasks; return how many ended."""
    told = _everywhere(spark, partial(stopped, spark.sparkContext.applicationId))
    return sum(int(one["ended"]) for one in told)


def list_replicas(spark: "SparkSession | None") -> list[dict[str, Any]]:
    """Return this user's replicas, of whatever run, on every host that takes one of the tasks; without one, here."""
    found = {(one["host"], one["folder"]): one for one in _everywhere(spark, listed)}
    return [found[place] for place in sorted(found)]


def end_orphans(spark: "SparkSession | None") -> list[dict[str, Any]]:
    """End this user's replicas whose run is dead, wherever a task gets to; return host and number of each process."""
    found = {(one["host"], one["pid"]): one for one in _everywhere(spark, ended)}
    return [found[place] for place in sorted(found)]


def _everywhere(spark: "SparkSession | None", act: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Do something once where the driver is the only executor, else in more tasks than run at once."""
    if spark is None:
        return act()
    from jobs.asking import Cluster

    cluster = Cluster(spark, Engine())
    if cluster.is_local:
        return act()
    tasks = cluster.slots * TASKS_PER_SLOT
    rows = spark.range(0, tasks, 1, tasks).mapInPandas(on_this_host(act), TOLD_DDL).collect()
    return [one for row in rows for one in json.loads(row["told"])]

"""Leavers: rows of a separate target whose key the source no longer holds; deleted only where the job says so."""

from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.source import Scope
from jobs.store import Store, append_changes
from jobs.texts import text_of
from schemas.job import Place


def leavers(spark: SparkSession, scope: Scope) -> DataFrame | None:
    """Return the target's rows that have left the source; None where source and target are one table.

    The whole pinned source counts, whatever `where` or a time window leave out: a row out of scope is not gone.
    """
    job = scope.job
    if job.is_in_place or not scope.target_exists:
        return None
    source = lake.read(spark, Place(table=job.source.table, path=job.source.path), version=scope.version)
    there = source.select(*[lake.col(name).alias(f"s{at}") for at, name in enumerate(job.key)])
    target = lake.read(spark, job.target_place)
    return target.join(there, _same(job.key, "s"), "left_anti")


def count_leavers(spark: SparkSession, scope: Scope) -> int:
    """Count the rows that have left the source."""
    gone = leavers(spark, scope)
    return 0 if gone is None else gone.count()


def delete_leavers(spark: SparkSession, scope: Scope, store: Store, *, run_id: str) -> None:
    """Delete the rows that have left the source, their values put on record in `changes` first.

    Raises:
        ConflictError: other writers kept winning.
    """
    gone = leavers(spark, scope)
    if gone is None:
        return
    job = scope.job
    _log(gone, scope, store, run_id=run_id)
    keys = gone.select(*[lake.col(name).alias(f"k{at}") for at, name in enumerate(job.key)])
    target = lake.delta_table(spark, job.target_place)
    merge = target.alias("t").merge(keys.alias("s"), _same(job.key, "s.k", of="t")).whenMatchedDelete()
    lake.patiently(merge.execute, what=job.target_place.text)


def _same(key: tuple[str, ...], prefix: str, *, of: str | None = None) -> Column:
    pairs = [lake.col(name, of=of).eqNullSafe(F.col(f"{prefix}{at}")) for at, name in enumerate(key)]
    return reduce(lambda left, right: left & right, pairs)


def _log(gone: DataFrame, scope: Scope, store: Store, *, run_id: str) -> None:
    """Append the old value of every cell that goes; its new value is null."""
    job = scope.job
    kinds = {field.name: field.dataType for field in gone.schema}
    written = [task.name for task in scope.tasks if {task.name, f"{task.name}_meta"} <= set(kinds)]
    if not written:
        return
    cells = [
        F.struct(
            F.lit(name).alias("column"),
            text_of(lake.col(name), kinds[name]).alias("old_value"),
            F.to_json(lake.col(f"{name}_meta")).alias("old_meta"),
            lake.col(f"{name}_confidence").alias("confidence"),
            lake.col(f"{name}_meta")["question_id"].alias("question_id"),
        )
        for name in written
    ]
    keys = F.to_json(F.struct(*[lake.col(name).alias(name) for name in job.key]), {"ignoreNullFields": "false"})
    rows = gone.select(keys.alias("key"), F.explode(F.array(*cells)).alias("e")).where("e.old_value is not null")
    went = rows.select("key", "e.*", F.lit(None).alias("new_value"))
    append_changes(went, store, job, run_id=run_id)

"""`burnish undo`: the old values back from the change log, where a cell still holds what a run wrote.

One MERGE, guarded cell by cell: a value that somebody changed since, or that a later run wrote, stays. What a row of
the log says of a publish that never happened restores nothing, since no cell carries that run.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.conditions import narrowed
from jobs.judge import WRITTEN_BY, writer
from jobs.store import Store, append_changes, on_record, store_of
from jobs.texts import input_hash, text_of, type_tag, value_hash, value_of
from schemas.errors import DataContractError, JobFileError
from schemas.job import EnrichJob
from schemas.tables import RUNS
from schemas.tasks import AnyTask

STATE = "undo"


@dataclass(frozen=True)
class Restored:
    """Cells of one column: changed by the run, given their old value, left since they hold another one by now."""

    changed: int
    restored: int
    left: int


@dataclass(frozen=True)
class Undone:
    """What an undo did, or would do."""

    run_id: str
    undoes: str
    target: str
    columns: dict[str, Restored]
    is_dry: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {**vars(self), "columns": {name: vars(one) for name, one in self.columns.items()}}

    def render(self) -> Group:
        """Return the facts for a terminal."""
        done = "would restore" if self.is_dry else "restored"
        table = Table(title=f"{self.target}: undo of {self.undoes}", title_justify="left")
        table.add_column("column")
        for heading in ("changed by the run", done, "left as they are now"):
            table.add_column(heading, justify="right")
        for name, one in self.columns.items():
            table.add_row(name, f"{one.changed:,}", f"{one.restored:,}", f"{one.left:,}")
        told = (
            "nothing was written" if self.is_dry else f"on record as run {self.run_id}; it can be undone like any other"
        )
        return Group(table, Text(told))


def undo(
    spark: SparkSession,
    job: EnrichJob,
    *,
    run_id: str,
    columns: Sequence[str] = (),
    where: str | None = None,
    dry_run: bool = False,
) -> Undone:
    """Put back what a run changed.

    Args:
        run_id: the run, as `x_meta.published_run` and `burnish history` name it.
        columns: just these outputs; all by default.
        where: just the target's rows that fulfil this condition.

    Raises:
        DataContractError: the run changed nothing here, or the target is gone.
        JobFileError: a column is none of the job's, or `where` is no condition.
        ConflictError: other writers kept winning.
    """
    if unknown := sorted(set(columns) - {task.name for task in job.columns}):
        raise JobFileError(f"--column names {', '.join(unknown)}; this job writes {', '.join(_names(job.columns))}")
    store, mine = store_of(job), f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    lake.delta_table(spark, job.target_place)
    target = lake.read(spark, job.target_place)
    tasks = [task for task in job.columns if f"{task.name}_meta" in target.columns]
    chosen = [task for task in tasks if not columns or task.name in columns]
    log = _logged(spark, job, store, run_id, _names(chosen))
    back = _Back(job, target.schema, tasks, chosen, run_id, mine)
    staged = back.by_row(_narrowed(log, target, job, where))
    counts = _counted(target.alias("t").join(staged.alias("s"), back.same_row()), log, back)
    if not dry_run and any(one.restored for one in counts.values()):
        _log(job, store, target, staged, back)
        _merge(spark, job, staged, back)
        _record(spark, job, store, Undone(mine, run_id, job.target_place.text, counts))
    return Undone(mine, run_id, job.target_place.text, counts, is_dry=dry_run)


def _names(tasks: Sequence[AnyTask]) -> list[str]:
    return [task.name for task in tasks]


def _logged(spark: SparkSession, job: EnrichJob, store: Store, run_id: str, names: Sequence[str]) -> DataFrame:
    changes = store.read(spark, "changes").where(
        (F.col("run_id") == run_id) & (F.col("target") == job.target_place.text) & F.col("column").isin(*names)
    )
    if changes.isEmpty():
        raise DataContractError(
            f"run {run_id} changed nothing of {', '.join(names) or 'this job'} in {job.target_place.text}",
            hint="`burnish history` lists the runs and what each changed",
        )
    return changes


def _narrowed(log: DataFrame, target: DataFrame, job: EnrichJob, where: str | None) -> DataFrame:
    if where is None:
        return log
    rows = narrowed(target, where, what=f"--where is not a condition over {job.target_place.text}")
    return log.join(rows.select(lake.key_json(job.key).alias("key")).distinct(), "key", "left_semi")


@dataclass(frozen=True)
class _Back:
    """The expressions of the way back: `t` is the target's row, `s` what the run changed in it.

    `tasks` are all that have written the target, `chosen` those whose column is taken back, `mine` is this undo's id.
    """

    job: EnrichJob
    schema: T.StructType
    tasks: Sequence[AnyTask]
    chosen: Sequence[AnyTask]
    run: str
    mine: str

    def by_row(self, log: DataFrame) -> DataFrame:
        """One row per key: `k0`…, and per column the old and the new value as texts."""
        keys = T.StructType([self.schema[name] for name in self.job.key])
        cells = [
            F.first(F.when(F.col("column") == task.name, F.struct("old_value", "new_value")), ignorenulls=True).alias(
                f"c{at}"
            )
            for at, task in enumerate(self.chosen)
        ]
        parsed = F.from_json("key", keys).alias("parsed")
        rows = log.groupBy("key").agg(*cells).select("*", parsed)
        return rows.select("*", *[F.col("parsed")[name].alias(f"k{at}") for at, name in enumerate(self.job.key)])

    def same_row(self) -> Column:
        """Whether a row of the target is the one that the log speaks of."""
        pairs = [lake.col(name, of="t") == F.col(f"s.k{at}") for at, name in enumerate(self.job.key)]
        return reduce(lambda left, right: left & right, pairs)

    def guard(self, at: int) -> Column:
        """Whether the cell still holds what the run wrote, and says so."""
        task, cell = self.chosen[at], F.col(f"s.c{at}")
        meta, now = lake.col(f"{task.name}_meta", of="t"), self._text(task.name)
        holds = now.eqNullSafe(cell["new_value"]) & (meta["value_hash"] == value_hash(now))
        return F.coalesce(cell.isNotNull() & (writer(meta) == self.run) & holds, F.lit(False))

    def updates(self) -> dict[str, str | Column]:
        """Return column -> expression of the MERGE."""
        found: dict[str, str | Column] = {}
        for at, task in enumerate(self.chosen):
            guard, cell = self.guard(at), F.col(f"s.c{at}")
            old = value_of(cell["old_value"], self.schema[task.name].dataType)
            found[lake.quoted(task.name)] = F.when(guard, old).otherwise(lake.col(task.name, of="t"))
            for name in task.written:
                if name in self.schema.names and name not in (task.name, f"{task.name}_meta"):
                    # they described the value that is gone
                    found[lake.quoted(name)] = F.when(~guard, lake.col(name, of="t"))
        for task in self.tasks:
            if (meta := self._meta(task)) is not None:
                found[lake.quoted(f"{task.name}_meta")] = meta
        return found

    def _meta(self, task: AnyTask) -> Column | None:
        """The record of a cell: undone, or standing as it did over inputs that come back."""
        meta = lake.col(f"{task.name}_meta", of="t")
        reads_restored = any(other.name in task.inputs for other in self.chosen)
        stands = self._moved(meta, task) if reads_restored else meta
        if task not in self.chosen:
            return stands if reads_restored else None
        at = list(self.chosen).index(task)
        cell = F.col(f"s.c{at}")
        undone = {
            "status": F.lit("undone"),
            "proposed": cell["new_value"],
            "inputs_after": self._hash(task, meta["fingerprint"], restored=True),
            "value_hash": value_hash(cell["old_value"]),
            "published_run": F.lit(self.mine),
            # the value that stands now is this undo's
            "notes": F.filter(meta["notes"], lambda note: ~note.startswith(WRITTEN_BY)),
            "promise": F.lit(None).cast("string"),
        }
        changed = meta
        for name, value in undone.items():
            changed = changed.withField(name, value)
        return F.when(self.guard(at), changed).otherwise(stands)

    def _moved(self, meta: Column, task: AnyTask) -> Column:
        """An input that stood as on record, and comes back, stands as on record still: nothing is asked again."""
        before = self._hash(task, meta["fingerprint"], restored=False)
        after = self._hash(task, meta["fingerprint"], restored=True)
        moved = F.when(meta["inputs_after"] == before, after).otherwise(meta["inputs_after"])
        return F.when(meta.isNotNull(), meta.withField("inputs_after", moved))

    def _hash(self, task: AnyTask, fingerprint: Column, *, restored: bool) -> Column:
        texts = [self._as_restored(name) if restored else self._text(name) for name in task.inputs]
        tags = [type_tag(self.schema[name].dataType) for name in task.inputs]
        return input_hash(fingerprint, texts, tags)

    def _as_restored(self, name: str) -> Column:
        at = next((at for at, task in enumerate(self.chosen) if task.name == name), None)
        if at is None:
            return self._text(name)
        return F.when(self.guard(at), F.col(f"s.c{at}.old_value")).otherwise(self._text(name))

    def _text(self, name: str) -> Column:
        return text_of(lake.col(name, of="t"), self.schema[name].dataType)


def _counted(joined: DataFrame, log: DataFrame, back: _Back) -> dict[str, Restored]:
    sums = [F.count_if(back.guard(at)).alias(f"r{at}") for at in range(len(back.chosen))]
    row = joined.agg(*sums).first()
    changed = {one["column"]: int(one["count"]) for one in log.groupBy("column").count().collect()}
    found = {}
    for at, task in enumerate(back.chosen):
        if task.name in changed:
            restored = int(row[f"r{at}"]) if row is not None else 0
            found[task.name] = Restored(changed[task.name], restored, changed[task.name] - restored)
    return found


def _log(job: EnrichJob, store: Store, target: DataFrame, staged: DataFrame, back: _Back) -> None:
    """Append what the MERGE is about to change, as every publish does."""
    joined = target.alias("t").join(staged.alias("s"), back.same_row())
    entries = [
        F.when(
            back.guard(at),
            F.struct(
                F.lit(task.name).alias("column"),
                F.col(f"s.c{at}.new_value").alias("old_value"),
                F.col(f"s.c{at}.old_value").alias("new_value"),
                F.to_json(lake.col(f"{task.name}_meta", of="t")).alias("old_meta"),
                lake.col(f"{task.name}_meta", of="t")["question_id"].alias("question_id"),
            ),
        )
        for at, task in enumerate(back.chosen)
    ]
    rows = joined.select(F.col("s.key").alias("key"), F.explode(F.array_compact(F.array(*entries))).alias("e"))
    append_changes(rows.select("key", "e.*", F.lit(None).alias("confidence")), store, job, run_id=back.mine)


def _merge(spark: SparkSession, job: EnrichJob, staged: DataFrame, back: _Back) -> None:
    any_guard = reduce(lambda left, right: left | right, [back.guard(at) for at in range(len(back.chosen))])
    table = lake.delta_table(spark, job.target_place)
    builder = table.alias("t").merge(staged.alias("s"), back.same_row())
    builder = builder.whenMatchedUpdate(condition=any_guard, set=back.updates())
    lake.patiently(builder.execute, what=job.target_place.text)


def _record(spark: SparkSession, job: EnrichJob, store: Store, done: Undone) -> None:
    report = {"undoes": done.undoes, "columns": {name: vars(one) for name, one in done.columns.items()}}
    now = datetime.now(UTC)
    version = lake.latest_version(spark, job.target_place)
    row = (done.run_id, on_record(job), done.target, now, now, STATE, True, None, version, json.dumps(report))
    store.append(lake.rows_of(spark, [dict(zip(RUNS, row, strict=True))], RUNS), "runs")

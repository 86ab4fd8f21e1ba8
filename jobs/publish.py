"""Publish: from answers to the target in one MERGE whose source is only Delta tables.

Cells to write are joined to their answers, judged (acceptance, guards), gathered to one row per key in the store's
`staged` table, logged in `changes`, and merged. Every cell is guarded in the MERGE itself: it is written only where
the target still holds the inputs and the value that the plan saw; otherwise it stays pending for the next run.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs import lake
from jobs.cells import TO_DO, CellFrame
from jobs.judge import Judgement, judge
from jobs.merge import merge
from jobs.outcome import Published, changes, outcome
from jobs.store import Store, answers_by_question, append_changes
from jobs.to_do import to_do
from schemas.job import EnrichJob, Place


@dataclass(frozen=True)
class Turn:
    """Which publish of which run this is.

    `interim`: a publish in the middle of a run, where rows with a pending cell wait for a later one.
    `follows`: an earlier publish of the same run wrote rows, of which the plan's picture is out of date.
    `cells`: how many have something to be written; `is_small`: they are so few of all in scope that most answers on
    record are none of theirs.
    `check`: looks at what is staged, and how it was counted, before anything is written, and may raise.
    """

    run_id: str
    interim: bool = False
    follows: bool = False
    cells: int | None = None
    is_small: bool = False
    check: Callable[[DataFrame, Published], None] | None = None


def publish(spark: SparkSession, cells: CellFrame, store: Store, *, turn: Turn) -> Published:
    """Stage, log, merge and count what is answered.

    Raises:
        ConflictError: other writers kept winning.
    """
    staged = stage(spark, cells, store, turn=turn)
    found = outcome(staged, cells)
    if found.writes:
        if turn.check is not None:
            turn.check(staged, found)
        what = cells.scope.job.target_place.text
        lake.patiently(lambda: ensure_target(spark, cells), what=what)
        log_changes(spark, staged, cells, store, run_id=turn.run_id)
        lake.patiently(lambda: merge(spark, staged, cells, run_id=turn.run_id), what=what)
    if turn.interim:
        # the other rows are staged and counted by a later publish
        done = _written_rows(spark, cells, run_id=turn.run_id) if found.writes else staged.limit(0)
        return outcome(_with_rows(staged, done, cells, how="left_semi"), cells)
    return found


def stage(spark: SparkSession, cells: CellFrame, store: Store, *, turn: Turn) -> DataFrame:
    """Write the judged cells, one row per key, to the store's `staged` table and return it read back."""
    wanted = to_do(cells, prefixes=TO_DO)
    if turn.follows:
        wanted = _with_rows(wanted, _written_rows(spark, cells, run_id=turn.run_id), cells, how="left_anti")
    fingerprints = sorted(set(cells.fingerprints.values()))
    few = wanted if turn.is_small else None
    answers = answers_by_question(spark, store, fingerprints, wanted=few, cells=turn.cells)
    judged = judge(wanted, answers, cells)
    keys = [f"k{at}" for at in range(len(cells.scope.job.key))]
    gathered = _by_row(judged, keys, tasks=len(cells.scope.tasks))
    if turn.interim:
        for at in range(len(cells.scope.tasks)):
            gathered = gathered.where(F.coalesce(F.col(f"c{at}.status") != "pending", F.lit(True)))
    typed = gathered.select(
        *keys,
        *[_typed_cell(F.col(f"c{at}"), Judgement(cells, at)).alias(f"c{at}") for at in range(len(cells.scope.tasks))],
    )
    place = staged_place(cells.scope.job, store)
    lake.patiently(lambda: lake.replace(typed, place, note=turn.run_id), what=place.text)
    return lake.read(spark, place, version=lake.version_noted(spark, place, turn.run_id))


def staged_place(job: EnrichJob, store: Store) -> Place:
    """The table that a target's publishes stage their cells in, one after the other."""
    return store.place(f"staged_{hashlib.sha256(job.target_place.text.encode()).hexdigest()[:8]}")


def _by_row(judged: DataFrame, keys: list[str], *, tasks: int) -> DataFrame:
    """Gather the cells of each row as `c0`…; where there is one task, each is a row already."""
    if tasks == 1:
        return judged.select(*keys, F.col("judged").alias("c0"))
    cells = [F.when(F.col("task") == at, F.col("judged")) for at in range(tasks)]
    return judged.groupBy(*keys).agg(
        *[F.first(cell, ignorenulls=True).alias(f"c{at}") for at, cell in enumerate(cells)]
    )


def _written_rows(spark: SparkSession, cells: CellFrame, *, run_id: str) -> DataFrame:
    """Return the keys `k0`… of the target's rows that this run has written."""
    job = cells.scope.job
    target = lake.read(spark, job.target_place)
    metas = [lake.col(f"{task.name}_meta")["published_run"] == run_id for task in cells.scope.tasks]
    done = target.where(reduce(lambda left, right: left | right, metas))
    return done.select(*[lake.col(name).alias(f"k{at}") for at, name in enumerate(job.key)])


def _with_rows(frame: DataFrame, rows: DataFrame, cells: CellFrame, *, how: str) -> DataFrame:
    """Keep a frame's rows that are among these (`left_semi`), or are not (`left_anti`)."""
    keys = [f"k{at}" for at in range(len(cells.scope.job.key))]
    others = rows.select(*[F.col(key).alias(f"d{key}") for key in keys])
    same = [F.col(key).eqNullSafe(F.col(f"d{key}")) for key in keys]
    return frame.join(others, reduce(lambda left, right: left & right, same), how)


def _typed_cell(cell: Column, judgement: Judgement) -> Column:
    """Give the judged cell its typed value for the JSON of it; null where this row has no such cell."""
    return F.when(cell.isNotNull(), cell.withField("value", judgement.typed(cell["json"])).dropFields("json"))


def log_changes(spark: SparkSession, staged: DataFrame, cells: CellFrame, store: Store, *, run_id: str) -> None:
    """Append old and new value of every cell that the MERGE is about to change."""
    job = cells.scope.job
    keys = F.to_json(
        F.struct(*[F.col(f"k{at}").alias(name) for at, name in enumerate(job.key)]), {"ignoreNullFields": "false"}
    )
    entries = F.array(
        *[
            F.struct(
                F.lit(task.name).alias("column"),
                F.col(f"c{at}.old").alias("old_value"),
                F.col(f"c{at}.new").alias("new_value"),
                F.col(f"c{at}.old_meta").alias("old_meta"),
                F.col(f"c{at}.confidence").alias("confidence"),
                F.col(f"c{at}.question_id").alias("question_id"),
                changes(F.col(f"c{at}")).alias("changed"),
            )
            for at, task in enumerate(cells.scope.tasks)
        ]
    )
    changed = F.explode(F.filter(entries, lambda e: e["changed"])).alias("e")
    append_changes(staged.select(keys.alias("key"), changed).select("key", "e.*"), store, job, run_id=run_id)


def added_columns(cells: CellFrame, there: T.StructType) -> dict[str, str]:
    """Return the columns of this job that the target lacks, with their types."""
    kinds: dict[str, str] = {}
    for at, task in enumerate(cells.scope.tasks):
        for name, kind in Judgement(cells, at).column_types().items():
            if name not in there.names and not (task.in_place and name == task.name):
                kinds[name] = kind
    return kinds


def ensure_target(spark: SparkSession, cells: CellFrame) -> None:
    """Create a separate target on first use, and add missing columns, before anything is merged."""
    job = cells.scope.job
    if not job.is_in_place and not lake.exists(spark, job.target_place):
        keys = T.StructType([cells.scope.schema[name] for name in job.key])
        listed = [f"{lake.quoted(field.name)} {field.dataType.simpleString()}" for field in keys]
        lake.create(spark, job.target_place, ", ".join(listed))
    there = lake.read(spark, job.target_place).schema
    lake.add_columns(spark, job.target_place, added_columns(cells, there))

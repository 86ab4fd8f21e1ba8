"""What of a scope is to do: how many cells in which state, which rows, which questions. All in Catalyst."""

from collections.abc import Sequence
from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import lake
from jobs.cells import TO_ASK, TO_DO, CellFrame, Partitions, View
from jobs.source import TARGET

MOST_PARTITIONS = 100  # that a condition names


def states(cells: CellFrame) -> dict[str, dict[str, int]]:
    """Count the scope's cells per column and state, in one pass and without a row leaving the executors."""
    return counted(cells, ())[0]


def counted(cells: CellFrame, partitions: Sequence[str]) -> tuple[dict[str, dict[str, int]], Partitions]:
    """Count as `states` does, and return hashes of the values that a partitioned table's columns have in rows to do.

    A column of more values than a condition should name is left out.
    """
    names = [task.name for task in cells.scope.tasks]
    # of rows to do alone, which are few on most nights
    where = [
        F.when(_has_cell(cells, TO_DO), partition_hash(name)).alias(f"_in{at}") for at, name in enumerate(partitions)
    ]
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    found: dict[str, set[str | None]] = {name: set() for name in partitions}
    for row in cells.rows.groupBy(*[f"_state{at}" for at in range(len(names))], *where).count().collect():
        for at, name in enumerate(names):
            counts[name][row[at]] = counts[name].get(row[at], 0) + int(row["count"])
        if any(state.startswith(TO_DO) for state in row[: len(names)]):
            for at, name in enumerate(partitions, len(names)):
                found[name].add(row[at])
    return counts, {name: frozenset(one) for name, one in found.items() if len(one) <= MOST_PARTITIONS}


def within(partitions: Partitions, *, of: str | None = None) -> list[Column]:
    """Conditions that leave no partitions but these, by column: the others' files are not read."""
    found = []
    for name, values in partitions.items():
        hashed = partition_hash(name, of=of)
        there = hashed.isin(sorted(value for value in values if value is not None))
        found.append(there | hashed.isNull() if None in values else there)
    return found


def partition_hash(name: str, *, of: str | None = None) -> Column:
    """By what a partition's value is named: a plan, which shows its literals, must not show a cell."""
    return F.sha2(lake.col(name, of=of).cast("string"), 256)


def narrowed(cells: CellFrame, partitions: Partitions) -> CellFrame:
    """The same with only the rows that have something to ask or to write, and the columns that this takes.

    Args:
        partitions: by column, hashes of the values of the partitions that hold all of these rows.
    """
    names = set(cells.scope.job.key)
    for task in cells.scope.tasks:
        names |= {*task.inputs, task.name, *task.written, *(TARGET + name for name in (task.name, *task.written))}
    there = set(cells.scope.rows.columns)
    rows = cells.rows.where(_has_cell(cells, TO_DO))
    for condition in within(partitions):
        rows = rows.where(condition)
    kept = [lake.col(name) for name in rows.columns if name in names or name not in there]
    return replace(cells, rows=rows.select(*kept), partitions=partitions)


def to_do(cells: CellFrame, *, prefixes: tuple[str, ...]) -> DataFrame:
    """Return one row per cell whose state begins with one of these words: the key columns `k0`…, then the cell."""
    keys = [lake.col(name).alias(f"k{at}") for at, name in enumerate(cells.scope.job.key)]
    rows = cells.rows.where(_has_cell(cells, prefixes))
    each = F.explode(F.array(*cells.structs)) if len(cells.structs) > 1 else cells.structs[0]
    exploded = rows.select(*keys, each.alias("cell"))
    found = exploded.select(*[f"k{at}" for at in range(len(keys))], "cell.*")
    return found.where(_begins(F.col("state"), prefixes))


def _has_cell(cells: CellFrame, prefixes: tuple[str, ...]) -> Column:
    """Whether any cell's state begins so: asked first, that rows with nothing to do cost no more than their state."""
    found = F.lit(False)
    for at in range(len(cells.scope.tasks)):
        found = found | _begins(F.col(f"_state{at}"), prefixes)
    return found


def _begins(state: Column, prefixes: tuple[str, ...]) -> Column:
    found = F.lit(False)
    for prefix in prefixes:
        found = found | state.startswith(prefix)
    return found


def distinct_questions(cells: CellFrame, *, max_rows: int | None = None) -> DataFrame:
    """Return the distinct questions of cells to ask: task (name), fingerprint, question_id, inputs.

    Args:
        max_rows: take only the first so many rows, by key, that have something to ask.
    """
    parts = []
    for at, task in enumerate(cells.scope.tasks):
        view = View(cells.scope, task, at)
        parts.append(
            F.struct(
                F.col(f"_state{at}").alias("state"),
                F.lit(task.name).alias("task"),
                F.lit(cells.fingerprints[task.name]).alias("fingerprint"),
                F.col(f"_hash{at}").alias("question_id"),
                F.array(*view.texts).alias("inputs"),
            )
        )
    rows = cells.rows.where(_has_cell(cells, (TO_ASK,)))
    if max_rows is not None:
        # what failed before comes last: a few rows that never get an answer must not hold up the others
        failed = F.lit(True)
        for at in range(len(cells.scope.tasks)):
            failed = failed & (~F.col(f"_state{at}").startswith(TO_ASK) | (F.col(f"_state{at}") == "ask:failed"))
        keys = [lake.col(name) for name in cells.scope.job.key]
        rows = rows.orderBy(failed, *keys).limit(max_rows)
    exploded = rows.select(F.explode(F.array(*parts)).alias("q")).select("q.*")
    exploded = exploded.where(F.col("state").startswith(TO_ASK)).drop("state")
    return exploded.dropDuplicates(["question_id"])

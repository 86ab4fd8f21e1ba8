"""`burnish purge`: one row's text out of burnish's own tables, and what is left to do until it is out of their files.

A drawn row that goes leaves a gap in its frame's draw. It counts as a mistake there from then on, at every threshold,
since nobody knows any more what was right of it.

The target itself is the user's: nothing of it is touched. Questions are stored by the hash of their inputs, so that an
answer may serve rows of other keys too; it goes all the same, and those rows are asked again when they change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.publish import staged_place
from jobs.store import Store, store_of
from schemas.errors import DataContractError, JobFileError
from schemas.job import EnrichJob, Place

RETENTION_HOURS = 168  # Delta's own default


@dataclass(frozen=True)
class Purged:
    """How many rows of each of burnish's tables are gone, and the statements that remove them from the files."""

    key: dict[str, str]
    rows: dict[str, int]
    statements: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {**vars(self), "statements": list(self.statements)}

    def render(self) -> Group:
        """Return the facts for a terminal; the key's values are not repeated."""
        table = Table("table", title=f"purged: one row by {', '.join(self.key)}", title_justify="left")
        table.add_column("rows deleted", justify="right")
        for name, count in self.rows.items():
            table.add_row(name, f"{count:,}")
        told = [
            "Older versions of these tables still hold the text. It is out of the files when these have run:",
            *(f"  {statement}" for statement in self.statements),
            f"A shorter RETAIN than {RETENTION_HOURS} HOURS needs spark.databricks.delta.retentionDurationCheck.enabled"
            " = false, and no reader of an older version.",
        ]
        return Group(table, Text("\n".join(told)))


def purge(spark: SparkSession, job: EnrichJob, *, key: Mapping[str, str]) -> Purged:
    """Delete what burnish keeps of one row: questions, answers, changes, staged values and people's verdicts.

    Args:
        key: the row's key columns with their values as text.

    Raises:
        JobFileError: `key` names other columns than the job's key.
        DataContractError: nothing is on record of this row.
        ConflictError: other writers kept winning.
    """
    if set(key) != set(job.key):
        raise JobFileError(f"--key takes {', '.join(f'{name}=VALUE' for name in job.key)}, got {', '.join(key)}")
    store, row = store_of(job), _Row(spark, job, key)
    questions = _questions(spark, job, store, row)
    is_asked = F.col("question_id").isin(questions)
    is_ours = F.col("target") == job.target_place.text
    deletes: dict[str, tuple[Place, Column]] = {
        "questions": (store.place("questions"), is_asked),
        "answers": (store.place("answers"), is_asked),
        "changes": (store.place("changes"), is_ours & row.is_logged),
        "review": (store.place("review"), is_ours & row.is_logged),
        "framed": (store.place("framed"), row.is_logged & ~F.col("frame").isin(_frames_of_others(spark, job, store))),
        "staged": (staged_place(job, store), row.has([f"k{at}" for at in range(len(job.key))])),
    }
    there = {name: one for name, one in deletes.items() if lake.exists(spark, one[0])}
    rows = {name: row.among(lake.read(spark, place), wanted).count() for name, (place, wanted) in there.items()}
    if not any(rows.values()):
        raise DataContractError(
            "nothing is on record of this row", hint="give the key's values as the table shows them: --key id=17"
        )
    for name, (place, wanted) in there.items():
        if rows[name]:
            _delete(spark, place, row, wanted)
    statements = tuple(
        f"VACUUM {lake.sql_name(place)} RETAIN {RETENTION_HOURS} HOURS"
        for name, (place, _) in there.items()
        if rows[name]
    )
    return Purged(dict(key), rows, statements)


class _Row:
    """A key's values as one row beside a table's: in a condition they would be kept by commits and Spark's UI."""

    def __init__(self, spark: SparkSession, job: EnrichJob, key: Mapping[str, str]) -> None:
        """Make the row, `_v0` and so on; nothing is read yet."""
        self.job = job
        values = [tuple(key[name] for name in job.key)]
        self.values = spark.createDataFrame(values, ", ".join(f"_v{at} string" for at in range(len(job.key))))
        self.kinds = lake.read(spark, job.target_place).schema if lake.exists(spark, job.target_place) else None

    def has(self, names: list[str]) -> Column:
        """Whether a table's row has this key in these columns."""
        return self._same([lake.col(name) for name in names])

    @property
    def is_logged(self) -> Column:
        """Whether a key of the change log is this one; JSON writes times otherwise than a cast, so it is read first."""
        if self.kinds is None:
            return F.lit(False)
        parsed = F.from_json("key", T.StructType([self.kinds[name] for name in self.job.key]))
        return self._same([parsed[name] for name in self.job.key])

    def among(self, rows: DataFrame, wanted: Column) -> DataFrame:
        """The rows of a table that fulfil a condition about this key."""
        return rows.join(F.broadcast(self.values), wanted, "left_semi")

    def _same(self, columns: list[Column]) -> Column:
        same = F.lit(True)
        for at, column in enumerate(columns):
            same = same & (column.cast("string") == F.col(f"_v{at}"))
        return same


def _delete(spark: SparkSession, place: Place, row: _Row, wanted: Column) -> None:
    merge = lake.delta_table(spark, place).merge(row.values, wanted).whenMatchedDelete()
    lake.patiently(merge.execute, what=place.text)


def _questions(spark: SparkSession, job: EnrichJob, store: Store, row: _Row) -> list[str]:
    """The questions that this row's cells have asked: those on record in it, and those of its logged changes."""
    found: set[str] = set()
    logged = store.read(spark, "changes").where(F.col("target") == job.target_place.text)
    found |= _distinct(row.among(logged, row.is_logged), F.col("question_id"))
    if lake.exists(spark, job.target_place):
        target = lake.read(spark, job.target_place)
        mine = row.among(target, row.has(list(job.key)))
        for task in job.columns:
            if f"{task.name}_meta" in target.columns:
                found |= _distinct(mine, lake.col(f"{task.name}_meta")["question_id"])
    return sorted(found)


def _frames_of_others(spark: SparkSession, job: EnrichJob, store: Store) -> list[str]:
    # rows of a frame that was cut short while it was opened lie there under a name that is not on record
    frames = store.read(spark, "frames").where(F.col("target") != job.target_place.text)
    return sorted(_distinct(frames, F.col("frame")))


def _distinct(rows: DataFrame, question: Column) -> set[str]:
    return {row[0] for row in rows.select(question).distinct().collect() if row[0] is not None}

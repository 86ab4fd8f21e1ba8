"""What a publish did, counted from what it staged."""

from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.acceptance import CARRIED, PROMISED
from jobs.cells import NOT_ASKED, CellFrame
from jobs.merge import KEPT_META
from jobs.to_do import within


@dataclass
class ColumnOutcome:
    """What a run's publishes did to one column; counts are cells."""

    statuses: dict[str, int] = field(default_factory=dict)
    references: int = 0
    people: int = 0
    changed: int = 0
    promised: int = 0
    carried: int = 0
    touched: int = 0
    meant: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    unscored: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * 10)

    @property
    def not_scored_share(self) -> float:
        """The part of the answers staged that have no score."""
        return self.unscored / max(1, self.unscored + sum(self.bins))

    def take(self, row: dict[str, Any]) -> None:
        """Add one group of staged cells."""
        count, status = int(row["count"]), str(row["status"])
        self.statuses[status] = self.statuses.get(status, 0) + count
        self.references += count if row["source"] == "reference" else 0
        self.people += count if row["source"] == "person" else 0
        self.changed += count if row["changed"] else 0
        self.promised += count if row["promise"] == PROMISED else 0
        self.carried += count if row["promise"] == CARRIED else 0
        self.touched += 0 if row["noop"] else count
        if status not in KEPT_META and not row["noop"]:
            self.meant[status] = self.meant.get(status, 0) + count
        if row["bin"] is not None:
            self.bins[int(row["bin"])] += count
        elif status in ("accepted", "unchanged", "review") and not row["source"]:
            self.unscored += count

    def add(self, other: "ColumnOutcome") -> None:
        """Add what another publish of the same run did."""
        for mine, theirs in ((self.statuses, other.statuses), (self.meant, other.meant)):
            for status, count in theirs.items():
                mine[status] = mine.get(status, 0) + count
        self.references += other.references
        self.people += other.people
        self.changed += other.changed
        self.promised += other.promised
        self.carried += other.carried
        self.touched += other.touched
        self.unscored += other.unscored
        self.bins = [mine + theirs for mine, theirs in zip(self.bins, other.bins, strict=True)]

    def confirm(self, written: dict[str, int]) -> None:
        """Make `pending` what was meant to be written and is not: it changed under way.

        Args:
            written: the target's cells of this run, by status.
        """
        for status, meant in self.meant.items():
            lost = max(0, meant - written.get(status, 0))
            self.statuses[status] -= lost
            self.statuses["pending"] = self.statuses.get("pending", 0) + lost
            self.lost += lost


@dataclass(frozen=True)
class Published:
    """What the publishes of a run did, column by column."""

    columns: dict[str, ColumnOutcome]

    @property
    def writes(self) -> bool:
        """Whether any cell of the target is to be touched."""
        return any(column.touched for column in self.columns.values())

    @property
    def failed(self) -> int:
        """How many cells have no answer, tonight's and those on record that were looked at again."""
        return sum(column.statuses.get("failed", 0) for column in self.columns.values())

    def add(self, other: "Published") -> None:
        """Add another publish of the same run."""
        for name, outcome in other.columns.items():
            self.columns[name].add(outcome)


def changes(cell: Column) -> Column:
    """Whether a staged cell changes the value that stands in the target."""
    return F.coalesce(cell["write"] & ~cell["new"].eqNullSafe(cell["old"]), F.lit(False))


def _bin(confidence: Column) -> Column:
    """Which tenth a confidence is in; null where there is none, which `least` would pass over."""
    return F.when(confidence.isNotNull(), F.least(F.floor(confidence * 10), F.lit(9)))


def outcome(staged: DataFrame, cells: CellFrame) -> Published:
    """Count what was staged: per column the statuses, the reference hits, the confidences in ten bins."""
    tasks, not_asked = cells.scope.tasks, F.array(*map(F.lit, NOT_ASKED))
    entries = F.array(
        *[
            F.struct(
                F.lit(at).alias("task"),
                F.col(f"c{at}.status").alias("status"),
                F.get(F.array_intersect(F.col(f"c{at}.notes"), not_asked), F.lit(0)).alias("source"),
                changes(F.col(f"c{at}")).alias("changed"),
                F.col(f"c{at}.promise").alias("promise"),
                F.col(f"c{at}.noop").alias("noop"),
                _bin(F.col(f"c{at}.confidence")).alias("bin"),
            )
            for at in range(len(tasks))
        ]
    )
    exploded = staged.select(F.explode(F.filter(entries, lambda e: e["status"].isNotNull())).alias("e")).select("e.*")
    found = Published({task.name: ColumnOutcome() for task in tasks})
    for row in exploded.groupBy(*exploded.columns).count().collect():
        found.columns[tasks[row["task"]].name].take(row.asDict())
    return found


def confirm(spark: SparkSession, published: Published, cells: CellFrame, *, run_id: str) -> None:
    """Compare what a run meant to write with the target's cells that carry it as `published_run`."""
    tasks = cells.scope.tasks
    counted = []
    for at, task in enumerate(tasks):
        meta = lake.col(f"{task.name}_meta")
        for status in published.columns[task.name].meant:
            is_there = (meta["published_run"] == run_id) & (meta["status"] == status)
            counted.append(F.count_if(is_there).alias(f"{at}:{status}"))
    there = lake.read(spark, cells.scope.job.target_place)
    for condition in within(cells.partitions):
        there = there.where(condition)
    row = there.select(*counted).first() if counted else None
    for at, task in enumerate(tasks):
        column = published.columns[task.name]
        column.confirm({status: int(row[f"{at}:{status}"]) if row is not None else 0 for status in column.meant})

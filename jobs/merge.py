"""The one MERGE of a publish: `t` is the target's row as it stands, `s` the staged one."""

from functools import reduce

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs import lake
from jobs.cells import CellFrame
from jobs.columns import compared
from jobs.texts import input_hash, seen, text_of, type_tag, value_hash
from jobs.to_do import within
from schemas.job import EnrichJob
from schemas.tables import META_DDL, META_FIELDS
from schemas.tasks import AnyTask

KEPT_META = ("pending", "kept")  # these change the status and leave everything else as it was


def merge(spark: SparkSession, staged: DataFrame, cells: CellFrame, *, run_id: str) -> None:
    """Write the staged cells into the target with one MERGE."""
    job = cells.scope.job
    target = lake.delta_table(spark, job.target_place)
    writer = _Writer(cells, target, run_id)
    writes = [F.coalesce(~F.col(f"c{at}.noop"), F.lit(False)) for at in range(len(cells.scope.tasks))]
    staged = staged.where(reduce(lambda left, right: left | right, writes))
    # no key in scope is null (see jobs.source.check_keys), and plain equality joins at half the cost of <=>
    same = [lake.col(name, of="t") == F.col(f"s.k{at}") for at, name in enumerate(job.key)]
    # Others' partitions are not read, nor does the MERGE conflict with those who write them. A row that has left its
    # partition meanwhile has changed under way, and waits for the next run.
    on = reduce(lambda left, right: left & right, (*same, *within(cells.partitions, of="t")))
    builder = target.alias("t").merge(staged.alias("s"), on)
    # A condition would have the MERGE read and compute all that guards a cell twice, first to see which files to touch.
    # All staged rows have something to write: one that changed under way is written as it stands.
    builder = builder.whenMatchedUpdate(set=writer.updates())
    if not job.is_in_place:
        builder = builder.whenNotMatchedInsert(values=writer.inserts())
    builder.execute()


class _Writer:
    """The expressions of the MERGE."""

    def __init__(self, cells: CellFrame, target: DeltaTable, run_id: str) -> None:
        self.cells = cells
        self.job: EnrichJob = cells.scope.job
        self.tasks = cells.scope.tasks
        self.schema = target.toDF().schema
        self.run_id = run_id
        self.guards = [self._guard(at) for at in range(len(self.tasks))]

    def updates(self) -> dict[str, str | Column]:
        """Return column -> expression of the matched update."""
        found: dict[str, str | Column] = {}
        for at in range(len(self.tasks)):
            for name, value in self._cell(at).items():
                is_meta = name == f"{self.tasks[at].name}_meta"
                stands = self._standing(self.tasks[at]) if is_meta else lake.col(name, of="t")
                found[lake.quoted(name)] = F.when(self.guards[at], value).otherwise(stands)
        for task in self.cells.scope.bystanders:
            if self._rewrites(task):
                found[lake.quoted(f"{task.name}_meta")] = self._standing(task)
        return found

    def inserts(self) -> dict[str, str | Column]:
        """Return column -> expression of the insert into a separate target."""
        found: dict[str, str | Column] = {lake.quoted(name): F.col(f"s.k{at}") for at, name in enumerate(self.job.key)}
        for at in range(len(self.tasks)):
            there = F.col(f"s.c{at}").isNotNull()
            for name, value in self._cell(at, inserted=True).items():
                found[lake.quoted(name)] = F.when(there, value)
        return found

    def _text(self, name: str, *, of: str = "t") -> Column:
        return text_of(lake.col(name, of=of), self.schema[name].dataType)

    def _guard(self, at: int) -> Column:
        """The cell is staged, and the target holds the value and the inputs that the plan saw."""
        task, cell = self.tasks[at], F.col(f"s.c{at}")
        stands = [(lake.col(name, of="t"), self.schema[name].dataType) for name in compared(self.job, task)]
        return F.coalesce(cell.isNotNull() & ~cell["noop"] & (seen(stands) == cell["seen"]), F.lit(False))

    def _hash(self, task: AnyTask, fingerprint: str | Column, written: dict[str, Column]) -> Column:
        texts = [written.get(name, self._text(name)) for name in task.inputs]
        tags = [type_tag(self.schema[name].dataType) for name in task.inputs]
        return input_hash(fingerprint, texts, tags)

    def _rewrites(self, task: AnyTask) -> bool:
        """Whether this publish may write a column that a task reads."""
        return self.job.is_in_place and any(other.name in task.inputs for other in self.tasks)

    def _standing(self, task: AnyTask) -> Column:
        """The record of a cell that is not written: an input that stood as on record, and is written, still does."""
        meta = lake.col(f"{task.name}_meta", of="t")
        if not self._rewrites(task):
            return meta
        before = self._hash(task, meta["fingerprint"], {})
        after = self._hash(task, meta["fingerprint"], self._after())
        moved = F.when(meta["inputs_after"] == before, after).otherwise(meta["inputs_after"])
        return F.when(meta.isNotNull(), meta.withField("inputs_after", moved))

    def _after(self) -> dict[str, Column]:
        """Return the text of every column that this publish may write, as it will stand."""
        found = {}
        for at, task in enumerate(self.tasks):
            cell = F.col(f"s.c{at}")
            writes = self.guards[at] & cell["write"]
            found[task.name] = F.when(writes, cell["new"]).otherwise(self._text(task.name))
        return found

    def _cell(self, at: int, *, inserted: bool = False) -> dict[str, Column]:
        task, cell = self.tasks[at], F.col(f"s.c{at}")
        keep = cell["status"].isin(*KEPT_META)

        def unless_kept(name: str, value: Column) -> Column:
            before = F.lit(None) if inserted else lake.col(name, of="t")
            return F.when(keep, before).otherwise(value)

        before = F.lit(None).cast(task_type(self.schema, task.name)) if inserted else lake.col(task.name, of="t")
        found = {
            task.name: F.when(cell["write"], cell["value"]).otherwise(before),
            f"{task.name}_confidence": unless_kept(f"{task.name}_confidence", cell["confidence"]),
            f"{task.name}_error": unless_kept(f"{task.name}_error", cell["error"]),
            f"{task.name}_meta": self._meta(at, inserted=inserted),
        }
        for suffix in ("scores", "score"):
            if f"{task.name}_{suffix}" in task.written:
                found[f"{task.name}_{suffix}"] = unless_kept(f"{task.name}_{suffix}", cell[suffix])
        return found

    def _meta(self, at: int, *, inserted: bool) -> Column:
        task, cell = self.tasks[at], F.col(f"s.c{at}")
        keep = cell["status"].isin(*KEPT_META)
        old = F.lit(None).cast(META_DDL) if inserted else self._standing(task)
        # the guard has found the inputs as planned; they differ afterwards only where this publish writes one of them
        fingerprint = self.cells.fingerprints[task.name]
        inputs_after = self._hash(task, fingerprint, self._after()) if self._rewrites(task) else cell["hash"]
        stands = F.when(cell["write"], cell["new"]).otherwise(cell["old"])
        fresh = {
            "inputs_after": inputs_after,
            "value_hash": value_hash(stands),
            "published_run": F.lit(self.run_id),
        }
        fields = []
        for name, kind in META_FIELDS.items():
            if name == "status":
                fields.append(cell["status"].alias(name))
            else:
                new = fresh[name] if name in fresh else cell[name]
                fields.append(F.when(keep, old[name]).otherwise(new).cast(kind).alias(name))
        return F.struct(*fields)


def task_type(schema: T.StructType, name: str) -> str:
    """Return a column's type as DDL."""
    return schema[name].dataType.simpleString()

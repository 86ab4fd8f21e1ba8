"""A small Delta table, a job over it and the endpoint that it asks: what the tests of whole runs have in common."""

import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from rich.console import Console

from jobs import lake
from jobs.result import RunResult
from jobs.run import run
from jobs.session import SMALL_TABLES
from jobs.store import Store, store_of
from schemas.job import EnrichJob, Place
from schemas.options import RunOptions
from tests.scripted_endpoint import Asked, ScriptedEndpoint

JVM_OPTIONS = "JDK_JAVA_OPTIONS"
# For each file Hadoop starts a process that sets its mode, and another one for the file with its checksums.
FILES = (
    "-Djdk.lang.Process.launchMechanism=VFORK -Dspark.hadoop.fs.file.impl=org.apache.hadoop.fs.RawLocalFileSystem "
    "-Dspark.hadoop.fs.AbstractFileSystem.file.impl=org.apache.hadoop.fs.local.RawLocalFs"
)
QUICK = f"-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC {FILES}"
# The second compiler's work pays after minutes of use: what is called ten times as often as by default is worth it.
LASTING = (
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 -XX:Tier4CompileThreshold=150000 "
    f"-XX:Tier4BackEdgeThreshold=400000 -XX:ReservedCodeCacheSize=400m -XX:+UseSerialGC {FILES}"
)
TOPIC = {"task": "classify", "name": "topic", "from": ["text"], "labels": ["refund", "delivery", "other"]}


def quick_jvms() -> None:
    """Have JVMs that start from here on compile quickly and collect in one thread: each lives for a minute, on a core.

    With the first compiler alone Java keeps 48 MB for code, and spends its time throwing code away and making it anew.
    """
    os.environ.setdefault(JVM_OPTIONS, QUICK)


@contextmanager
def lasting_jvm() -> Iterator[None]:
    """Have a JVM that starts in this block compile well what it does often: it serves all tests of a process."""
    before = os.environ.get(JVM_OPTIONS)
    if before == QUICK:
        os.environ[JVM_OPTIONS] = LASTING
    try:
        yield
    finally:
        if before is not None:
            os.environ[JVM_OPTIONS] = before


def for_small_tables(session: SparkSession) -> SparkSession:
    """Have a session interpret its plans, and list folders in a few tasks: VACUUM takes 10,000 else."""
    for name, value in SMALL_TABLES.items():
        session.conf.set(name, value)
    session.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", "2")
    return session


@dataclass
class Shop:
    """One source table in a folder of its own."""

    spark: SparkSession
    folder: Path
    endpoint: ScriptedEndpoint

    @property
    def path(self) -> str:
        """Where the source is."""
        return str(self.folder / "t")

    def write(self, rows: Sequence[tuple[Any, ...]], ddl: str, *, mode: str = "overwrite", **words: Any) -> None:
        """Write the source table, its rows in one file (a partition)."""
        frame = self.spark.createDataFrame(rows, ddl).coalesce(1)
        writer = frame.write.format("delta").mode(mode).options(**words.pop("options", {}))
        writer.partitionBy(*words.get("partitions", ())).save(self.path)

    def sql(self, text: str) -> None:
        """Run a statement in which {t} is the source table."""
        self.spark.sql(text.format(t=f"delta.`{self.path}`"))

    def job(self, *columns: dict[str, Any], **words: Any) -> EnrichJob:
        """Declare a job over the table, in place unless a target is named."""
        found = {"source": {"path": self.path}, "key": ["id"], "model": self.endpoint.model, "accept": 0.5} | words
        return EnrichJob.model_validate(found | {"columns": list(columns)})

    def run(self, job: EnrichJob, **options: Any) -> RunResult:
        """Run it; the statuses of every column must sum to the rows in scope."""
        result = run(self.spark, job, options=RunOptions(**options))
        for name, column in result.columns.items():
            assert sum(column["statuses"].values()) == result.prepared.rows, (name, column)
            assert min(column["statuses"].values()) >= 0, (name, column)
        assert self.spark._jsparkSession.sharedState().cacheManager().isEmpty(), "rows stay in memory"
        return result

    def frame(self, job: EnrichJob | None = None) -> DataFrame:
        """Return the target of a job, or the source."""
        return lake.read(self.spark, job.target_place if job else Place(path=self.path))

    def rows(self, job: EnrichJob | None = None, *, key: str = "id") -> dict[Any, Any]:
        """Return the target's rows by key."""
        return {row[key]: row for row in self.frame(job).collect()}

    def version(self, job: EnrichJob | None = None) -> int:
        """Return the target's newest version."""
        return lake.latest_version(self.spark, job.target_place if job else Place(path=self.path))

    def store(self, job: EnrichJob) -> Store:
        """Return the job's store."""
        return store_of(job)

    def kept(self, name: str) -> Path:
        """Copy all tables beside their folder, for `put_back`."""
        return Path(shutil.copytree(self.folder, self.folder.with_name(name)))

    def put_back(self, folder: Path, kept: Path) -> "Shop":
        """Become the shop of a folder that holds again what was kept: under one name it serves several tests."""
        self.folder = folder
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        self.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
        return self

    def judge(self, job: EnrichJob, truth: str) -> None:
        """Answer every open row in the review table itself: of each cell this is the right value."""
        place, right = self.store(job).place("review"), f"'{json.dumps(truth)}'"
        self.spark.sql(
            f"UPDATE {lake.sql_name(place)} SET verdict = IF(value = {right}, 'yes', 'no'), reviewer = 'she', "
            f"correction = IF(value = {right}, NULL, {right}), reviewed_at = current_timestamp() WHERE verdict IS NULL"
        )

    def changes(self, job: EnrichJob, run_id: str) -> set[tuple[str, str, str | None, str | None]]:
        """Return (key, column, old, new) of one run's change log."""
        logged = self.store(job).read(self.spark, "changes").where(f"run_id = '{run_id}'").collect()
        return {(row["key"], row["column"], row["old_value"], row["new_value"]) for row in logged}


@contextmanager
def setting(spark: SparkSession, name: str, value: str) -> Iterator[None]:
    """Give the session a setting for as long as the block lasts."""
    before = spark.conf.get(name, None)
    spark.conf.set(name, value)
    try:
        yield
    finally:
        spark.conf.unset(name) if before is None else spark.conf.set(name, before)


def counts(result: RunResult, name: str) -> dict[str, int]:
    """Return a column's statuses that occur."""
    return {status: count for status, count in result.columns[name]["statuses"].items() if count}


def column(rows: dict[Any, Any], name: str, keys: Iterable[Any] | None = None) -> list[Any]:
    """Return one column's values by ascending key."""
    return [rows[key][name] for key in (sorted(rows) if keys is None else keys)]


def once(action: Callable[[], None]) -> Callable[[Asked], None]:
    """A script that does something when the first question comes, and then answers as usual."""
    lock, done = threading.Lock(), threading.Event()

    def script(asked: Asked) -> None:
        with lock:
            if not done.is_set():
                done.set()
                action()

    return script


def told_by(result: Any) -> str:
    """What a result shows on a wide terminal."""
    out = io.StringIO()
    Console(file=out, width=300).print(result.render())
    return out.getvalue()

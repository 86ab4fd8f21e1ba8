"""What every part of the benchmark stands on: a session, a folder that goes with it, clocks, job files, memory."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pyspark.sql import SparkSession

from jobs.session import spark_session
from schemas.job import EnrichJob
from udfs.standing import stop_all

T = TypeVar("T")
MIB = 1024**2


@dataclass
class Bench:
    """One part's surroundings."""

    spark: SparkSession
    folder: Path
    quick: bool
    rounds: int
    clock: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def size(self, full: int, *, quick: int) -> int:
        """Return a number of rows for this run's scale."""
        return quick if self.quick else full

    def path(self, name: str) -> str:
        """Return where a table or model of this part lies."""
        return str(self.folder / name)

    def timed(self, what: str, call: Callable[[], T]) -> T:
        """Call, and keep how long it took under a name, and how long the JVM's threads worked for it."""
        began, worked = time.monotonic(), self._jvm_cpu_sec()
        found = call()
        seconds, worked = time.monotonic() - began, self._jvm_cpu_sec() - worked
        self.clock.setdefault(what, []).append(seconds)
        self.cpu.setdefault(what, []).append(worked)
        print(f"  {what}: {seconds:.2f} s, CPU {worked:.1f} s", flush=True)
        return found

    def _jvm_cpu_sec(self) -> float:
        """User and system time of the JVM so far; unlike the clock, a busy machine changes it little."""
        stat = Path(f"/proc/{self.jvm_pid}/stat")
        if not stat.is_file():
            return 0.0
        fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def jvm_pid(self) -> int:
        """The executor's JVM, which on a local master is the driver's."""
        jvm: Any = self.spark.sparkContext._jvm
        return int(jvm.java.lang.ProcessHandle.current().pid())

    def heap_mib(self) -> float:
        """Heap in use after a collection."""
        jvm: Any = self.spark.sparkContext._jvm
        jvm.System.gc()
        runtime = jvm.java.lang.Runtime.getRuntime()
        return float(runtime.totalMemory() - runtime.freeMemory()) / MIB

    def commits(self, *paths: str) -> int:
        """Count the commits in the logs of these tables."""
        return sum(len(list((Path(path) / "_delta_log").glob("*.json"))) for path in paths)


@contextmanager
def opened(*, quick: bool, rounds: int) -> Iterator[Bench]:
    """Yield a part's surroundings and clean up behind it."""
    folder = Path(tempfile.mkdtemp(prefix="burnish-bench-"))
    spark = spark_session("burnish-bench", folder=folder)
    try:
        yield Bench(spark, folder, quick, rounds)
    finally:
        stop_all(spark.sparkContext.applicationId)
        spark.catalog.clearCache()
        shutil.rmtree(folder, ignore_errors=True)


def rss_mib() -> float:
    """Memory that this process holds now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def job_on(path: str, *columns: dict[str, Any], model: Any, **more: Any) -> EnrichJob:
    """Return a job over the Delta table at `path`, in place, keyed by `id`, whose engine stays warm."""
    declared = {"source": {"path": path}, "key": ["id"], "model": model, "columns": list(columns)}
    return EnrichJob.model_validate(declared | {"engine": {"keep_warm_min": 30.0}} | more)

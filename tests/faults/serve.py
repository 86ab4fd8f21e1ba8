"""A driver on a small cluster that runs one job after another: `python -m tests.faults.serve MASTER WAVES`.

Each line of its input is a job file; what came of the run is written beside it, as `report.json`. It ends with its
input. `driver_in` starts one and keeps it: starting a cluster takes as long as a case does.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.run import run
from jobs.session import local_settings
from schemas.options import RunOptions
from schemas.yaml_file import load_job
from tests.faults.drive import HOME, cut_into
from tests.shop import for_small_tables

REPORT = "report.json"


class Driver:
    """A driver process on a small cluster, which takes one job after another."""

    def __init__(self, folder: Path, master: str, waves: int) -> None:
        """Start it; it ends with this process, whose end it hears of as the end of its input."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "driver.log"
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.serve", master, str(waves)],
                env={**os.environ, "PYTHONPATH": str(HOME)},
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                text=True,
            )

    def run(self, file: Path) -> None:
        """Have it run a job file, and wait for nothing."""
        assert self.child.stdin is not None
        self.child.stdin.write(f"{file}\n")
        self.child.stdin.flush()

    def lives(self) -> bool:
        """Whether it can take a job."""
        return self.child.poll() is None

    def end(self) -> None:
        """Leave nothing of it behind."""
        if self.lives():
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()


_DRIVERS: dict[Path, Driver] = {}


def driver_in(folder: Path, master: str, waves: int) -> Driver:
    """The driver that works in this folder; another one where the last one did not end well."""
    if folder not in _DRIVERS or not _DRIVERS[folder].lives():
        _DRIVERS[folder] = Driver(folder, master, waves)
    return _DRIVERS[folder]


def main() -> None:
    """Run what comes."""
    master, count = sys.argv[1:]
    cut_into(int(count))
    spark = for_small_tables(_cluster(master))
    for line in sys.stdin:
        file = Path(line.strip())
        part = file.with_name(f"{REPORT}.part")
        part.write_text(json.dumps(_told(spark, file)), encoding="utf-8")
        part.rename(file.with_name(REPORT))


def _told(spark: SparkSession, file: Path) -> dict[str, Any]:
    """What the run reports, with the application's id; or the problem that ended it."""
    try:
        told = run(spark, load_job(file), options=RunOptions()).as_dict()
    except Exception:  # noqa: BLE001 - whatever it is, the campaign is to hear of it
        told = {"problem": traceback.format_exc()[-2000:]}
    return told | {"app": spark.sparkContext.applicationId}


def _cluster(master: str) -> SparkSession:
    """A session on a small cluster of processes, whose executors import this checkout."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = local_settings(cores=2) | {
        "spark.master": master,
        "spark.executor.memory": "768m",
        "spark.executorEnv.PYTHONPATH": str(HOME),
        "spark.task.maxFailures": "8",
        # one is killed in many a case
        "spark.deploy.maxExecutorRetries": "-1",
    }
    builder = SparkSession.builder.appName("burnish-faults")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


if __name__ == "__main__":
    main()

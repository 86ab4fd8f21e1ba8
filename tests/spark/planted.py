"""Commands in a session that keeps an event log and serves its UI: `python -m tests.spark.planted FACTS.json`.

A session of its own, hence a process of its own. What the UI and its REST service say is written into a folder.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from pyspark.sql import SparkSession

from jobs.cli import main as burnish
from jobs.run import run
from jobs.session import local_settings
from schemas.options import RunOptions
from schemas.yaml_file import load_job

PAGES = {
    "environment": "environment",
    "sql": "sql?details=true&planDescription=true&offset=0&length=5000",
    "jobs": "jobs",
    "stages": "stages?details=true&withSummaries=true",
    "executors": "allexecutors",
    "storage": "storage/rdd",
}
BEGUN, ENDED = "=== begun: ", "=== ended with "
FIRST = "FIRST-RUN"


def session(folder: Path) -> SparkSession:
    """Start what a cluster has and a local session has not: a UI, an event log, and all that Spark logs."""
    (folder / "events").mkdir()
    settings = local_settings(cores=2, folder=folder) | {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": (folder / "events").as_uri(),
        "spark.eventLog.compress": "false",
        "spark.ui.enabled": "true",
        "spark.ui.port": "0",
        "spark.log.level": "INFO",
        "spark.sql.shuffle.partitions": "2",
    }
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName("burnish-planted")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def do(words: list[str]) -> None:
    """Run one command as the command line does."""
    print(f"{BEGUN}{' '.join(words)}", flush=True)
    sys.argv = ["burnish", *words]
    try:
        if words[0] == "call":
            # as a notebook does: the command's own checks refuse an engine that is scripted
            print(json.dumps(run(SparkSession.active(), load_job(Path(words[1])), options=RunOptions()).as_dict()))
            sys.exit(0)
        burnish()
    except SystemExit as ended:
        print(f"{ENDED}{ended.code}", flush=True)


def main() -> None:
    """Do all commands, then ask the UI for everything."""
    facts: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(facts["folder"])
    spark = session(folder)
    for words in facts["commands"]:
        if FIRST in words:
            done = spark.read.format("delta").load(facts["runs"]).where("state = 'done'").orderBy("started_at").first()
            words = [str(done["run_id"]) if word == FIRST and done is not None else word for word in words]
        do(words)
    context = spark.sparkContext
    for name, page in PAGES.items():
        address = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/{page}"
        with urlopen(address, timeout=60) as answer:
            (folder / f"ui-{name}.json").write_bytes(answer.read())
    with urlopen(f"{context.uiWebUrl}/environment/", timeout=60) as answer:
        (folder / "ui-environment.html").write_bytes(answer.read())
    spark.stop()


if __name__ == "__main__":
    main()

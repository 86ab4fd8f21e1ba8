"""Questions asked on a small cluster of real executors: `python -m tests.spark.two_executors FACTS.json`.

A session of its own, hence a process of its own. Prints what came of it, as JSON, on its last line.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.asking import Cluster, ready_model, spec_of
from jobs.replicas import stop_replicas
from schemas.job import EnrichJob
from tests.scripted_engine import Book
from udfs.ask import OUTPUT_DDL, asker
from udfs.processes import PROC

HOME = Path(__file__).parents[2]


def session(facts: dict[str, Any]) -> SparkSession:
    """Start a cluster of processes on this machine whose workers hand out GPU addresses by a discovery script."""
    gpus = facts["gpus_per_executor"]
    settings = {
        "spark.master": f"local-cluster[{facts['executors']},2,1024]",
        "spark.executor.memory": "768m",
        "spark.executorEnv.PYTHONPATH": str(HOME),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.worker.resource.gpu.amount": str(gpus),
        "spark.worker.resource.gpu.discoveryScript": facts["discovery"],
        "spark.executor.resource.gpu.amount": str(gpus),
        "spark.task.resource.gpu.amount": str(facts["gpus_per_task"]),
    }
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName("burnish-executors")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def executors() -> list[int]:
    """Return the executors' JVMs that this driver started."""
    found = []
    for entry in PROC.iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if entry.name.isdigit() and b"org.apache.spark.executor.CoarseGrainedExecutorBackend" in command:
            found.append(int(entry.name))
    return sorted(found)


def lose_one(book: Book, *, after: int) -> None:
    """Kill an executor's JVM once so many prompts were asked."""
    while len(book.asked) < after:
        time.sleep(0.02)
    os.kill(executors()[0], signal.SIGKILL)


def main() -> None:
    """Ask about every row, and tell what came of it."""
    facts = json.loads(Path(sys.argv[1]).read_text())
    spark, book = session(facts), Book(Path(facts["book"]))
    job = EnrichJob.model_validate({"source": {"path": "nowhere"}, "key": ["id"], **facts["job"]})
    spec = spec_of(spark, job, ready_model(job), run_id="run")
    rows = [("topic", "f", str(number), [f"the {number}th parcel is late"]) for number in range(facts["rows"])]
    questions = spark.createDataFrame(rows, "task string, fingerprint string, question_id string, inputs array<string>")
    if facts["kill_after"]:
        threading.Thread(target=lose_one, args=(book,), kwargs={"after": facts["kill_after"]}, daemon=True).start()
    answers = questions.repartition(facts["partitions"]).mapInPandas(asker(spec), OUTPUT_DDL)
    answered = [row["question_id"] for row in answers.where("status = 'ok'").select("question_id").collect()]
    told = {"answered": len(answered), "distinct": len(set(answered)), "replicas": Cluster(spark, job.engine).replicas}
    told["stopped"] = stop_replicas(spark)
    spark.stop()
    print(json.dumps(told))


if __name__ == "__main__":
    main()

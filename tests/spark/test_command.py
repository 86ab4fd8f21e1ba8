"""The command itself, as a scheduler sees it: signals, exit codes, one JSON object, and no cell in what it prints."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.logger import PySparkLogger

from jobs.cli import main
from jobs.spark_problems import LOGGERS
from jobs.status import status
from schemas.tables import BUCKETS
from schemas.yaml_file import load_job
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop, counts, told_by
from tests.spark.test_conflicts import once

ROOT = Path(__file__).parents[2]
ROWS, POISONED = 120, 12
SECRET = "hunter2-hunter2"
BURNISH = [sys.executable, "-c", "from jobs.cli import main; main()"]


def job_file(shop: Shop, *columns: dict[str, Any], **words: Any) -> str:
    """Write a job file over the shop's table."""
    job = {"source": {"path": shop.path}, "key": ["id"], "model": shop.endpoint.model, "accept": 0.5} | words
    file = shop.folder / "job.yaml"
    file.write_text(yaml.safe_dump(job | {"columns": list(columns)}))
    return str(file)


class Gate:
    """A script that answers ten questions a second, and none while the gate is shut."""

    def __init__(self) -> None:
        self.is_open, self.turn = threading.Event(), threading.Lock()
        self.seconds = 0.1
        self.is_open.set()

    def __call__(self, asked: Asked) -> int | None:
        with self.turn:
            time.sleep(self.seconds)
        self.is_open.wait(60)
        return 400 if "poison" in asked.text else None


def committed(folder: Path) -> int:
    """Count the rows that a table's commits have added, without a word from Spark."""
    lines = [json.loads(line) for file in folder.glob("_delta_log/*.json") for line in file.read_text().splitlines()]
    return sum(
        int(line["commitInfo"]["operationMetrics"].get("numOutputRows", 0)) for line in lines if "commitInfo" in line
    )


def stopped(gate: Gate, file: str, number: signal.Signals, *, when: Callable[[], bool]) -> tuple[int, str, str]:
    """Start the command and send it a signal in the middle of a wave; return its exit code, stdout and stderr."""
    gate.is_open.set()
    command = [*BURNISH, "run", file, "--json"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not when() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    gate.is_open.clear()
    child.send_signal(number)
    out, told = child.communicate(timeout=60)
    return child.returncode, out, told


def test_a_run_that_is_stopped_or_killed_goes_on_with_what_is_left(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ["poison"] * POISONED + ["refund"] * (ROWS - POISONED)
    shop.write([(at, f"{kind} {at} " + "long " * 200) for at, kind in enumerate(kinds)], "id long, text string")
    gate = Gate()
    shop.endpoint.script = gate
    monkeypatch.setenv("TOKEN", SECRET)
    words = {"engine": {"vllm": {"hf-token": "${env:TOKEN}"}}}
    # more may fail than do: on a slow machine waves are short, and asking stops at the border of one
    file = job_file(shop, TOPIC, limits={"max_failed_share": 0.5}, **words)
    job = load_job(Path(file))
    # the first waves of the others are sized by the speed of this one
    shop.run(job.model_copy(update={"limits": job.limits.model_copy(update={"max_rows": 1})}))
    before, answers = shop.version(), Path(f"{shop.path}_burnish/answers")
    whens = {
        # a wave of the first is committed; what the others ask is lost and asked again
        signal.SIGTERM: lambda: committed(answers) > 1,
        signal.SIGINT: lambda: len(shop.endpoint.asked) > 5,
        signal.SIGKILL: lambda: len(shop.endpoint.asked) > 5,
    }
    printed = []
    for number, when in whens.items():
        shop.endpoint.taken()
        code, out, told = stopped(gate, file, number, when=when)
        printed.append(told)
        killed = number == signal.SIGKILL
        assert (code, out) == (-9 if killed else 128 + number, ""), told
        assert ("the same command continues" in told, "Traceback" in told) == (not killed, False), told
        # answers are kept, and nothing half is published
        assert 1 < committed(answers) < ROWS
        assert shop.version() == before
    under_way = status(shop.spark, job).under_way
    assert under_way is not None
    assert (under_way["state"], under_way["alive"]) == ("running", False)
    assert "is dead: its process is gone" in told_by(status(shop.spark, job))
    assert under_way["left"] == under_way["questions"] - under_way["answered"] > 0
    seen = shop.store(job).read(shop.spark, "answers").select("question_id").distinct().count()
    gate.is_open.set()
    time.sleep(0.5)
    gate.seconds = 0.0
    shop.endpoint.taken()
    last = subprocess.run([*BURNISH, "run", file, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    report = json.loads(last.stdout)
    assert (last.stdout.count("\n"), last.returncode, report["complete"]) == (1, 0, True), last.stderr
    assert report["questions"] == sum(shop.endpoint.taken().values()) == ROWS - seen
    # what is left is spread over all waves anew, not over the last ones
    asked = shop.store(job).read(shop.spark, "questions").where(f"run_id = '{report['run_id']}'")
    assert min(row["bucket"] for row in asked.collect()) < BUCKETS // 2
    found = {status: count for status, count in report["columns"]["topic"]["statuses"].items() if count}
    assert found == {"accepted": ROWS - POISONED, "failed": POISONED}
    assert report["failed_share"] == POISONED / ROWS
    runs = shop.store(job).read(shop.spark, "runs").orderBy("started_at", "ended_at").collect()
    assert [row["state"] for row in runs] == [
        *("running", "done", "running", "interrupted", "running", "interrupted"),
        *("running", "running", "done"),
    ]
    assert json.loads(runs[0]["job"])["engine"]["vllm"] == ["hf-token"]
    assert SECRET not in "".join([*map(str, runs), last.stdout, last.stderr, *printed])
    assert ended_with(monkeypatch, "run", job_file(shop, TOPIC, **words)) == 1


def test_a_stop_that_comes_while_the_first_waves_are_planned_asks_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write([(at, f"refund {at}") for at in range(ROWS)], "id long, text string")
    gate, progress = Gate(), logging.getLogger("jobs.progress")
    gate.is_open.clear()
    shop.endpoint.script = gate

    class Stopper(logging.Handler):
        """Sends the signal with the first line of progress, a quarter of a second after the lanes began."""

        def emit(self, record: logging.LogRecord) -> None:
            signal.raise_signal(signal.SIGTERM)

    stopper = Stopper()
    monkeypatch.setattr(progress, "handlers", [stopper])
    monkeypatch.setattr(progress, "level", logging.INFO)
    assert ended_with(monkeypatch, "run", job_file(shop, TOPIC)) == 128 + signal.SIGTERM
    gate.is_open.set()
    assert committed(Path(f"{shop.path}_burnish/answers")) == 0


@pytest.fixture
def printed() -> Iterator[list[str]]:
    """What pyspark's own loggers would print, which hold a stream of their own."""
    kept: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    keeper = Keeper()
    loggers = [PySparkLogger.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.disabled = False
        logging.Logger.addHandler(logger, keeper)
    yield kept
    for logger in loggers:
        logger.removeHandler(keeper)


def ended_with(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command in this process, whose session it takes as it is."""
    monkeypatch.setattr(sys, "argv", ["burnish", *words])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        main()
    signal.signal(signal.SIGTERM, before)
    return int(str(caught.value.code))


def test_what_spark_refuses_is_one_sentence_without_a_cell(
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    printed: list[str],
) -> None:
    shop.write([(1, "SESAME"), (2, "Open")], "id long, text string")
    file = job_file(shop, TOPIC, source={"path": shop.path, "where": "cast(text AS int) > 1"})
    assert ended_with(monkeypatch, "plan", file) == 4
    told = capfd.readouterr()
    assert "burnish: Spark failed with NumberFormatException (CAST_INVALID_INPUT)\nhint: " in told.err

    runs = Path(f"{shop.path}_burnish/runs")

    def rival() -> None:
        shop.sql("ALTER TABLE {t} ADD CONSTRAINT closed CHECK (text <> 'sesame')")
        # what broke the run breaks its record too
        shutil.rmtree(runs)
        runs.write_text("no folder")

    shop.endpoint.script = once(rival)
    file = job_file(shop, {"task": "clean", "name": "text", "rules": "lower case"})
    assert ended_with(monkeypatch, "run", file, "--json") == 4
    more = capfd.readouterr()
    assert "(DELTA_VIOLATE_CONSTRAINT_WITH_VALUES)" in more.err
    assert more.out == ""
    assert "could not be put on record" in caplog.text
    everything = "".join([told.err, more.err, caplog.text, *printed]).casefold()
    assert ("sesame" in everything, "traceback" in everything) == (False, False)


def test_bad_job_files_end_with_2_and_broken_contracts_with_4(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write([(1, "a"), (1, "b")], "id long, text string")
    assert ended_with(monkeypatch, "run", job_file(shop, TOPIC)) == 4
    assert ended_with(monkeypatch, "run", job_file(shop, {**TOPIC, "form": ["text"]})) == 2
    shop.write([(1, "refund"), (2, "delivery")], "id long, text string")
    assert ended_with(monkeypatch, "run", job_file(shop, TOPIC)) == 0
    assert counts(shop.run(shop.job(TOPIC)), "topic") == {"accepted": 2}

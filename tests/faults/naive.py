"""The same faults on `tests/bench/naive.py`, the script that anyone would write, for comparison: what it loses is told.

Nothing here goes wrong as a case: a lost row is a result. A hook that its Python processes load counts the prompts that
its engine has answered; the engine is vLLM with a tiny model, as in the benchmark.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from schemas.job import ModelRef
from tests.faults.cluster import workers
from tests.faults.drive import HOME
from tests.faults.ledger import Case, Seen
from tests.faults.world import WORDS, Stage
from udfs.models import stage as staged_model
from udfs.processes import PROC

CAMPAIGN = "naive"
ROWS, BATCH = 200, 20
LONGEST = 50_000
LIMIT_SEC = 300.0
MOVED = (7, 8)
LABELS = ("refund", "delivery", "other")
TEMPLATE = "Message: {message}\nTopic:"
# loaded by every Python process of the script; counts what the engine was asked, prompt by prompt
HOOK = """
import importlib.abc, importlib.util, json, os, sys

class Counting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "vllm.entrypoints.llm":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        plain = spec.loader.exec_module

        def exec_module(module):
            plain(module)
            generate = module.LLM.generate

            def counted(self, prompts, *args, **words):
                found = generate(self, prompts, *args, **words)
                with open(os.environ["NAIVE_ASKED"], "a") as file:
                    file.writelines(json.dumps(one) + "\\n" for one in prompts)
                return found

            module.LLM.generate = counted

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Counting())
"""


def cases(spark: SparkSession, shared: Path) -> Iterator[Case]:
    """One case a fault: the script takes an engine start each."""
    stage = Naive(spark, shared)
    for fault in stage.faults():
        yield Case(CAMPAIGN, fault, 0, stage.play)


@dataclass
class Night:
    """The script as a process of its own."""

    folder: Path
    facts: dict[str, Any]

    @property
    def asked(self) -> list[str]:
        """The prompts that the engine has answered, of all nights."""
        file = self.folder / "asked.jsonl"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def start(self) -> subprocess.Popen[bytes]:
        """Start a night."""
        hook = self.folder / "hook"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYSPARK_", "SPARK_"))}
        paths = os.pathsep.join([str(hook), str(HOME)])
        words = {"PYTHONPATH": paths, "NAIVE_ASKED": str(self.folder / "asked.jsonl"), "VLLM_CPU_KVCACHE_SPACE": "1"}
        with (self.folder / "facts.json").open("w", encoding="utf-8") as file:
            json.dump(self.facts, file)
        with (self.folder / "facts.json").open("rb") as facts, (self.folder / "naive.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(HOME / "tests" / "bench" / "naive.py")],
                env=kept | words | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
                cwd=self.folder,
                stdin=facts,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *, when: Callable[["Night"], bool] | None = None, act: Callable[[int], None] | None = None) -> int:
        """Run a night to its end, or until `act` at the moment `when` has ended it; return its exit code."""
        child = self.start()
        deadline = time.monotonic() + LIMIT_SEC
        waits = when is not None
        while child.poll() is None and time.monotonic() < deadline:
            if waits and when is not None and act is not None and when(self):
                waits = False
                act(child.pid)
            time.sleep(0.02)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        return child.wait()

    def left(self) -> int:
        """How many processes of the nights still live after a minute; they are ended then."""
        deadline = time.monotonic() + 60
        while (found := self._mine()) and time.monotonic() < deadline:
            time.sleep(0.5)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return len(found)

    def _mine(self) -> list[int]:
        mark = f"NAIVE_ASKED={self.folder / 'asked.jsonl'}".encode()
        found = []
        for entry in PROC.iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


class Naive(Stage):
    """The campaign's plays."""

    def faults(self) -> dict[str, Callable[[Night], int]]:
        """What happens to the first night, by name; each returns its exit code."""
        return {
            "driver-killed-asking": lambda night: night.run(when=_half_asked, act=_kill),
            "driver-killed-merging": lambda night: night.run(when=_answers_written, act=_kill),
            "python-worker-killed": lambda night: night.run(when=_half_asked, act=_kill_worker),
            "a-null-cell": lambda night: self._after(night, "UPDATE {t} SET message = NULL WHERE id = 7"),
            "an-over-long-cell": lambda night: self._after(
                night, "UPDATE {t} SET message = repeat('word ', 20000) WHERE id = 7"
            ),
            "rows-updated-under-way": lambda night: self._amid(
                night, f"UPDATE {{t}} SET message = 'changed under way' WHERE id IN {MOVED}"
            ),
            "row-deleted-under-way": lambda night: self._amid(night, "DELETE FROM {t} WHERE id = 9"),
            "the-same-job-twice": _twice,
        }

    def play(self, case: Case, folder: Path) -> Seen:
        """Let the fault happen, run a script that failed once more, and count what it lost."""
        seen, night = Seen(rows=ROWS), self._night(folder)
        if self.faults()[case.fault](night) != 0:
            asked, began = len(night.asked), time.monotonic()
            seen.escaped = int(night.run() != 0)
            seen.resume_sec = time.monotonic() - began
            seen.bound = asked
        seen.twice = sum(count > 1 for count in Counter(night.asked).values())
        seen.lost = self._lost(night)
        seen.left = night.left()
        return seen

    def _night(self, folder: Path) -> Night:
        texts = [f"{WORDS[at % len(WORDS)]} {WORDS[at // len(WORDS) % len(WORDS)]} order {at}" for at in range(ROWS)]
        rows = self.spark.createDataFrame(list(enumerate(texts)), "id bigint, message string")
        rows.coalesce(2).write.format("delta").save(str(folder / "t"))
        facts = {
            "path": str(folder / "t"),
            "model": str(staged_model(ModelRef(name="smollm2-untuned")).folder),
            "template": TEMPLATE,
            "labels": list(LABELS),
            "batch": BATCH,
        }
        return Night(folder, facts)

    def _after(self, night: Night, change: str) -> int:
        """Run a night over a table with a change."""
        self._sql(night, change)
        return night.run()

    def _amid(self, night: Night, change: str) -> int:
        """Change the table while a night runs."""
        return night.run(when=_half_asked, act=lambda _: self._sql(night, change))

    def _sql(self, night: Night, text: str) -> None:
        self.spark.sql(text.format(t=f"delta.`{night.facts['path']}`")).collect()

    def _lost(self, night: Night) -> int:
        """Rows of the table without an answer to the text that they hold now; a bad row has none to lose."""
        table = self.spark.read.format("delta").load(night.facts["path"])
        rows = [row for row in table.collect() if row["message"] and len(row["message"]) < LONGEST]
        if "topic" not in table.columns:
            return len(rows)
        asked = {json.loads(one) for one in night.asked}
        return sum(row["topic"] is None or TEMPLATE.replace("{message}", row["message"]) not in asked for row in rows)


def _half_asked(night: Night) -> bool:
    return len(night.asked) >= ROWS // 2


def _answers_written(night: Night) -> bool:
    return any(Path(f"{night.facts['path']}_answers/_delta_log").glob("*.json"))


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _kill_worker(pid: int) -> None:
    os.kill(workers(pid)[0], signal.SIGKILL)


def _twice(night: Night) -> int:
    """Two nights at once, as a schedule that overlaps makes them; the second one's end counts too."""
    first = night.start()
    second = night.run()
    return first.wait() or second

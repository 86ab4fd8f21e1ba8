"""Real executors with GPU addresses that a discovery script hands out: which replica works for whom.

The engine is the scripted one: on this machine there are no GPUs for a real one to hold.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.pure.tiny_model import write_model
from tests.scripted_engine import Book, Start, install
from udfs.processes import identity

ROOT = Path(__file__).parents[2]
TOPIC = {"task": "classify", "name": "topic", "from": ["text"], "labels": ["refund", "delivery", "other"]}
ROWS, PARTITIONS = 240, 6
# Each worker asks once when it starts, and gets the next addresses.
DISCOVERY = """#!/bin/sh
exec 9>>"{folder}/next" && flock 9
first=$(wc -l <"{folder}/next") && seq {amount} >&9
addresses=$(seq -s '","' $first $((first + {amount} - 1)))
echo '{{"name": "gpu", "addresses": ["'"$addresses"'"]}}'
"""


@dataclass(frozen=True)
class Night:
    """What the driver reported, and what the engines noted."""

    told: dict[str, Any]
    book: Book

    @property
    def starts(self) -> list[Start]:
        return self.book.starts

    def all_answered(self) -> bool:
        return (self.told["answered"], self.told["distinct"]) == (ROWS, ROWS)


def night(folder: Path, *, starts: int = 1, kill_after: int = 0, **cluster: Any) -> Night:
    """Ask about every row, in a process of its own."""
    (folder / "model").mkdir(parents=True)
    model = write_model(folder / "model")
    save_file({"w": np.zeros(1, dtype=np.float32)}, model / "model.safetensors")
    python, book = install(folder / "engine", starts=starts)
    discovery = folder / "discovery.sh"
    discovery.write_text(DISCOVERY.format(folder=folder, amount=cluster["gpus_per_executor"]))
    discovery.chmod(0o700)
    job = {"model": {"path": str(model)}, "engine": {"python": python}, "accept": 0.0, "columns": [TOPIC]}
    facts = {"book": str(book.folder), "discovery": str(discovery), "job": job, "kill_after": kill_after, **cluster}
    (folder / "facts.json").write_text(json.dumps(facts | {"rows": ROWS, "partitions": PARTITIONS}))
    said = subprocess.run(
        [sys.executable, "-m", "tests.spark.two_executors", str(folder / "facts.json")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert said.returncode == 0, said.stderr[-4000:]
    return Night(json.loads(said.stdout.splitlines()[-1]), book)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Two executors with a GPU each, of which two tasks share one; one executor is lost on the way.

    Nothing is answered before the lost one's replacement has started an engine, so that it is needed.
    """
    folder = tmp_path_factory.mktemp("two")
    return night(folder, executors=2, gpus_per_executor=1, gpus_per_task=0.5, starts=3, kill_after=ROWS // 2)


def test_every_executor_has_a_replica_on_its_own_device(two: Night) -> None:
    assert [start.devices for start in two.starts[:2]] in (["0", "1"], ["1", "0"])
    assert not any("--tensor-parallel-size" in start.arguments for start in two.starts)


def test_a_lost_executor_costs_its_running_tasks_and_its_replacement_works(two: Night) -> None:
    assert two.all_answered()
    assert (len(two.starts), two.told["replicas"]) == (3, 2)
    assert two.starts[2].devices in {start.devices for start in two.starts[:2]}
    by_engine = Counter({line["pid"]: 0 for line in two.book.lines("asked")})
    for line in two.book.lines("asked"):
        by_engine[line["pid"]] += len(line["prompts"])
    assert by_engine.keys() == {start.pid for start in two.starts}
    # two tasks ran on the lost executor; the other one's two may be started anew as well, where it held their input
    assert len(two.book.asked) - ROWS <= 4 * ROWS / PARTITIONS
    assert len(set(two.book.asked)) == ROWS


def test_no_engine_outlives_its_executor(two: Night) -> None:
    deadline = time.monotonic() + 30
    while any(identity(start.pid).is_alive() for start in two.starts) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(identity(start.pid).is_alive() for start in two.starts)


def test_a_task_with_two_addresses_has_one_replica_over_both(tmp_path: Path) -> None:
    found = night(tmp_path, executors=1, gpus_per_executor=2, gpus_per_task=2)
    assert found.all_answered()
    (start,) = found.starts
    assert start.devices == "0,1"
    assert start.arguments[start.arguments.index("--tensor-parallel-size") + 1] == "2"
    assert (found.told["replicas"], found.told["stopped"]) == (1, 1)

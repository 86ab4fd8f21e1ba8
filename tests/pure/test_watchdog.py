"""The watchdog over a program that only sleeps: when it ends, and what it leaves."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from udfs import standing
from udfs.processes import identity
from udfs.watchdog import Watchdog, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "replica"
    (made / "ipc").mkdir(parents=True)
    plan = {
        "command": ["sleep", "60"],
        "environment": {},
        "owner": identity(os.getpid()),
        "keep_warm_sec": 60.0,
        "start_timeout_sec": 60.0,
        "generation": 1,
    }
    write_json(made / "plan.json", plan)
    watching = threading.Thread(target=Watchdog(made).watch)
    watching.start()
    assert comes(lambda: (made / "state.json").exists())
    yield made
    with suppress(FileNotFoundError):
        (made / "stop").touch()
    watching.join(20)
    assert not watching.is_alive()


def comes(fact: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.05)
    return fact()


def test_a_replica_that_was_told_to_end_waits_for_the_task_that_uses_it(folder: Path):
    with (folder / "lease").open("a") as lease:
        fcntl.flock(lease, fcntl.LOCK_SH)
        (folder / "stop").touch()
        time.sleep(1.0)
        assert folder.exists()
    assert comes(lambda: not folder.exists())


def test_two_executors_may_sweep_the_same_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "root"
    (root / "app" / "gone").mkdir(parents=True)
    monkeypatch.setattr(standing, "root", lambda: root)

    def also_swept(folder: Path) -> bool:
        folder.rmdir()
        return True

    monkeypatch.setattr(standing, "is_abandoned", also_swept)
    assert standing.sweep_orphans() == []
    assert not (root / "app").exists()

"""Replicas of dead runs: found, ended when asked, and nothing else touched."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobs.doctor import check_leftovers
from jobs.replicas import list_replicas
from udfs import standing
from udfs.processes import Identity, end, identity
from udfs.watchdog import write_json

ROOT = Path(__file__).parents[2]
NOBODY = 65534
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program that sleeps in a folder, without a terminal unless one is given."""
    with ExitStack() as all_started:

        def started(place: Path, **words: object) -> "subprocess.Popen[bytes]":
            words = {"start_new_session": True, "stdin": subprocess.DEVNULL} | words
            process = subprocess.Popen(["sleep", "60"], cwd=place, **words)  # type: ignore[call-overload]
            all_started.callback(process.wait)
            all_started.callback(process.kill)
            return process

        yield started


def replica(key: str, owner: Identity) -> Path:
    folder = standing.root() / "app" / key
    (folder / "ipc").mkdir(parents=True)
    write_json(folder / "plan.json", {"owner": owner})
    return folder


def gone() -> Identity:
    with subprocess.Popen(["true"]) as process:
        dead = identity(process.pid)
    return dead


def test_replicas_of_dead_runs_are_listed_and_ended_when_asked(temporary: Path, start: Start) -> None:
    dead, alive = replica("dead", gone()), replica("alive", identity(os.getpid()))
    strays = [start(dead / "ipc"), start(dead / "ipc"), start(dead)]
    # a watchdog that hangs takes no notice of a request
    os.kill(strays[2].pid, signal.SIGSTOP)
    working = start(alive / "ipc")
    facts = {one["folder"]: one for one in list_replicas(None)}
    assert {folder: one["is_orphan"] for folder, one in facts.items()} == {str(dead): True, str(alive): False}
    assert facts[str(dead)]["processes"] == sorted(one.pid for one in strays)
    assert (facts[str(alive)]["phase"], facts[str(alive)]["is_healthy"]) == ("unknown", False)
    listed = check_leftovers()
    assert listed.ok
    assert all(str(one.pid) in listed.detail for one in strays)
    assert "--end-orphans" in listed.detail
    assert [one.poll() for one in strays] == [None] * 3
    ended = check_leftovers(end=True)
    assert all(str(one.pid) in ended.detail for one in strays)
    assert all(one.wait(20) is not None for one in strays)
    assert working.poll() is None
    assert check_leftovers().detail == "none"


def test_an_orphan_whose_folder_is_gone_is_still_one(temporary: Path, start: Start) -> None:
    folder = replica("dead", gone())
    stray = start(folder / "ipc")
    shutil.rmtree(folder)
    assert [one["is_orphan"] for one in list_replicas(None)] == [True]
    check_leftovers(end=True)
    assert stray.wait(20) is not None


def test_a_shell_in_an_orphans_folder_is_left_alone(temporary: Path, start: Start) -> None:
    folder = replica("dead", gone())
    leader, follower = pty.openpty()
    shell = start(folder / "ipc", stdin=follower, preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)))
    # opening a terminal without one makes it the session's own
    time.sleep(0.2)
    assert check_leftovers(end=True).detail == "none"
    assert shell.poll() is None
    os.close(leader)
    os.close(follower)


def test_a_number_that_another_process_has_taken_is_not_signalled(tmp_path: Path, start: Start) -> None:
    other = start(tmp_path)
    assert end([Identity(other.pid, identity(other.pid).started - 1)], grace_sec=0.1) == [other.pid]
    time.sleep(0.2)
    assert other.poll() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user_is_never_touched(temporary: Path, start: Start) -> None:
    folder = replica("dead", gone())
    for place in (folder.parents[1], folder.parent, folder, folder / "ipc"):
        place.chmod(0o755)
    theirs = start(folder / "ipc", user=NOBODY)
    standing.root().chmod(0o755)
    assert check_leftovers(end=True).detail == "none"
    assert theirs.poll() is None


def test_the_command_ends_orphans_only_with_its_flag(temporary: Path, start: Start) -> None:
    stray = start(replica("dead", gone()) / "ipc")
    doctor = [sys.executable, "-c", "from jobs.cli import main; main()", "doctor"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    told = subprocess.run(doctor, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert str(stray.pid) in told.stdout
    assert stray.poll() is None
    words = [*doctor, "--end-orphans", "--json"]
    told = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert f"ended: processes {stray.pid} on " in told.stdout
    assert stray.wait(20) is not None

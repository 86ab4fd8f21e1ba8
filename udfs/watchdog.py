"""The replica's detached supervisor: `python -m udfs.watchdog DIR`. It starts the engine and sees to its end.

It runs with nothing but the standard library. Its folder is the whole interface:

    plan.json   written by the starter: command, environment, owner, keep_warm_sec, start_timeout_sec, generation
    state.json  written here: generation, phase (starting, ready, dead, failed), engine, watchdog, exit code
    lock        held (flock) by whoever starts, restarts or ends the engine
    lease       held (flock, shared) by every task that uses the engine: the kernel drops it with the task
    restart     asks for a new engine; holds the generation that was seen dead
    stop        asks for the end as soon as no task holds a lease
"""

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from udfs.processes import Identity, end, identity, in_session, working_below

TICK_SEC = 0.2
LEASE_GRACE_SEC = 15.0
END_GRACE_SEC = 8.0
PR_SET_PDEATHSIG = 1


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive flock on a file if nobody else holds one."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def is_healthy(address: Path, *, timeout_sec: float = 5.0) -> bool:
    """Whether a server on this socket answers GET /health with 200."""
    request = b"GET /health HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout_sec)
        try:
            line.connect(str(address))
            line.sendall(request)
            return line.recv(64).split()[1:2] == [b"200"]
        except OSError:
            return False


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a file so that a reader sees the old or the new one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What a file holds; nothing where there is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return content


class Watchdog:
    """One engine from its start to its end, across restarts."""

    def __init__(self, folder: Path) -> None:
        """Read the plan."""
        self.folder = folder
        self.plan = read_json(folder / "plan.json")
        self.owner = Identity(*self.plan["owner"])
        self.generation = int(self.plan["generation"])
        self.keep_warm_sec = max(LEASE_GRACE_SEC, float(self.plan["keep_warm_sec"]))
        self.engine: subprocess.Popen[bytes] | None = None
        self.leader: Identity | None = None
        self.phase = "starting"
        self.launched = 0.0
        self.last_lease = time.monotonic()

    def watch(self) -> None:
        """Stay until the owner is gone, nobody wants the engine, or the end is asked for."""
        self.sweep()
        self.launch()
        while True:
            time.sleep(TICK_SEC)
            if not self.owner.is_alive() or not self.folder.exists():
                self.finish()
                return
            self.follow_engine()
            if self.phase == "failed":
                return
            if (self.folder / "restart").exists():
                self.restart()
            elif (self.is_unwanted() or (self.folder / "stop").exists()) and self.finish_if_free():
                return

    def launch(self) -> None:
        """Start an engine in a session of its own; it is told when this process dies."""
        (self.folder / "s").unlink(missing_ok=True)
        with (self.folder / "engine.log").open("ab") as log:
            self.engine = subprocess.Popen(
                self.plan["command"],
                env=self.plan["environment"],
                cwd=self.folder / "ipc",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.leader = identity(self.engine.pid)
        self.launched = time.monotonic()
        self.report("starting")

    def follow_engine(self) -> None:
        """Write down when the engine gets ready, fails to, or dies."""
        if self.engine is None or self.phase not in ("starting", "ready"):
            return
        if self.engine.poll() is not None:
            self.end_engine()
            self.report("failed" if self.phase == "starting" else "dead")
        elif self.phase == "starting" and is_healthy(self.folder / "s"):
            (self.folder / "s").chmod(0o600)
            self.last_lease = time.monotonic()
            self.report("ready")
        elif self.phase == "starting" and time.monotonic() - self.launched > self.plan["start_timeout_sec"]:
            self.end_engine()
            self.report("failed")

    def restart(self) -> None:
        """Replace the engine by one of the plan as it stands now; the asker holds the lock."""
        self.end_engine()
        self.plan = read_json(self.folder / "plan.json")
        (self.folder / "restart").unlink()
        self.generation += 1
        self.launch()

    def is_unwanted(self) -> bool:
        """Whether no task has held a lease for the time that the engine is kept warm."""
        with try_lock(self.folder / "lease") as free:
            if not free:
                self.last_lease = time.monotonic()
        return time.monotonic() - self.last_lease > self.keep_warm_sec

    def finish_if_free(self) -> bool:
        """End under the lock, so that a task that comes now waits and starts anew instead of joining a dying engine."""
        with try_lock(self.folder / "lock") as mine:
            if not mine:
                return False
            with try_lock(self.folder / "lease") as free:
                if not free:
                    return False
                self.finish()
        return True

    def finish(self) -> None:
        """End the engine and take the folder away."""
        self.end_engine()
        shutil.rmtree(self.folder, ignore_errors=True)

    def end_engine(self) -> None:
        """End all of the engine's processes; its core outlives a parent that was killed."""
        if self.leader is not None:
            end(in_session(self.leader), grace_sec=END_GRACE_SEC)
        self.sweep()
        if self.engine is not None:
            self.engine.wait()

    def sweep(self) -> None:
        """End whatever else works in the engine's directory."""
        end((one for one, _ in working_below(self.folder / "ipc")), grace_sec=END_GRACE_SEC)

    def report(self, phase: str) -> None:
        """Publish where things stand."""
        self.phase = phase
        if not self.folder.exists():
            return
        state = {
            "generation": self.generation,
            "phase": phase,
            "engine": self.leader,
            "watchdog": identity(os.getpid()),
            "exit_code": self.engine.poll() if self.engine else None,
            "seconds": round(time.monotonic() - self.launched, 1),
            "at": time.time(),
        }
        write_json(self.folder / "state.json", state)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Watch over the folder named on the command line."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Watchdog(Path(sys.argv[1])).watch()


if __name__ == "__main__":
    main()

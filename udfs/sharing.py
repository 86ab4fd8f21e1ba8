"""How tasks that share an engine make room for one that must have it to itself: two files and flock."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def passing(folder: Path) -> Iterator[None]:
    """Share the engine with other tasks' POSTs; wait while one task has it to itself."""
    with ExitStack() as stack:
        with (folder / "gate").open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
            road = stack.enter_context((folder / "road").open("a"))
            fcntl.flock(road, fcntl.LOCK_SH)
        yield


@contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """Have the engine to oneself: the gate stops new POSTs, then the road empties."""
    with (folder / "gate").open("a") as gate, (folder / "road").open("a") as road:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(road, fcntl.LOCK_EX)
        yield


@contextmanager
def unlocked(folder: Path) -> Iterator[None]:
    """Send under the lock that the caller already holds."""
    yield

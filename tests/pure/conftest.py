"""Settings of the tests that need neither Spark nor an engine, and a temporary folder of their own for replicas."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Tests share two cores with engines: how long one example takes says nothing.
settings.register_profile("burnish", deadline=None)
settings.load_profile("burnish")


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder as /tmp is, of a name that leaves room for sockets: replicas of others are not in it."""
    # pytest's own folder must not move there; a watchdog may be taking its folder away at the end
    tmp_path_factory.getbasetemp()
    folder = Path(tempfile.mkdtemp(prefix="b", dir="/tmp"))
    folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)

"""Which tests stay together where several processes share the work."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class Together(LoadScopeScheduling):
    """Keep a file's tests in one process, and these folders': they share states, or an engine's cores and memory."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", maxsplit=1)[0]
        return next((folder for folder in ("tests/engine/", "tests/spark/promises/") if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Return the scheduler; files begin as they are collected, so those with an engine, the longest, first."""
    config.option.loadscopereorder = False
    return Together(config, log)

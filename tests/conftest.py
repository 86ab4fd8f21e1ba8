"""Which tests stay together where several processes share the work."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class Together(LoadScopeScheduling):
    """Keep a file's tests in one process, for what they share, and all with an engine, for its cores and memory."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/engine" if nodeid.startswith("tests/engine/") else nodeid.split("::", maxsplit=1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Return the scheduler; files begin as they are collected, so those with an engine, the longest, first."""
    config.option.loadscopereorder = False
    return Together(config, log)

"""Which tests stay together where several processes share the work."""

import pytest


# First, so that xdist finds the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, for what they share; all tests with an engine in one, for its memory and cores."""
    for item in items:
        file = item.path.relative_to(item.config.rootpath)
        item.add_marker(pytest.mark.xdist_group("engine" if "engine" in file.parts else str(file)))

"""What a task does with the replicas of the host that it runs on, whoever started them: look, stop, end orphans."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from socket import gethostname
from typing import Any, Final

import pandas as pd

from udfs.hush import hushed
from udfs.standing import end_orphans, replicas_here, stop_all

TOLD_DDL: Final = "told string"


def listed() -> list[dict[str, Any]]:
    """Every replica of this user on this host."""
    return [one.as_dict() for one in replicas_here()]


def ended() -> list[dict[str, Any]]:
    """The processes of orphaned replicas that this call ended on this host."""
    return [{"host": gethostname(), "pid": pid} for pid in end_orphans()]


def stopped(app_id: str) -> list[dict[str, Any]]:
    """How many replicas of an application this call was the first to ask to end, on this host."""
    return [{"host": gethostname(), "ended": stop_all(app_id)}]


def on_this_host(
    act: Callable[[], list[dict[str, Any]]],
) -> Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]:
    """The function for `DataFrame.mapInPandas` that does one of these and tells what came of it as JSON."""
    return hushed(partial(_told, act))


def _told(act: Callable[[], list[dict[str, Any]]], frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for _ in frames:
        yield pd.DataFrame({"told": [json.dumps(act())]})

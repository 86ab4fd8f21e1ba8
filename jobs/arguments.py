"""Words of the command line turned into values: moments, spans of time, options of a run."""

import re
from datetime import UTC, datetime
from typing import Any

from schemas.errors import JobFileError
from schemas.options import RunOptions

UNITS_MIN = {"s": 1 / 60, "m": 1.0, "h": 60.0}


def read_options(
    *, start: str | None, end: str | None, only: list[str] | None, publish_every: str | None = None, **flags: Any
) -> RunOptions:
    """Return the options of `plan` or `run`; `flags` are passed on under their own names.

    Raises:
        JobFileError: a time that is none, an empty window, options that contradict each other.
    """
    return RunOptions(
        start=moment(start, "--from") if start is not None else None,
        end=moment(end, "--to") if end is not None else None,
        only=tuple(only or ()),
        publish_every_min=minutes(publish_every) if publish_every is not None else None,
        **flags,
    )


def moment(text: str, option: str) -> datetime:
    """Read an ISO 8601 time; one without a zone is UTC.

    Raises:
        JobFileError: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as problem:
        raise JobFileError(f"{option} takes an ISO 8601 time such as 2026-01-31T06:00Z, got {text!r}") from problem
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def minutes(text: str) -> float:
    """Read a span such as 90s, 30m or 1.5h.

    Raises:
        JobFileError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise JobFileError(f"--publish-every takes a number with s, m or h, such as 30m, got {text!r}")
    return float(match.group(1)) * UNITS_MIN[match.group(2)]

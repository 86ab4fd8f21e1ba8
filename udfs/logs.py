"""Log lines on stderr, as text for a person or as JSON for a collector: never a cell, a prompt or a secret.

Our own messages are constant words with counts and names in them. Those of other libraries may hold anything: of them,
and of every exception, only the place and the class are told.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from typing import Any, Final

from schemas.secrets import redacted

OURS: Final = ("jobs", "udfs", "schemas")
FACTS: Final = "facts"

_run: ContextVar[str | None] = ContextVar("burnish_run", default=None)


class Lines(logging.Formatter):
    """Writes a record as one line."""

    def __init__(self, *, as_json: bool) -> None:
        """Choose between a JSON object and a text."""
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a foreign message is withheld."""
        is_ours = record.name.split(".")[0] in OURS
        message = record.getMessage() if is_ours else "said something that may hold values of cells"
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "run_id": _run.get(),
            "message": message,
            **(getattr(record, FACTS, {}) if is_ours else {}),
            **_problem(record),
        }
        if self.as_json:
            return redacted(json.dumps(found, ensure_ascii=False, default=str))
        broken = f" ({found['problem']} at {found['at']})" if "problem" in found else ""
        return redacted(f"{record.levelname} {record.name}: {message}{broken}")


def _problem(record: logging.LogRecord) -> dict[str, str]:
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    frames = extract_tb(record.exc_info[2])
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return {"problem": record.exc_info[0].__name__, "at": at}


def configure(*, as_json: bool) -> None:
    """Send this process's log to stderr: warnings as text, or as JSON also what our own modules report."""
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one.formatter, Lines)]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(as_json=as_json))
    root.addHandler(handler)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO if as_json else logging.NOTSET)


def is_json() -> bool:
    """Whether this process writes its log as JSON."""
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    return any(isinstance(one, Lines) and one.as_json for one in formatters)


@contextmanager
def in_run(run_id: str | None) -> Iterator[None]:
    """Put a run's id on every line that is written in the block."""
    before = _run.set(run_id)
    try:
        yield
    finally:
        _run.reset(before)


def facts(**known: Any) -> dict[str, dict[str, Any]]:
    """Return what a line says beside its message, as `extra=`: counts, names, seconds; never a text of a cell."""
    return {FACTS: known}

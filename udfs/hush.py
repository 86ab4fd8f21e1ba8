"""What a function on executors may say when it breaks: Spark keeps messages in its UI, its event log and its logs."""

from collections.abc import Callable, Iterator
from functools import partial
from traceback import extract_tb
from typing import Any

from schemas.errors import BurnishError, EnvironmentProblem

Frames = Iterator[Any]


def hushed(work: Callable[[Frames], Frames]) -> Callable[[Frames], Frames]:
    """The same function for `DataFrame.mapInPandas`, of whose unexpected errors only class and place are told."""
    return partial(_hushed, work)


def _hushed(work: Callable[[Frames], Frames], frames: Frames) -> Frames:
    try:
        yield from work(frames)
    except BurnishError as problem:
        # without what it was made of, which a traceback would show
        raise problem from None
    except Exception as problem:  # noqa: BLE001 - whatever it is, its message may hold a cell
        raise unexpected(problem) from None


def unexpected(problem: Exception) -> EnvironmentProblem:
    """Name an error without its message."""
    last = extract_tb(problem.__traceback__)[-1]
    return EnvironmentProblem(
        f"unexpected {type(problem).__name__} in {last.filename}, line {last.lineno}",
        hint="where Spark or the engine has died, the same command continues; else this is a bug of burnish",
    )

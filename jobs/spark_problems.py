"""What Spark raised, told as one of burnish's own errors: class and condition, no message, which may hold cells."""

import logging
from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger

from schemas.errors import BurnishError, ConflictError, DataContractError, EnvironmentProblem

LOGGERS = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")
HINT = "Spark's own log says more; it may hold values of cells"
# classes of SQLSTATE: data exceptions, broken constraints, unknown tables and columns; Delta's conflicts
DATA_STATES = ("21", "22", "23", "42")
CONFLICT_STATE = "2D"


def mute_spark() -> None:
    """Keep pyspark from printing each error's message, and with it values of cells, on stderr."""
    for name in LOGGERS:
        # made by pyspark's own function: a plain logger of that name would not take its words
        logger: logging.Logger = PySparkLogger.getLogger(name)
        logger.disabled = True


def as_ours(problem: Exception) -> BurnishError | None:
    """Return a Spark error as burnish tells it; None for what Spark did not raise."""
    if not isinstance(problem, PySparkException | Py4JError):
        return None
    found = list(_conditions(problem))
    names = [condition for condition, _ in found if condition]
    message = f"Spark failed with {type(problem).__name__}" + (f" ({', '.join(dict.fromkeys(names))})" if names else "")
    states = {state[:2] for _, state in found if state}
    if CONFLICT_STATE in states:
        return ConflictError(message, hint=f"another writer was faster: run the same command again. {HINT}")
    if states & set(DATA_STATES):
        return DataContractError(message, hint=f"a value, a constraint, a table or a column is not as needed. {HINT}")
    return EnvironmentProblem(message, hint=HINT)


def _conditions(problem: Exception) -> Iterator[tuple[str, str]]:
    """Yield condition and SQLSTATE of an error and of what caused it, as far as the JVM still answers."""
    thrown = getattr(problem, "_origin", None) or getattr(problem, "java_exception", None)
    if thrown is None and isinstance(problem, PySparkException):
        # raised in Python
        yield str(problem.getCondition() or ""), ""
    while thrown is not None:
        yield _asked(thrown, "getCondition"), _asked(thrown, "getSqlState")
        try:
            thrown = thrown.getCause()
        except (Py4JError, OSError):
            return


def _asked(thrown: Any, method: str) -> str:
    """Call a method that only Spark's own exceptions have."""
    try:
        return str(getattr(thrown, method)() or "")
    except (Py4JError, OSError):
        return ""

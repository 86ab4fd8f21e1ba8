"""Conditions that people write in SQL (`where`): parsed, and refused where they are more than a look at the row."""

from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.errors import JobFileError

# Built-in, and yet they run code, leave Spark, raise, or read secrets; the last ones are Databricks'.
REFUSED: Final = frozenset(
    {
        *("reflect", "java_method", "try_reflect", "raise_error", "assert_true", "version", "input_file_name"),
        *("http_request", "secret", "try_secret", "list_secrets", "remote_query", "vector_search", "read_files"),
    }
)
REFUSED_BEGINNING: Final = "ai_"
HINT: Final = "a condition compares the row's own columns with built-in functions; make a view of what needs more"


def narrowed(rows: DataFrame, condition: str, *, what: str) -> DataFrame:
    """Return the rows that fulfil a condition.

    Args:
        what: what messages call the condition and what it is about.

    Raises:
        JobFileError: it is none, or holds a subquery, a function that is not built in or does more than compute, or
            one that says something else each time.
    """
    _check(rows.sparkSession, condition, what)
    try:
        found = rows.where(F.expr(condition))
    except (ParseException, AnalysisException) as problem:
        raise JobFileError(f"{what}: {condition}") from problem
    filtered: Any = found._jdf.queryExecution().analyzed()
    if not filtered.condition().deterministic():
        raise JobFileError(f"{what} that says the same each time: {condition}", hint=HINT)
    return found


def _check(spark: SparkSession, condition: str, what: str) -> None:
    """Look at the parsed text: to resolve a function may already run some of it."""
    state: Any = spark._jsparkSession.sessionState()
    try:
        parsed = state.sqlParser().parseExpression(condition)
    except (ParseException, Py4JJavaError) as problem:
        raise JobFileError(f"{what}: {condition}") from problem
    left = [parsed]
    while left:
        node = left.pop()
        kind = str(node.getClass().getSimpleName())
        if kind in ("ScalarSubquery", "Exists", "InSubquery", "ListQuery", "LateralSubquery", "FunctionTableSubquery"):
            raise JobFileError(f"{what} without a subquery: {condition}", hint=HINT)
        if kind == "UnresolvedFunction":
            _check_function(spark, state, node, condition, what)
        children = node.children()
        left += [children.apply(place) for place in range(children.length())]


def _check_function(spark: SparkSession, state: Any, node: Any, condition: str, what: str) -> None:
    parts = [str(node.nameParts().apply(place)) for place in range(node.nameParts().length())]
    name = parts[-1].lower()
    jvm: Any = spark._jvm
    identifier = jvm.org.apache.spark.sql.catalyst.FunctionIdentifier(name)
    registry = jvm.org.apache.spark.sql.catalyst.analysis.FunctionRegistry.builtin()
    is_built_in = registry.functionExists(identifier) and not state.catalog().isTemporaryFunction(identifier)
    if len(parts) > 1 or not is_built_in or name in REFUSED or name.startswith(REFUSED_BEGINNING):
        raise JobFileError(f"{what} without the function {'.'.join(parts)}: {condition}", hint=HINT)

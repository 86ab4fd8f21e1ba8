"""`burnish init`: write a first job file for a table, with a key that was checked and labels that occur."""

import itertools
import re
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, DecimalType, IntegralType, StringType, TimestampType

from jobs import lake
from jobs.draft import MAX_LABELS, Draft, Key, draft_text, output_name
from schemas.errors import DataContractError, JobFileError
from schemas.fields import SUFFIXES
from schemas.problems import nearest
from schemas.tasks import TASK_NAMES
from schemas.yaml_file import parse_job

MAX_CANDIDATES: Final = 40
MAX_CHECKED: Final = 4
# The estimate of distinct values is off by 5 % (one standard deviation).
LEAST_DISTINCT_SHARE: Final = 0.8
ID_LIKE = re.compile(r"(^|_|-)(id|key|uuid|guid|pk|no|nr|num|number|code|sku)$|(Id|ID|Key)$", re.IGNORECASE)
KEY_TYPES: tuple[type[DataType], ...] = (StringType, IntegralType, DecimalType, DateType, TimestampType)


def init(
    spark: SparkSession,
    table_or_path: str,
    *,
    task: str,
    columns: list[str],
    labels_from: str | None = None,
    name: str | None = None,
    model: str = "smollm2",
) -> str:
    """Return a commented job file for one task over a table's columns; it passes `validate`.

    Raises:
        JobFileError: an unknown task, or too few columns for it.
        DataContractError: no such table or column, no key to be found, a name that is taken, too few labels.
    """
    place = lake.place_of(table_or_path)
    if task not in TASK_NAMES:
        raise JobFileError(f"unknown task {task!r}{nearest(task, TASK_NAMES)}; there are {', '.join(TASK_NAMES)}")
    version = lake.latest_version(spark, place)
    frame = lake.read(spark, place, version=version)
    _check_columns(frame, [*columns, *([labels_from] if labels_from else [])], place.text)
    draft = Draft(
        place=place,
        version=version,
        task=task,
        columns=tuple(columns),
        name=output_name(task, columns, labels_from=labels_from, wanted=name, taken=frame.columns),
        model=model,
        key=find_key(frame, {*columns, *([labels_from] if labels_from else [])}, place.text),
        labels_from=labels_from,
        labels=count_labels(frame, labels_from) if labels_from else {},
    )
    text = draft_text(draft)
    parse_job(text, file="the job file just drafted", env={})
    return text


def _check_columns(frame: DataFrame, wanted: list[str], table: str) -> None:
    for name in wanted:
        if name not in frame.columns:
            close = nearest(name, frame.columns)
            raise DataContractError(f"{table} has no column {name}{close}; it has {', '.join(frame.columns)}")


def find_key(frame: DataFrame, asked: set[str], table: str) -> Key:
    """Return the first column, else pair of columns, that is never null and never repeated.

    Columns that look like ids are tried first, and asked ones never. One pass estimates all candidates, one more
    counts the likely ones exactly.

    Raises:
        DataContractError: there is none.
    """
    fields = [field for field in frame.schema.fields if isinstance(field.dataType, KEY_TYPES)]
    names = [field.name for field in fields if field.name not in asked and not field.name.endswith(SUFFIXES)]
    names = sorted(names, key=lambda name: not ID_LIKE.search(name))[:MAX_CANDIDATES]
    rows, distinct = _estimate(frame, names)
    if rows == 0 and names:
        return Key((names[0],), rows=0)
    pairs = sorted(itertools.combinations(distinct, 2), key=lambda pair: _strangeness(*pair))
    likely = [(name,) for name in distinct if distinct[name] >= LEAST_DISTINCT_SHARE * rows]
    likely_pairs = [pair for pair in pairs if distinct[pair[0]] * distinct[pair[1]] >= LEAST_DISTINCT_SHARE * rows]
    rounds: list[list[tuple[str, ...]]] = [[*likely[:MAX_CHECKED]], [*likely_pairs[:MAX_CHECKED]]]
    for candidates in rounds:
        for candidate, count in _count_distinct(frame, candidates).items():
            if count == rows:
                return Key(candidate, rows=rows)
    raise DataContractError(
        f"no column of {table}, and no pair that was tried, is never null and never repeated",
        hint="burnish needs a key to write answers back: add an id column, or write the job file by hand with "
        "a `key` of more columns",
    )


def _strangeness(*names: str) -> int:
    return sum(not ID_LIKE.search(name) for name in names)


def _estimate(frame: DataFrame, names: list[str]) -> tuple[int, dict[str, int]]:
    """Return the rows, and by column without nulls about how many distinct values it has."""
    counts = [F.count(lake.col(name)) for name in names]
    distinct = [F.approx_count_distinct(lake.col(name)) for name in names]
    found = frame.agg(F.count(F.lit(1)), *counts, *distinct).first()
    values = [int(value) for value in found or (0,)]
    rows, filled, estimates = values[0], values[1 : len(names) + 1], values[len(names) + 1 :]
    return rows, {name: estimate for name, full, estimate in zip(names, filled, estimates, strict=True) if full == rows}


def _count_distinct(frame: DataFrame, candidates: list[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    if not candidates:
        return {}
    found = frame.agg(*[F.count_distinct(*map(lake.col, names)) for names in candidates]).first()
    return dict(zip(candidates, found or (), strict=True))


def count_labels(frame: DataFrame, column: str) -> dict[str, int]:
    """Return the values of a column with their number of rows, most frequent first, one more than are kept.

    Raises:
        DataContractError: fewer than two values.
    """
    value = lake.col(column).cast("string").alias("label")
    counted = frame.select(value).where(F.trim("label") != "").groupBy("label").agg(F.count(F.lit(1)).alias("rows"))
    found = counted.orderBy(F.desc("rows"), "label").limit(MAX_LABELS + 1).collect()
    labels = {row["label"]: int(row["rows"]) for row in found if row["label"].strip()}
    different = {label.strip().casefold() for label in labels}
    if len(different) < 2:
        raise DataContractError(f"column {column} holds {len(different)} different values; labels need at least two")
    return labels

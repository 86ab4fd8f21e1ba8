"""Rows that a mix file names: a Delta table, or a file that Spark reads."""

from collections.abc import Iterable

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from jobs import lake
from jobs.conditions import narrowed
from schemas.errors import DataContractError
from schemas.mix import Rows

FORMATS = {"json": "json", "jsonl": "json", "csv": "csv", "parquet": "parquet"}


def read_rows(spark: SparkSession, rows: Rows) -> DataFrame:
    """Read a table or a file, narrowed by `where`.

    Raises:
        DataContractError: it is not there, or cannot be read as what it is called.
        JobFileError: `where` is no condition over it.
    """
    try:
        frame = lake.read(spark, rows.place) if rows.place is not None else _read_file(spark, rows.file or "")
    except AnalysisException as problem:
        raise DataContractError(f"{rows.text} cannot be read: {problem.getMessage()}") from problem
    if rows.where is None:
        return frame
    return narrowed(frame, rows.where, what=f"where is not a condition over {rows.text}")


def _read_file(spark: SparkSession, file: str) -> DataFrame:
    suffix = file.removesuffix(".gz").rsplit(".", 1)[1]
    reader = spark.read.format(FORMATS[suffix])
    if suffix == "csv":
        # as spreadsheets and Python write it: a quote inside quotes is doubled, a text may have several lines
        reader = reader.option("header", "true").option("multiLine", "true").option("escape", '"')
    if suffix == "json":
        _check_array(spark, file)
        reader = reader.option("multiLine", "true")
    return reader.load(file)


def _check_array(spark: SparkSession, file: str) -> None:
    """Refuse JSON lines under the name of JSON: Spark would read the first of them and be content."""
    first = spark.read.text(file).where("trim(value) <> ''").first()
    if first is None or not first[0].lstrip("\ufeff \t").startswith("["):
        raise DataContractError(f"{file} does not begin with [: it is no JSON array", hint="JSON lines end in .jsonl")


def check_columns(frame: DataFrame, names: Iterable[str], where: str) -> None:
    """Refuse what a table lacks.

    Raises:
        DataContractError: naming what is missing and what is there.
    """
    missing = sorted(set(names) - set(frame.columns))
    if missing:
        raise DataContractError(
            f"{where} lacks column {', '.join(missing)}; it has {', '.join(frame.columns)}",
            hint="names are compared exactly, upper and lower case included",
        )

"""The Delta boundary: reading, describing, creating and appending tables by name or by path."""

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, cast

import pyarrow as pa
from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from schemas.errors import ConflictError, DataContractError
from schemas.job import TABLE_NAME, Place
from schemas.roots import check_path

ODD_CHARACTERS = re.compile(r"[ ,;{}()\n\t=]")  # Parquet takes them in no column's name, column mapping does
MAX_COMMITS = 10
# in Java they have one base, in Python none
CONFLICTS = (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
# somebody added a column after a commit was planned
MOVED_ON = "DELTA_SCHEMA_CHANGE_SINCE_ANALYSIS"
# Tables that are read as a whole: smallest and largest values of sixty columns would cost more than they save.
WITHOUT_STATISTICS = {"delta.dataSkippingNumIndexedCols": "0"}
HISTORY = 50  # commits that others may make between a write and its look-up


def quoted(*parts: str) -> str:
    """Return an identifier in backticks, safe for dots, blanks and backticks inside a part."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def col(name: str, *, of: str | None = None) -> Column:
    """Return the column of exactly this name, dots and backticks included."""
    return F.col(quoted(name) if of is None else f"{of}.{quoted(name)}")


def key_json(names: Sequence[str], *, of: str | None = None) -> Column:
    """A row's key as the change log and the review table write it."""
    return F.to_json(F.struct(*[col(name, of=of).alias(name) for name in names]), {"ignoreNullFields": "false"})


def sql_name(place: Place) -> str:
    """Return how SQL names a place: `a`.`b` or delta.`/path`.

    Spark's own calls parse names as SQL does: a hyphen or a reserved word passes in backticks only.
    """
    if place.table is not None:
        return quoted(*place.table.split("."))
    return "delta." + quoted(str(place.path))


def place_of(text: str) -> Place:
    """Read a place from one word: a name of one to three parts, else a path.

    Raises:
        JobFileError: it is a path that lies under none of the configured roots.
    """
    if TABLE_NAME.match(text):
        return Place(table=text)
    check_path(text)
    return Place(path=text)


def exists(spark: SparkSession, place: Place) -> bool:
    """Whether a table stands there, Delta or not."""
    if place.table is not None:
        return spark.catalog.tableExists(sql_name(place))
    return DeltaTable.isDeltaTable(spark, str(place.path))


def delta_table(spark: SparkSession, place: Place) -> DeltaTable:
    """Return the Delta table at a place.

    Raises:
        DataContractError: nothing is there, or something that is no Delta table.
    """
    try:
        if place.table is not None:
            return DeltaTable.forName(spark, sql_name(place))
        return DeltaTable.forPath(spark, str(place.path))
    except AnalysisException as problem:
        found = "is no Delta table" if exists(spark, place) else "does not exist"
        raise DataContractError(
            f"{place.text} {found}",
            hint="burnish reads and writes Delta tables; CONVERT TO DELTA turns a Parquet table into one",
        ) from problem


def refuse_files(spark: SparkSession, place: Place) -> None:
    """Refuse a folder for a new table that holds other files.

    Raises:
        DataContractError: something is there that is no Delta table.
    """
    if place.path is None:
        return
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    try:
        is_empty = reader.load(place.path).select("path").isEmpty()
    except AnalysisException as problem:
        if problem.getCondition() != "PATH_NOT_FOUND":
            raise
        return
    if not is_empty:
        raise DataContractError(
            f"{place.text} holds files and is no Delta table",
            hint="name an empty folder, or one that is not there yet: the table is created on first use",
        )


def latest_version(spark: SparkSession, place: Place) -> int:
    """Return the newest committed version of a Delta table."""
    return int(delta_table(spark, place).history(1).select("version").first()[0])  # type: ignore[index]


def newest_commit(spark: SparkSession, place: Place) -> tuple[int, datetime]:
    """Return a Delta table's newest version, and when it was committed, in UTC."""
    seconds = F.unix_micros("timestamp").alias("micros")
    row = delta_table(spark, place).history(1).select("version", seconds).first()
    return int(row[0]), datetime.fromtimestamp(row[1] / 1e6, UTC)  # type: ignore[index]


def location(spark: SparkSession, place: Place) -> str:
    """Return the URI of a Delta table's folder, by whatever name it goes.

    Raises:
        DataContractError: nothing is there, or something that is no Delta table.
    """
    return str(_detail(spark, place).select("location").first()[0])  # type: ignore[index]


def partition_columns(spark: SparkSession, place: Place) -> tuple[str, ...]:
    """Return the columns that a Delta table is partitioned by.

    Raises:
        DataContractError: nothing is there, or something that is no Delta table.
    """
    return tuple(_detail(spark, place).select("partitionColumns").first()[0])  # type: ignore[index]


def _detail(spark: SparkSession, place: Place) -> DataFrame:
    # what is described may be any table
    table = delta_table(spark, place)
    # Delta's own `detail()` forgets the backticks of a name of three parts
    return table.detail() if place.table is None else spark.sql(f"DESCRIBE DETAIL {sql_name(place)}")


def version_at(spark: SparkSession, place: Place, moment: datetime) -> int:
    """Return the newest version committed at or before a moment.

    Raises:
        DataContractError: the table is younger than that.
    """
    limit = F.lit(moment.isoformat()).cast("timestamp")
    found = delta_table(spark, place).history().where(F.col("timestamp") <= limit).select("version").collect()
    if not found:
        raise DataContractError(f"{place.text} has no version as old as {moment.isoformat()}")
    return max(int(row[0]) for row in found)


def version_noted(spark: SparkSession, place: Place, note: str) -> int:
    """Return the newest version whose commit carries a note.

    Raises:
        ConflictError: none of the last commits does, since others wrote the table in between.
    """
    history = delta_table(spark, place).history(HISTORY)
    found = history.where(F.col("userMetadata") == note).select("version").collect()
    if not found:
        raise ConflictError(f"other runs wrote {place.text} at the same time", hint="run the same command again")
    return max(int(row[0]) for row in found)


def read(spark: SparkSession, place: Place, *, version: int | None = None) -> DataFrame:
    """Read a Delta table, at a pinned version if one is given."""
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.table(sql_name(place)) if place.table is not None else reader.load(str(place.path))


def read_lookup(spark: SparkSession, text: str) -> DataFrame:
    """Read a table that a task looks values up in, named by one word: labels, a domain, a reference.

    Raises:
        DataContractError: no table can be read there.
    """
    try:
        return read(spark, place_of(text))
    except AnalysisException as problem:
        raise DataContractError(
            f"{text} does not exist or is no table that can be read",
            hint="labels, domains and references come from a table's name (1 to 3 parts) or a Delta folder",
        ) from problem


def create(spark: SparkSession, place: Place, ddl: str, *, properties: dict[str, str] | None = None) -> None:
    """Create a Delta table unless it is there."""
    declared = dict(properties or {})
    if any(ODD_CHARACTERS.search(field.name) for field in struct(ddl)):
        declared["delta.columnMapping.mode"] = "name"
    try:
        patiently(lambda: _create(spark, place, ddl, declared), what=place.text)
    except AnalysisException:
        # another run may be creating it at this moment
        if not _appears(spark, place):
            raise


def _create(spark: SparkSession, place: Place, ddl: str, properties: dict[str, str]) -> None:
    if place.table is not None:
        # Delta's builder takes no name of three parts
        listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
        declared = f"TBLPROPERTIES ({listed})" if listed else ""
        spark.sql(f"CREATE TABLE IF NOT EXISTS {sql_name(place)} ({ddl}) USING delta {declared}")
        return
    # SQL takes no relative path
    builder = DeltaTable.createIfNotExists(spark).location(str(place.path)).addColumns(struct(ddl))
    for name, value in properties.items():
        builder = builder.property(name, value)
    builder.execute()


def _appears(spark: SparkSession, place: Place) -> bool:
    for _ in range(MAX_COMMITS):
        if exists(spark, place):
            return True
        time.sleep(0.3)
    return False


def rows_of(spark: SparkSession, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> DataFrame:
    """Return a frame of a few rows that the driver has (column -> Spark type); it is part of its query's plan.

    Rows that are given as tuples would be a job of their own. What is no text, as a terminal may give it, is a "?".
    """
    schema = struct(", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items()))
    if not rows:
        # the planner sees that there is none
        return spark.createDataFrame([], schema).limit(0)
    cells = {name: [_as_text(row.get(name)) for row in rows] for name in columns}
    return spark.createDataFrame(pa.table(cells), schema)


def _as_text(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def make(frame: DataFrame, place: Place, *, properties: Mapping[str, str]) -> bool:
    """Make a Delta table of a frame's rows, in one commit; False where there is one meanwhile: nothing is written."""
    try:
        if place.table is not None:
            named = frame.writeTo(sql_name(place)).using("delta")
            for name, value in properties.items():
                named = named.tableProperty(name, value)
            named.create()
        else:
            frame.write.format("delta").mode("error").options(**properties).save(str(place.path))
    except (*CONFLICTS, AnalysisException):
        # another run may be making it at this moment
        if not _appears(frame.sparkSession, place):
            raise
        return False
    return True


def append(frame: DataFrame, place: Place, *, options: dict[str, str] | None = None) -> None:
    """Append a frame to a Delta table in one commit."""
    writer = frame.write.format("delta").mode("append").options(**(options or {}))
    if place.table is not None:
        writer.saveAsTable(sql_name(place))
    else:
        writer.save(str(place.path))


def insert_new(frame: DataFrame, place: Place, *, unless: str) -> None:
    """Append those of a frame's rows (`s`) in one commit that the table's rows (`t`) do not make superfluous.

    Another writer who does the same at this moment is waited for, and what it has written counts.

    Raises:
        ConflictError: others won every time.
    """

    def commit() -> None:
        table = delta_table(frame.sparkSession, place).alias("t")
        table.merge(frame.alias("s"), unless).whenNotMatchedInsertAll().execute()

    patiently(commit, what=place.text)


def replace(frame: DataFrame, place: Place, *, note: str = "") -> None:
    """Replace a Delta table's rows and schema; `note` marks the commit of a table that is read as a whole."""
    writer = frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
    # properties count when the table is made
    writer = writer.options(userMetadata=note, **WITHOUT_STATISTICS) if note else writer
    if place.table is not None:
        writer.saveAsTable(sql_name(place))
    else:
        writer.save(str(place.path))


def check_columns(spark: SparkSession, place: Place, columns: dict[str, str], *, maker: str) -> None:
    """Refuse a table that has not just these columns (name -> Spark type), by whatever order.

    Raises:
        DataContractError: it was not written by `maker`.
    """
    found = {one.name: one.dataType.simpleString() for one in read(spark, place).schema}
    wanted = struct(", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items()))
    if found != {one.name: one.dataType.simpleString() for one in wanted}:
        raise DataContractError(
            f"{place.text} is a table that {maker} did not write", hint="name another table, or a new one"
        )


def add_columns(spark: SparkSession, place: Place, columns: dict[str, str]) -> None:
    """Add columns (name -> Spark type) with one ALTER TABLE; none is no commit."""
    if not columns:
        return
    listed = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
    try:
        spark.sql(f"ALTER TABLE {sql_name(place)} ADD COLUMNS ({listed})")
    except AnalysisException:
        # another run of the same job may have added them a moment ago
        if not set(columns) <= set(read(spark, place).columns):
            raise


def sibling(place: Place, suffix: str) -> Place:
    """Return the place beside a table: `<name><suffix>` or `<folder><suffix>`."""
    if place.table is not None:
        return Place(table=place.table + suffix)
    return Place(path=str(place.path).rstrip("/") + suffix)


def is_inside(inner: Place, outer: Place) -> bool:
    """Whether a folder lies in another one (names never do)."""
    if inner.path is None or outer.path is None:
        return False
    inside, around = (PurePosixPath(re.sub(r"^file:/+", "/", path)) for path in (inner.path, outer.path))
    return inside.is_relative_to(around)


def same_type(left: DataType, right: str) -> bool:
    """Whether a column's type is the one a DDL string names, nullability apart."""
    return left.simpleString() == struct(f"c {right}")[0].dataType.simpleString()


def struct(ddl: str) -> StructType:
    """Return the struct type that a DDL string of columns names."""
    return cast(StructType, StructType.fromDDL(ddl))


def patiently(commit: Callable[[], object], *, what: str) -> None:
    """Try a cheap commit again while other writers win the race, ten times at most.

    Raises:
        ConflictError: they won every time.
    """
    for attempt in range(MAX_COMMITS):
        try:
            commit()
            return
        except (*CONFLICTS, AnalysisException) as problem:
            if isinstance(problem, AnalysisException) and problem.getCondition() != MOVED_ON:
                raise
            if attempt == MAX_COMMITS - 1:
                raise ConflictError(
                    f"other writers changed {what} during each of {MAX_COMMITS} tries to publish",
                    hint="the answers are kept: run the same command when the other writer is done",
                ) from problem
            # spread over time, so that two that collide do not collide again
            time.sleep(min(30.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

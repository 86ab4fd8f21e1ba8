"""A mixture as tokens: written once by executors, in the order in which training reads them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from schemas.errors import DataContractError
from schemas.job import Place
from schemas.tables import ddl
from udfs.examples import EXAMPLES, ROW_COLUMNS, ExampleSpec, Stream, encoder

TASKS_PER_CORE = 2


@dataclass(frozen=True)
class DataFacts:
    """What one data set gives to a stage of training.

    Attributes:
        left_out: rows of the mixture that the stage has no room for.
        examples: one or more a row; a row of several labels is read label by label.
        licence: as the mix file states it.
    """

    rows: int
    left_out: int
    examples: int
    tokens: int
    learned: int
    licence: str


@dataclass(frozen=True)
class Written:
    """Examples of one stage: how to read them, and what they are."""

    stream: Stream
    facts: dict[str, DataFacts]


def write_examples(
    spark: SparkSession, data: Place, version: int, spec: ExampleSpec, folder: Path, number: int
) -> Written:
    """Turn a mixture's rows into tokens on executors, unless an earlier call has; return how to read them.

    Raises:
        DataContractError: no row fits the stage.
    """
    place = Place(path=str(folder / "examples" / str(number)))
    if not lake.exists(spark, place):
        rows = lake.read(spark, data, version=version).select(*ROW_COLUMNS)
        parts = TASKS_PER_CORE * spark.sparkContext.defaultParallelism
        made = rows.repartition(parts).mapInPandas(encoder(spec), ddl(EXAMPLES))
        kept = made.where("dropped IS NULL").drop("dropped")
        lake.replace(kept.orderBy("place", "dataset", "part"), place, note="examples")
    table = lake.read(spark, place)
    facts = _facts(table, lake.read(spark, data, version=version), licences_of(spark, data, version))
    if not facts:
        raise DataContractError(f"no row of {data.text} fits {spec.longest} tokens", hint="raise the stage's `longest`")
    return Written(_stream(table), facts)


def licences_of(spark: SparkSession, data: Place, version: int) -> dict[str, str]:
    """The licences that the mix file stated, from the commit that wrote the mixture."""
    history = lake.delta_table(spark, data).history().where(F.col("version") == version)
    row = history.select("userMetadata").first()
    try:
        return dict(json.loads(row[0])["licences"]) if row is not None else {}
    except (TypeError, ValueError, KeyError):
        return {}


def _facts(examples: DataFrame, mixture: DataFrame, licences: dict[str, str]) -> dict[str, DataFacts]:
    learned = F.aggregate("mask", F.lit(0), lambda total, one: total + one.cast("int"))
    sums = [F.count_distinct("place"), F.count("*"), F.sum(F.size("ids")), F.sum(learned)]
    found = {name: list(map(int, counts)) for name, *counts in examples.groupBy("dataset").agg(*sums).collect()}
    given = {row["dataset"]: int(row["count"]) for row in mixture.groupBy("dataset").count().collect()}
    return {
        name: DataFacts(rows, given[name] - rows, examples, tokens, taught, licences.get(name, ""))
        for name, (rows, examples, tokens, taught) in sorted(found.items())
    }


def _stream(table: DataFrame) -> Stream:
    """The files in order of place, as paths of the folder that driver and training processes share."""
    file = F.col("_metadata.file_path")
    found = table.groupBy(file.alias("file")).agg(F.min("place").alias("first"), F.count("*").alias("rows"))
    rows = found.orderBy("first").collect()
    return Stream(tuple(_paths(row["file"] for row in rows)), tuple(int(row["rows"]) for row in rows))


def _paths(uris: Iterable[str]) -> Iterable[str]:
    return (unquote(urlsplit(uri).path) for uri in uris)

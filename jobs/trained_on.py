"""Mixtures that a model has learned from, as its folder says: no promise may rest on their rows."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from schemas.errors import DataContractError
from schemas.job import ModelRef, Place
from udfs.models import adapter_of

# a line for each mixture; as a *.json it would make the same weights another model
FILE = "trained_on.jsonl"
_ANYWHERE = re.compile(r"/|\w+:")


def note_mixtures(product: Path, before: ModelRef, versions: Mapping[Place, int]) -> None:
    """Write into a trained model's folder which mixtures it has seen, those of the model it went on from included."""
    own = [(_absolute(place), version) for place, version in versions.items()]
    seen = dict.fromkeys((*mixtures_of(before), *own))
    lines = [json.dumps({"mixture": name, "version": version}) for name, version in seen]
    (product / FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def mixtures_of(model: ModelRef) -> tuple[tuple[str, int], ...]:
    """The mixtures that a model has seen and the version of each; none where its folders do not say."""
    return tuple(dict.fromkeys(one for folder in _folders(model) for one in _noted(folder / FILE)))


def learned_inputs(spark: SparkSession, model: ModelRef, width: int) -> DataFrame | None:
    """The inputs of so many columns that a model was trained on, as arrays of texts; None where nothing is known.

    Raises:
        DataContractError: a mixture cannot be read any more, so that nobody can tell its rows from others.
    """
    found = [_inputs(spark, name, version, width) for name, version in mixtures_of(model)]
    return reduce(DataFrame.union, found).distinct() if found else None


def _folders(model: ModelRef) -> Iterator[Path]:
    if (adapter := adapter_of(model)) is not None:
        yield adapter
    if model.path is not None:
        yield Path(model.path).expanduser()


def _noted(file: Path) -> Iterator[tuple[str, int]]:
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            yield one["mixture"], one["version"]


def _inputs(spark: SparkSession, name: str, version: int, width: int) -> DataFrame:
    try:
        mixture = lake.read(spark, lake.place_of(name), version=version)
        rows = mixture.where((F.col("kind") == "task") & (F.size("inputs") == width)).select("inputs")
        rows.agg(F.max(F.size("inputs"))).collect()  # its files may be gone though its log is there
    except PySparkException as problem:
        raise DataContractError(
            f"version {version} of {name}, on which the model was trained, cannot be read (any more)",
            hint="no promise may rest on rows that a model has learned: put the mixture back (VACUUM removes the files "
            "of old versions), or train again",
        ) from problem
    return rows


def _absolute(place: Place) -> str:
    """A place by a word that means the same in every folder."""
    if place.path is None or _ANYWHERE.match(place.path):
        return place.text
    return str(Path(place.path).absolute())

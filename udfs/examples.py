"""Examples of a mixture: written by executors as tokens, read by training processes batch after batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from schemas.card import ModelCard
from schemas.job import ModelRef
from schemas.mix import Form
from schemas.training_row import TrainingRow
from udfs.ask import check_code
from udfs.hush import hushed
from udfs.lessons import Teacher
from udfs.masked import Unteachable
from udfs.models import stage
from udfs.packs import Row
from udfs.tokens import load_tokens

EXAMPLES: Final = {
    "place": "bigint",
    "part": "int",
    "dataset": "string",
    "ids": "array<int>",
    "mask": "array<tinyint>",
    "dropped": "string",
}
ROW_FIELDS: Final = tuple(TrainingRow.model_fields)
ROW_COLUMNS: Final = ("place", *ROW_FIELDS)
READ_ROWS = 1024

Frames = Iterator[pd.DataFrame]


@dataclass(frozen=True)
class ExampleSpec:
    """All that an executor needs to know to turn rows into tokens."""

    model: ModelRef
    digest: str
    card: ModelCard
    form: Form
    longest: int
    code: str


@dataclass(frozen=True)
class Stream:
    """Examples as files in the order in which they are read, with how many rows each holds."""

    files: tuple[str, ...]
    rows: tuple[int, ...]

    def batches(self, batch: int, *, start: int = 0) -> Iterator[list[Row]]:
        """Batches without end, the first of them beginning with row `start` of all rows read over and over."""
        found: list[Row] = []
        for row in self._endless(start % sum(self.rows)):
            found.append(row)
            if len(found) == batch:
                yield found
                found = []

    def _endless(self, start: int) -> Iterator[Row]:
        while True:
            for file, count in zip(self.files, self.rows, strict=True):
                if start < count:
                    yield from _rows_of(file, start)
                start = max(0, start - count)


def _rows_of(file: str, start: int) -> Iterator[Row]:
    with pq.ParquetFile(file) as opened:
        for found in opened.iter_batches(READ_ROWS, columns=["ids", "mask"]):
            if start >= found.num_rows:
                start -= found.num_rows
                continue
            for ids, mask in zip(found["ids"].slice(start), found["mask"].slice(start), strict=True):
                yield Row(_numbers(ids), _numbers(mask))
            start = 0


def _numbers(listed: Any) -> "np.ndarray[Any, np.dtype[np.int64]]":
    return np.asarray(listed.values.to_numpy(zero_copy_only=False), dtype=np.int64)


def encoder(spec: ExampleSpec) -> Callable[[Frames], Frames]:
    """The function for `DataFrame.mapInPandas` from a mixture's rows to examples; one row may give several."""
    return hushed(partial(_encode, spec))


def _encode(spec: ExampleSpec, frames: Frames) -> Frames:
    check_code(spec.code)
    folder = stage(spec.model, expect_digest=spec.digest).folder
    teacher = Teacher(load_tokens(str(folder)), spec.card, form=spec.form, longest=spec.longest)
    for frame in frames:
        records = (
            dict(zip(ROW_COLUMNS, values, strict=True))
            for values in zip(*(frame[name] for name in ROW_COLUMNS), strict=True)
        )
        yield frame_of([one for record in records for one in _examples(record, teacher)], list(EXAMPLES))


def _examples(record: dict[str, Any], teacher: Teacher) -> list[dict[str, Any]]:
    common = {"place": record["place"], "dataset": record["dataset"], "part": 0}
    try:
        found = teacher.examples(row_of(record))
    except Unteachable as problem:
        return [{**common, "dropped": problem.reason}]
    return [{**common, "part": part, "ids": list(one.ids), "mask": list(one.mask)} for part, one in enumerate(found)]


def row_of(record: dict[str, Any]) -> TrainingRow:
    """Return a mixture's row as Spark or Arrow hands it over."""
    values = {name: record[name] for name in ROW_FIELDS}
    if values["messages"] is not None:
        values["messages"] = tuple(dict(one) for one in _items(values["messages"]))
    if values["inputs"] is not None:
        values["inputs"] = tuple(values["inputs"])
    return TrainingRow.model_validate(values)


def _items(messages: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for message in messages:
        yield message if isinstance(message, dict) else message.asDict()


def frame_of(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """A frame of these columns, as objects: whole numbers beside nulls would become floats and lose digits."""
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})

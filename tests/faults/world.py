"""The small world of a case: a table drawn by a seed, a job over it, an engine that counts, an undisturbed night."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from pyspark.sql import SparkSession
from safetensors.numpy import save_file

from jobs import lake
from jobs.result import RunResult
from jobs.run import run
from jobs.store import Store, store_of
from schemas.job import EnrichJob, Place
from schemas.options import RunOptions
from schemas.yaml_file import load_job
from tests.faults.ledger import Seen
from tests.pure.tiny_model import write_model
from tests.scripted_engine import Book, install
from udfs.processes import identity

ROWS = 60
PATIENCE_SEC = 60.0
DDL = "id long, text string, city string, note string, price double, tags array<string>, made timestamp"
TASKS: tuple[dict[str, Any], ...] = (
    {"task": "classify", "name": "topic", "from": ["text"], "labels": ["refund", "delivery", "other"]},
    {"task": "clean", "name": "city", "rules": "the city's usual name"},
)
UNTOUCHED = ("text", "note", "price", "tags", "made")
WORDS = ("parcel", "late", "refund", "lamp", "broken", "thanks", "when", "chair", "blue", "torn", "again", "invoice")
CITIES = ("BONN", "paris ", "Oslo", "K\u00f6ln", "san  jose", "", None, "N/A", "\u6771\u4eac", "o'hare; drop")
Rows = dict[int, dict[str, Any]]
NOTES = ("", None, "=1+1", 'a,b\n"c"', "\u202eodd", "<b>bold</b>", "plain")


def rows_of(seed: int, count: int = ROWS) -> list[tuple[Any, ...]]:
    """Draw the table's rows: texts that repeat, cells that are empty or null, values of many types."""
    rng = Random(seed)
    texts: list[str | None] = [" ".join(rng.choices(WORDS, k=rng.randint(2, 9))) for _ in range(count * 2 // 3)]
    texts += [None, "", "   "]
    made = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        (
            at,
            rng.choice(texts),
            rng.choice(CITIES),
            rng.choice(NOTES),
            rng.choice([0.1, -2.5e300, None, 3.0]),
            rng.sample(WORDS, rng.randint(0, 3)),
            made,
        )
        for at in range(count)
    ]


@lru_cache(maxsize=8)
def model_in(folder: Path) -> Path:
    """Write the small model that prompts are tokenized for; one of a folder is enough."""
    model = folder / "model"
    if not model.exists():
        model.mkdir(parents=True)
        write_model(model)
        save_file({"w": np.zeros(1, dtype=np.float32)}, model / "model.safetensors")
    return model


@dataclass(frozen=True)
class World:
    """A table in a folder, and who answers questions about it."""

    spark: SparkSession
    folder: Path
    book: Book
    file: Path

    @classmethod
    def make(cls, spark: SparkSession, folder: Path, seed: int, *, shared: Path, **words: Any) -> "World":
        """Write the table, the engine's program and the job file.

        Args:
            shared: where the model is, which all worlds have in common.
            words: keys of the job file, beside `rows` (how many) and the engine's manner (`poison`, `faults`).
        """
        manner = {name: words.pop(name) for name in ("poison", "faults", "answer_sec") if name in words}
        rows = rows_of(seed, words.pop("rows", ROWS))
        frame = spark.createDataFrame(rows, DDL).coalesce(2)
        frame.write.format("delta").save(str(folder / "t"))
        python, book = install(folder / "engine", **manner)
        job = {
            "source": {"path": str(folder / "t")},
            "key": ["id"],
            "model": {"path": str(model_in(shared))},
            "engine": {"python": python, "keep_warm_min": 0.0},
            "accept": 0.0,
            "columns": list(TASKS),
        }
        file = folder / "job.yaml"
        file.write_text(yaml.safe_dump(job | words), encoding="utf-8")
        return cls(spark, folder, book, file)

    @property
    def job(self) -> EnrichJob:
        """The job as its file declares it."""
        return load_job(self.file)

    @property
    def place(self) -> Place:
        """Where the table is."""
        return Place(path=str(self.folder / "t"))

    @property
    def store(self) -> Store:
        """The job's store."""
        return store_of(self.job)

    def run(self, **options: Any) -> RunResult:
        """Run the job in this process."""
        return run(self.spark, self.job, options=RunOptions(**options))

    def rows(self) -> Rows:
        """The table's rows by key."""
        return {row["id"]: row.asDict() for row in lake.read(self.spark, self.place).collect()}

    def answered(self) -> set[str]:
        """The questions with a success on record."""
        found = self.store.read(self.spark, "answers").where("status = 'ok'").select("question_id").distinct()
        return {row["question_id"] for row in found.collect()}


@dataclass(frozen=True)
class Stage:
    """What the cases of a campaign have in common: a session, and a folder for what all of them use."""

    spark: SparkSession
    shared: Path

    def world(self, folder: Path, seed: int, **words: Any) -> World:
        """A seed's world."""
        return World.make(self.spark, folder, seed, shared=self.shared, **words)


def as_told(row: dict[str, Any], names: Sequence[str]) -> list[Any]:
    """What an undisturbed run must leave in the same way: values, confidences, errors and what is known of them."""
    told: list[Any] = []
    for name in names:
        meta = row.get(f"{name}_meta")
        known = None if meta is None else [meta[part] for part in ("status", "proposed", "question_id", "raw_score")]
        told += [row[name], row[f"{name}_confidence"], row[f"{name}_error"], known]
    return told


def _same(found: Any, expected: Any, within: float) -> bool:
    if isinstance(found, list) and isinstance(expected, list):
        return all(_same(*pair, within) for pair in zip(found, expected, strict=True))
    if isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected) <= within
    return bool(found == expected)


def alive(book: Book, *, patience: float = PATIENCE_SEC) -> int:
    """How many of an engine's starts still live after a while."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if not any(identity(start.pid).is_alive() for start in book.starts):
            return 0
        time.sleep(0.1)
    return sum(identity(start.pid).is_alive() for start in book.starts)


def check(
    seen: Seen,
    world: World,
    undisturbed: Rows,
    columns: dict[str, dict[str, Any]],
    *,
    before: Rows,
    faults: int,
    names: Sequence[str] = ("topic", "city"),
    within: float = 0.0,
) -> None:
    """Hold a world to the invariants of every case, after the run that ended it.

    Args:
        undisturbed: the same table after a night in which nothing happened.
        columns: what the run reported of each.
        before: the table's rows before any run.
        within: how far numbers may lie from the undisturbed ones: an engine's last digits hang on what it is asked
            beside a question.
    """
    rows = world.rows()
    listed = lake.read(world.spark, world.place).select("id").collect()
    seen.rows = len(before)
    seen.check(len(listed) == len(rows), f"keys repeat: {len(listed)} rows, {len(rows)} keys")
    seen.check(rows.keys() == before.keys(), f"rows differ: {sorted(rows.keys() ^ before.keys())}")
    lost = [
        key
        for key in before
        if key not in rows or not _same(as_told(rows[key], names), as_told(undisturbed[key], names), within)
    ]
    seen.lost = len(lost)
    seen.check(not lost, f"rows are not as an undisturbed run leaves them: {lost[:5]}")
    touched = [key for key in before.keys() & rows.keys() for name in UNTOUCHED if rows[key][name] != before[key][name]]
    seen.check(not touched, f"untouched columns changed in rows {touched[:5]}")
    for name in names:
        statuses = columns[name]["statuses"]
        seen.check(sum(statuses.values()) == len(before), f"{name}: statuses sum to {sum(statuses.values())}")
        seen.check(min(statuses.values()) >= 0, f"{name}: negative counts {statuses}")
    most = max(Counter(world.book.asked).values(), default=0)
    seen.check(most <= 1 + faults, f"a question was asked {most} times after {faults} faults")
    _check_changes(seen, world, before, rows, names)


def _check_changes(seen: Seen, world: World, before: Rows, after: Rows, names: Sequence[str]) -> None:
    """Every change that stands has a row in the change log, under the run that the cell names."""
    logged = {
        (row["run_id"], json.loads(row["key"])["id"], row["column"])
        for row in world.store.read(world.spark, "changes").collect()
    }
    missing = []
    for key in before.keys() & after.keys():
        for name in names:
            old = before[key].get(name)
            if after[key][name] != old and (after[key][f"{name}_meta"]["published_run"], key, name) not in logged:
                missing.append((key, name))
    seen.check(not missing, f"changes without a row in the log: {missing[:5]}")


_UNDISTURBED: dict[Path, Rows] = {}


def undisturbed_of(make: Callable[[Path, int], World], folder: Path) -> Callable[[int], Rows]:
    """What a night without a fault makes of a seed's table; each seed of a folder is run once in a process."""

    def rows(seed: int) -> Rows:
        mine = folder / str(seed)
        if mine not in _UNDISTURBED:
            # of a process that was cut short in the middle of it
            shutil.rmtree(mine, ignore_errors=True)
            world = make(mine, seed)
            world.run()
            _UNDISTURBED[mine] = world.rows()
        return _UNDISTURBED[mine]

    return rows

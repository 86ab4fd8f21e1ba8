"""Replicas between runs: kept warm, ended by hand, and not troubled twice by a row that kills them.

The engine is the scripted one, which counts its starts and dies on demand.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from jobs.preview import preview_table
from jobs.replicas import stop_replicas
from schemas.job import EnrichJob
from tests.pure.tiny_model import write_model
from tests.scripted_engine import Book, install
from tests.shop import TOPIC, Shop, counts
from udfs.processes import identity
from udfs.tokens import load_tokens

WORDS = ("one lamp", "two chairs", "bane", "three rugs", "four clocks")


class Stand:
    """A shop whose model is a folder and whose engine is scripted."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        (folder / "model").mkdir()
        self.shop, self.model = shop, write_model(folder / "model")
        save_file({"w": np.zeros(1, dtype=np.float32)}, self.model / "model.safetensors")
        poison = load_tokens(str(self.model)).encode_cell(" bane")
        self.python, self.book = install(folder / "engine", poison=poison)
        shop.write(list(enumerate(WORDS)), "id long, text string")

    def job(self, **engine: object) -> EnrichJob:
        """Declare a job that asks the scripted engine."""
        words = {"model": {"path": str(self.model)}, "engine": {"python": self.python, **engine}}
        return self.shop.job(TOPIC, accept=0.0, limits={"max_failed_share": 0.5}, **words)


@pytest.fixture
def stand(shop: Shop, tmp_path: Path) -> Iterator[Stand]:
    yield Stand(shop, tmp_path)
    stop_replicas(shop.spark)


def await_end(book: Book) -> bool:
    """Whether all engines of a book end within a few seconds."""
    deadline = time.monotonic() + 30
    while any(identity(start.pid).is_alive() for start in book.starts) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(identity(start.pid).is_alive() for start in book.starts)


def test_a_second_preview_starts_no_engine_and_a_word_ends_it(stand: Stand) -> None:
    stand.shop.sql("DELETE FROM {t} WHERE text = 'bane'")
    job = stand.job(keep_warm_min=15.0)
    shown = [preview_table(stand.shop.spark, job, rows=3).as_dict()["rows"] for _ in range(2)]
    assert shown[0] == shown[1]
    assert [row["topic_meta"]["status"] for row in shown[0]] == ["accepted"] * 3
    assert len(stand.book.starts) == 1
    assert stop_replicas(stand.shop.spark) == 1
    assert await_end(stand.book)


def test_a_second_run_over_a_row_that_kills_the_engine_starts_none(stand: Stand) -> None:
    first = stand.shop.run(stand.job())
    assert counts(first, "topic") == {"accepted": 4, "failed": 1}
    rows = stand.shop.rows()
    assert [key for key, row in rows.items() if row["topic_error"] == "engine_fatal"] == [WORDS.index("bane")]
    starts = len(stand.book.starts)
    assert starts <= 4
    second = stand.shop.run(stand.job())
    assert (second.progress.questions, len(stand.book.starts)) == (0, starts)
    assert counts(second, "topic") == counts(first, "topic")

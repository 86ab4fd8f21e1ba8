"""Replicas between runs: kept warm, ended by hand, and not troubled twice by a row that kills them.

The engine is the scripted one, which counts its starts and dies on demand.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from pydantic import TypeAdapter
from safetensors.numpy import save_file

from jobs.asking import EXECUTOR_GPUS, TASK_GPUS, Cluster, Model
from jobs.preview import preview_table
from jobs.replicas import stop_replicas
from schemas.card import ModelCard
from schemas.job import Engine, EnrichJob, ModelRef
from schemas.tasks import AnyTask
from tests.pure.tiny_model import write_model
from tests.scripted_engine import Book, install
from tests.shop import TOPIC, Shop, counts
from udfs.models import StagedModel
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
    stop_replicas(shop.spark)  # of other tests of the same application
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


def test_an_engine_that_ran_out_of_memory_is_followed_by_one_that_takes_fewer_rows(stand: Stand) -> None:
    stand.shop.sql("DELETE FROM {t} WHERE text = 'bane'")
    stand.python, stand.book = install(stand.model.parent / "small", faults=[(1, "out of memory")])
    result = stand.shop.run(stand.job(max_num_seqs=8))
    assert counts(result, "topic") == {"accepted": 4}
    sizes = [start.arguments[start.arguments.index("--max-num-seqs") + 1] for start in stand.book.starts]
    assert sizes == ["8", "4"]


def cluster(master: str, *, cores: int, executors: int = 0, **settings: str) -> Cluster:
    """A cluster of a session that answers no more than what a Cluster asks it."""
    members = SimpleNamespace(size=lambda: executors + 1)
    jvm = SimpleNamespace(sc=lambda: SimpleNamespace(getExecutorMemoryStatus=lambda: members))
    context = SimpleNamespace(master=master, defaultParallelism=cores, _jsc=jvm)
    return Cluster(cast(Any, SimpleNamespace(sparkContext=context, conf=settings)), Engine())


def gpus(executor: str, task: str, **settings: str) -> dict[str, str]:
    return {EXECUTOR_GPUS: executor, TASK_GPUS: task, **settings}


@pytest.mark.parametrize(
    ("found", "replicas", "slots", "slots_per_replica"),
    [
        (cluster("local[2]", cores=2), 1, 2, 2),
        (cluster("spark://a", cores=64, executors=4, **gpus("1", "1")), 4, 4, 1),
        (cluster("spark://a", cores=64, executors=4, **gpus("1", "0.25")), 4, 16, 4),
        (cluster("yarn", cores=32, executors=2, **gpus("2", "2")), 2, 2, 1),
        (cluster("yarn", cores=32, executors=2, **gpus("8", "2")), 8, 8, 1),
        # two tasks share each GPU: the rest of one is of no use to a third
        (cluster("yarn", cores=32, executors=1, **gpus("2", "0.4")), 2, 4, 2),
        # cores bound the tasks too, and with them the replicas that are fed
        (cluster("yarn", cores=32, executors=4, **gpus("1", "0.25", **{"spark.task.cpus": "4"})), 4, 8, 2),
        (cluster("yarn", cores=4, executors=1, **gpus("8", "1")), 4, 4, 1),
        (cluster("k8s://a", cores=64, executors=4), 4, 64, 16),
        (cluster("k8s://a", cores=2, executors=0, **gpus("1", "1")), 1, 1, 1),
    ],
)
def test_gpus_bound_what_works_at_once(found: Cluster, replicas: int, slots: int, slots_per_replica: int) -> None:
    assert (found.replicas, found.slots, found.slots_per_replica) == (replicas, slots, slots_per_replica)


def fingerprint_with(*, is_endpoint: bool = False, **engine: Any) -> str:
    """The topic's fingerprint under these engine settings."""
    staged = None if is_endpoint else StagedModel(folder=Path("m"), digest="d", name="m", revision="d")
    ref = ModelRef(endpoint="https://models.example/v1", model="m") if is_endpoint else ModelRef(path="m")
    task: AnyTask = TypeAdapter(AnyTask).validate_python(TOPIC)
    return Model(ref, Engine(**engine), ModelCard(), staged=staged).fingerprint(task)


@pytest.mark.parametrize(
    "engine",
    [
        {"max_model_len": 4096},
        {"vllm": {"dtype": "float16"}},
        {"vllm": {"quantization": "fp8"}},
        {"vllm": {"kv_cache_dtype": "fp8"}},
        {"vllm": {"hf_overrides": '{"rope_theta": 1}'}},
        {"vllm": {"enable_lora": True}},
        {"vllm": {"an-argument-of-next-year": 1}},
    ],
    ids=str,
)
def test_an_engine_setting_that_changes_answers_changes_the_fingerprint(engine: dict[str, Any]) -> None:
    assert fingerprint_with(**engine) != fingerprint_with()


@pytest.mark.parametrize(
    "engine",
    [
        {"max_num_seqs": 8, "gpu_memory_utilization": 0.5, "kv_cache_gib": 2.0, "keep_warm_min": 1.0, "python": "p"},
        {"vllm": {"max_num_seqs": 8, "--max-num-batched-tokens": 512, "tensor_parallel_size": 2, "block_size": 16}},
        {"vllm": {"enforce_eager": True, "no-enable-prefix-caching": True, "enable_lora": False}},
    ],
    ids=str,
)
def test_one_that_changes_the_pace_alone_does_not(engine: dict[str, Any]) -> None:
    assert fingerprint_with(**engine) == fingerprint_with()


def test_arguments_count_under_any_spelling_and_none_of_them_for_an_endpoint() -> None:
    assert fingerprint_with(vllm={"hf_overrides": "{}"}) == fingerprint_with(vllm={"--hf-overrides": "{}"})
    plain = fingerprint_with(is_endpoint=True)
    assert fingerprint_with(is_endpoint=True, vllm={"dtype": "float16"}) == plain
    assert fingerprint_with(is_endpoint=True, max_model_len=512) != plain

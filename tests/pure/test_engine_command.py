"""What an engine is started with: its environment and its command line."""

from pathlib import Path

import pytest

from udfs.engine_command import ReplicaSpec, command, environment

SPEC = ReplicaSpec(app_id="a", model_dir="/m", model_digest="d", engine_args=(("max_num_batched_tokens", "4096"),))


def variables(addresses: tuple[str, ...]) -> dict[str, str]:
    return dict(environment(SPEC, folder=Path("/f"), addresses=addresses, on_cpu=False))


def test_the_tasks_addresses_are_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert variables(("2", "3"))["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_without_addresses_the_executors_own_device_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert variables(())["CUDA_VISIBLE_DEVICES"] == "7"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "CUDA_VISIBLE_DEVICES" not in variables(())


def test_what_a_spark_worker_has_set_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "PYTHONHASHSEED", "VLLM_API_KEY", "PYTHONPATH", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "1")
    found = variables(())
    assert not {"OMP_NUM_THREADS", "PYTHONHASHSEED", "VLLM_API_KEY", "OPENAI_API_KEY"} & found.keys()
    assert found["PYTHONPATH"] == "/f/code"
    assert (found["VLLM_NO_USAGE_STATS"], found["VLLM_WORKER_MULTIPROC_METHOD"]) == ("1", "spawn")


def test_what_is_ours_cannot_be_changed_and_the_rest_can() -> None:
    spec = ReplicaSpec("a", "/m", "d", engine_args=(("uds", "/elsewhere"), ("max_num_seqs", "8")))
    line = command(spec, socket=Path("/f/s"), devices=2, on_cpu=False)
    options = {line[at]: line[at + 1] for at in range(3, len(line) - 1)}
    assert (options["--uds"], options["--max-num-seqs"]) == ("/f/s", "8")
    assert options["--tensor-parallel-size"] == "2"
    assert not {"--port", "--host", "--trust-remote-code"} & set(line)

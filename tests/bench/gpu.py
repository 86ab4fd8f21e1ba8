"""Host and client ÷ raw vLLM on a GPU, with a model of 8B shape whose weights the engine makes up.

`gpu.py` exits 3 where there is no GPU or the GPU build of vLLM is missing; `--quick` proves the script on any machine.
"""

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LEAST = 0.95
PROMPT, OUTPUT = 400, 30
SEQUENCES, MAX_LEN = 512, 2048


def main() -> int:
    """Measure, print the table and put it into the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few prompts, on whatever is there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    # PYTHONSAFEPATH keeps a script's own folder off the path.
    sys.path.insert(0, str(HERE))
    if given.raw is not None:
        return _raw(given.raw)
    if (missing := _missing()) and not given.quick:
        print(f"GPU: not measured ({missing})", file=sys.stderr)
        return 3
    report = importlib.import_module("report")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="burnish-gpu-") as folder:
        table = _measured(Path(folder), quick=given.quick, rounds=given.rounds)
    seconds = time.monotonic() - began
    text = report.section("gpu", [table], command="tests/bench/gpu.py", seconds=seconds, rounds=given.rounds)
    print(text)
    if not given.quick:
        report.write(given.results, "gpu", text, order=["gpu"])
    return 0


def _missing() -> str:
    """Return what this machine lacks, or nothing."""
    from jobs.machine import gpus
    from schemas.errors import EnvironmentProblem
    from udfs.engine_command import installed_vllm

    if not gpus():
        return "nvidia-smi shows no GPU"
    try:
        return "" if installed_vllm(sys.executable) == "vllm" else "the CPU build of vLLM is installed"
    except EnvironmentProblem as problem:
        return str(problem)


def _measured(folder: Path, *, quick: bool, rounds: int) -> Any:
    shapes = importlib.import_module("shapes")
    model = shapes.write_model(folder / "model", shapes.TINY if quick else shapes.EIGHT_B, weights=False)
    facts: dict[str, Any] = {
        "model": str(model),
        "prompts": _prompts(200 if quick else 20_000),
        "rounds": rounds,
        "dtype": "float32" if quick else "bfloat16",
        "sequences": 64 if quick else SEQUENCES,
    }
    work = folder / "facts.json"
    work.write_text(json.dumps(facts))
    subprocess.run([sys.executable, str(Path(__file__)), "--raw", str(work)], check=True, env=_environment())
    raw = json.loads(work.with_suffix(".out").read_text())
    ours, posts = _hosted(facts, folder)
    return _table(raw, ours, posts, prompts=len(facts["prompts"]))


def _environment() -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    return {**os.environ, **offline, "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}


def _prompts(count: int) -> list[list[int]]:
    """Return prompts of random tokens behind a common head, as a task's instructions are."""
    draw = random.Random(7)
    head = [draw.randrange(100, 40_000) for _ in range(PROMPT // 4)]
    return [head + [draw.randrange(100, 40_000) for _ in range(PROMPT - len(head))] for _ in range(count)]


def _raw(work: Path) -> int:
    """Generate with `vllm.LLM` in this process, and write rows and output tokens per second of every round."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RepetitionDetectionParams

    from udfs.post import REPETITION

    facts = json.loads(work.read_text())
    llm = LLM(
        facts["model"],
        load_format="dummy",
        dtype=facts["dtype"],
        max_model_len=MAX_LEN,
        max_num_seqs=facts["sequences"],
        logprobs_mode="processed_logprobs",
    )
    sampling = SamplingParams(
        temperature=0,
        max_tokens=OUTPUT,
        logprobs=0,
        detokenize=False,
        repetition_detection=RepetitionDetectionParams(**REPETITION),
    )
    prompts: list[Any] = [{"prompt_token_ids": ids} for ids in facts["prompts"]]
    llm.generate(prompts[: len(prompts) // 20], sampling, use_tqdm=False)
    found = []
    for _ in range(facts["rounds"]):
        llm.reset_prefix_cache()
        began = time.monotonic()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.monotonic() - began
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        found.append((len(prompts) / seconds, tokens / seconds))
    work.with_suffix(".out").write_text(json.dumps(found))
    return 0


def _hosted(facts: dict[str, Any], folder: Path) -> tuple[list[tuple[float, float]], list[float]]:
    """Return rows and output tokens per second of burnish's client, and rows of bare POSTs to the same server."""
    direct = importlib.import_module("direct")
    from udfs.client import Client
    from udfs.engine_command import ReplicaSpec
    from udfs.replica import hold
    from udfs.standing import stop_all
    from udfs.wire import Read

    # What a job file may not say: there are no weights to load.
    spec = ReplicaSpec(
        app_id="burnish-bench-gpu",
        model_dir=facts["model"],
        model_digest="dummy",
        engine_args=(("load-format", "dummy"), ("dtype", facts["dtype"])),
        python=sys.executable,
        max_num_seqs=facts["sequences"],
        max_model_len=MAX_LEN,
    )
    ours, posts = [], []
    try:
        with hold(spec) as replica:
            client = Client(replica, window=max(64, round(1.1 * facts["sequences"])))
            _served(client, [Read(tuple(ids), OUTPUT) for ids in facts["prompts"][: len(facts["prompts"]) // 20]])
            for turn in range(facts["rounds"]):
                # Another first token and another salt: no round finds its rows in the prefix cache.
                reads = [Read((50 + turn, *ids[1:]), OUTPUT) for ids in facts["prompts"]]
                ours.append(_served(client, reads))
                bodies = direct.bodies_of(reads, folder, direct.salted(f"turn-{turn}"))
                flying = client.window // direct.POST_SIZE + 1
                posts.append(len(reads) / direct.send(bodies, replica.socket, in_flight=flying))
    finally:
        stop_all(spec.app_id)
    return ours, posts


def _served(client: Any, reads: list[Any]) -> tuple[float, float]:
    began = time.monotonic()
    tokens, failed = 0, 0
    for _, (reply,) in client.run((place, [read]) for place, read in enumerate(reads)):
        tokens += len(reply.token_ids)
        failed += bool(reply.error)
    seconds = time.monotonic() - began
    if failed:
        raise RuntimeError(f"{failed} of {len(reads)} reads failed")
    return len(reads) / seconds, tokens / seconds


def _table(raw: list[tuple[float, float]], ours: list[tuple[float, float]], posts: list[float], *, prompts: int) -> Any:
    report = importlib.import_module("report")
    ratios = [mine[1] / theirs[1] for mine, theirs in zip(ours, raw, strict=True)]
    middle = sorted(ratios)[len(ratios) // 2]
    rows = [
        ("LLM.generate", report.spread([one[0] for one in raw], digits=1), report.spread([one[1] for one in raw])),
        ("server, bare POSTs", report.spread(posts, digits=1), ""),
        ("host and client", report.spread([one[0] for one in ours], digits=1), report.spread([one[1] for one in ours])),
        ("host and client ÷ LLM.generate, by tokens", report.spread(ratios), report.verdict(middle, least=LEAST)),
    ]
    note = (
        f"{prompts:,} prompts of {PROMPT} token ids, up to {OUTPUT} out, log-probabilities on all sides, weights made "
        "up by the engine, prefix caches cold but for the common head. LLM.generate runs first, in its own process."
    )
    return report.Table(("how", "prompts/s", "output tokens/s"), rows, note)


if __name__ == "__main__":
    sys.exit(main())

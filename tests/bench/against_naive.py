"""Part b: the same model and prompts through `naive.py`, the script that anyone would write, night after night."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from report import Table, spread
from rig import Bench, job_on
from shapes import TINY, write_model
from texts import CLASSIFY, LABELS, messages, write_messages

from jobs.asking import ready_model, spec_of
from jobs.run import run
from schemas.job import EnrichJob
from schemas.options import RunOptions
from udfs.ask import open_desk
from udfs.standing import stop_all

MARK = "MESSAGE"
# Arrow's default; a person would not think of it
BATCH = 10_000


def naive(bench: Bench) -> list[Table]:
    """Measure a first night, a second one without changes, and a table of which 80 % repeats."""
    model = {"path": str(write_model(bench.folder / "tiny", TINY, weights=True))}
    count, rows = bench.size(6000, quick=200), []
    for name, share, nights in (("all distinct", 1.0, 2), ("80 % duplicates", 0.2, 1)):
        found: dict[tuple[str, int], list[dict[str, float]]] = {}
        for turn in range(bench.rounds):
            texts = _texts(count, share, seed=turn)
            for side in (_burnish, _naive) if turn % 2 else (_naive, _burnish):
                path = bench.path(f"{name[:2].strip()}-{turn}-{side.__name__}")
                write_messages(bench.spark, path, texts)
                for night in range(nights):
                    seen = side(bench, job_on(path, {**CLASSIFY, "accept": 0.0}, model=model))
                    found.setdefault((side.__name__, night), []).append(seen)
                    print(f"  {name}, {side.__name__}, night {night + 1}: {seen}", flush=True)
        rows += [_row(f"{name}, night {night + 1}", found, night) for night in range(nights)]
    return [_table(rows, count)]


def _texts(count: int, share: float, *, seed: int) -> list[str]:
    distinct = messages(max(1, round(count * share)), seed=seed)
    return [distinct[place % len(distinct)] for place in range(count)]


def _burnish(bench: Bench, job: EnrichJob) -> dict[str, float]:
    """Run one night from a cold engine, whose start is timed apart; a night that asks nothing starts none."""
    stop_all(bench.spark.sparkContext.applicationId)
    began = time.monotonic()
    has_run = Path(job.target_place.path or "", "..", f"{Path(job.target_place.path or '').name}_burnish").is_dir()
    start = 0.0
    if not has_run:
        with open_desk(spec_of(bench.spark, job, ready_model(job), run_id="start"), owner_pid=bench.jvm_pid):
            start = time.monotonic() - began
    result = run(bench.spark, job, options=RunOptions())
    return {
        "seconds": time.monotonic() - began,
        "engine_start": start,
        "asked": float(result.progress.questions),
    }


def _naive(bench: Bench, job: EnrichJob) -> dict[str, float]:
    model = ready_model(job)
    staged = model.staged
    facts = {
        "path": job.target_place.path,
        "model": str(staged.folder) if staged is not None else "",
        "template": _template(job, model),
        "labels": list(LABELS),
        "batch": BATCH,
    }
    script = Path(__file__).with_name("naive.py")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYSPARK_", "SPARK_"))}
    said = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(facts),
        capture_output=True,
        text=True,
        check=False,
        env=kept | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
    )
    if said.returncode:
        raise RuntimeError(f"naive.py ended with {said.returncode}: {said.stderr[-2000:]}")
    found: dict[str, float] = json.loads(said.stdout.strip().splitlines()[-1])
    count = bench.spark.read.format("delta").load(str(job.target_place.path)).count()
    return found | {"asked": float(count)}


def _template(job: EnrichJob, model: Any) -> str:
    """Return the prompt that burnish sends, as text, with a mark where the row's message stands."""
    inquiry = model.inquiry(job.columns[0])
    tokens = inquiry.setting.tokens
    prompt = inquiry.asked([MARK]).reads[0].prompt
    text = b"".join(tokens.token_bytes(token) for token in prompt).decode()
    return text.replace(MARK, "{message}")


def _row(name: str, found: dict[tuple[str, int], list[dict[str, float]]], night: int) -> tuple[str, ...]:
    mine, theirs = found["_burnish", night], found["_naive", night]
    whole = [their["seconds"] / my["seconds"] for my, their in zip(mine, theirs, strict=True)]
    bare = [_without_start(their) / _without_start(my) for my, their in zip(mine, theirs, strict=True)]
    asked = f"{mine[0]['asked']:,.0f} / {theirs[0]['asked']:,.0f}"
    seconds = (spread([one["seconds"] for one in side], digits=1) for side in (mine, theirs))
    return (name, asked, *seconds, spread(whole), spread(bare))


def _without_start(night: dict[str, float]) -> float:
    return night["seconds"] - night["engine_start"]


def _table(rows: list[tuple[str, ...]], count: int) -> Table:
    headings = ("night", "asked, burnish / naive", "burnish, s", "naive, s", "naive ÷ burnish", "without engine start")
    note = (
        f"{count:,} rows, tiny random-weight model, the same prompts, each night with an engine of its own. burnish "
        "writes a confidence, provenance and a change log beside every label; the naive script writes the label. On "
        "the second night nothing has changed; the naive script keeps no record and asks every row again."
    )
    return Table(headings, rows, note)

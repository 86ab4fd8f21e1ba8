"""A training's log: one line per step, and its curve as a picture."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

SMOOTHED_OVER = 25  # steps


@dataclass(frozen=True)
class Step:
    """One step of a stage; `tokens` are those it computed, over all processes."""

    stage: int
    step: int
    loss: float
    accuracy: float
    learning_rate: float
    tokens: int


def log_of(folder: Path, stage: int) -> Path:
    """The file that a stage's process writes."""
    return folder / "stages" / str(stage) / "log.jsonl"


def steps_of(folder: Path, stages: int) -> list[Step]:
    """Return the steps that count: what was done again after a kill replaces what was done before."""
    found: list[Step] = []
    for stage in range(1, stages + 1):
        lines = log_of(folder, stage).read_text(encoding="utf-8").splitlines()
        logged = [json.loads(line) for line in lines if line.endswith("}")]
        by_step = {one["step"]: one for one in logged}
        found += [
            Step(stage, step, one["loss"], one["accuracy"], one["learning_rate"], int(one["tokens"]))
            for step, one in sorted(by_step.items())
        ]
    return found


def draw(steps: list[Step], file: Path, *, title: str) -> None:
    """Write the loss of every step, and its running mean, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss per learned token", title=title)
    losses = [step.loss for step in steps]
    axes.plot(range(1, len(losses) + 1), losses, linewidth=0.6, alpha=0.4, color="tab:blue")
    axes.plot(range(1, len(losses) + 1), _smooth(losses), color="tab:blue")
    for place, (before, after) in enumerate(itertools.pairwise(steps), 1):
        if after.stage != before.stage:
            axes.axvline(place + 0.5, linestyle="--", color="gray")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


def _smooth(losses: list[float]) -> list[float]:
    return [
        sum(losses[max(0, place - SMOOTHED_OVER + 1) : place + 1]) / min(SMOOTHED_OVER, place + 1)
        for place in range(len(losses))
    ]

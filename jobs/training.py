"""One stage of training under Spark's TorchDistributor, with its progress on the driver."""

import json
import logging
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.errors import EnvironmentProblem
from schemas.train import TrainFile
from udfs.examples import Stream
from udfs.models import StagedModel

if TYPE_CHECKING:
    from udfs.training import StagePlan

MARK = "burnish "  # as `udfs.training` writes it, which imports torch
LINE_EVERY_SEC = 10.0
KEPT_LINES = 3


def run_stage(
    spark: SparkSession,
    file: TrainFile,
    number: int,
    staged: StagedModel,
    stream: Stream,
    folder: Path,
    before: str | None,
) -> str:
    """Train one stage unless it is done; return the folder of what it left.

    Raises:
        EnvironmentProblem: a training process failed; its output stands in the stage's train.log.
    """
    from udfs.training import train_stage

    plan = _plan_of(file, number, staged, stream, folder, before)
    if plan.final.is_dir():
        return str(plan.final)
    Path(plan.folder).mkdir(parents=True, exist_ok=True)
    on_driver = file.run_on == "driver"
    distributor = TorchDistributor(num_processes=file.processes, local_mode=on_driver, use_gpu=_uses_gpu(spark, file))
    # its constructor makes the logger talkative
    distributor.logger.setLevel(logging.ERROR)
    log = Path(plan.folder) / "train.log"
    with log.open("a", encoding="utf-8") as out, Relay(out, number, len(file.stages)) as relay:
        try:
            with redirect_stdout(relay):
                distributor.run(train_stage, plan)
        except RuntimeError as problem:
            raise EnvironmentProblem(
                f"training stage {number} failed: {relay.last_words}",
                hint=f"{log} has its whole output; the same command goes on from the last checkpoint",
            ) from problem
    return str(plan.final)


def _plan_of(
    file: TrainFile, number: int, staged: StagedModel, stream: Stream, folder: Path, before: str | None
) -> "StagePlan":
    from udfs.training import StagePlan

    is_lora = file.method == "lora"
    return StagePlan(
        folder=str(folder / "stages" / str(number)),
        model=before if before and not is_lora else str(staged.folder),
        stage=file.stages[number - 1],
        stream=stream,
        seed=file.seed + number - 1,
        precision=file.precision,
        checkpoint_every=file.checkpoint_every,
        lora=file.lora if is_lora else None,
        begin_from=before if is_lora else None,
    )


def _uses_gpu(spark: SparkSession, file: TrainFile) -> bool:
    """Whether Spark hands out GPUs where the processes run; without that they see the machine's own."""
    resource = "spark.driver.resource.gpu.amount" if file.run_on == "driver" else "spark.task.resource.gpu.amount"
    return spark.sparkContext.getConf().get(resource) is not None


@dataclass
class Relay:
    """A stdout for the training processes: progress becomes a bar or a line on stderr, the rest goes to the log."""

    log: TextIO
    stage: int
    stages: int
    bar: Progress | None = None
    last_line: float = 0.0
    kept: list[str] = field(default_factory=list)

    def __enter__(self) -> "Relay":
        """Open the bar where there is a terminal."""
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            told = TextColumn("{task.fields[told]}")
            self.bar = Progress(*columns, told, console=Console(stderr=True), transient=True)
            self.bar.add_task(f"stage {self.stage} of {self.stages}", total=None, told="")
            self.bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()

    @property
    def last_words(self) -> str:
        """What a failed process said last."""
        return self.kept[-1] if self.kept else "it ended without a word"

    def write(self, text: str) -> int:
        """Take lines as TorchDistributor passes them on."""
        for line in text.splitlines():
            if line.startswith(MARK):
                self._show(json.loads(line.removeprefix(MARK)))
            elif line.strip():
                self.log.write(line + "\n")
                self.kept = [*self.kept, line.strip()][-KEPT_LINES:]
        return len(text)

    def flush(self) -> None:
        """Bring the log up to date."""
        self.log.flush()

    def _show(self, step: dict[str, Any]) -> None:
        told = f"loss {step['loss']:.3f}, {step['tokens_per_sec']:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], total=step["steps"], completed=step["step"], told=told)
        elif time.monotonic() - self.last_line >= LINE_EVERY_SEC or step["step"] == step["steps"]:
            self.last_line = time.monotonic()
            of = f"stage {self.stage} of {self.stages}: step {step['step']:,} of {step['steps']:,}"
            sys.stderr.write(f"{of}, {told}\n")

"""Tokens of questions, estimated from a sample that the model's own tokenizer counts (an endpoint's: characters)."""

import math
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.prepare import Prepared
from schemas.tables import BUCKETS
from schemas.tasks import AnyTask
from udfs.endpoint import CHARACTERS_PER_TOKEN, messages_of
from udfs.questions import Inquiry

SAMPLE = 200


@dataclass(frozen=True)
class Estimate:
    """Tokens of one task's questions: a line through a sample."""

    base: float
    per_byte: float
    output: float
    sampled: int
    prompt: str

    def prompt_tokens(self, questions: int, input_bytes: int) -> int:
        """Return the estimated tokens of so many questions' prompts."""
        return round(questions * self.base + self.per_byte * input_bytes)

    def output_tokens(self, questions: int) -> int:
        """Return the estimated tokens of so many answers."""
        return round(questions * self.output)

    def tokens(self, questions: int, input_bytes: int) -> int:
        """Return the estimated tokens, prompts and answers, of so many questions."""
        return self.prompt_tokens(questions, input_bytes) + self.output_tokens(questions)


def estimates(
    prepared: Prepared, questions: DataFrame, counted: dict[str, tuple[int, int]], *, prompts: bool = False
) -> dict[str, Estimate]:
    """Count the tokens of about 200 questions a task with the model's own tokenizer.

    Args:
        prompts: keep one prompt of each task, with the row's texts in it.
        counted: `totals` of the same questions; it says how thin a slice of the buckets is enough.
    """
    widths = {name: math.ceil(BUCKETS * min(1.0, SAMPLE / number)) for name, (number, _) in counted.items()}
    slices = F.lit(False)
    for name, width in widths.items():
        slices = slices | ((F.col("task") == name) & (F.col("bucket") < width))
    # the bucket follows from the question alone: Catalyst asks for it before it tells questions apart
    questions = questions.where(F.col("bucket") < max(widths.values(), default=0))
    by_task: dict[str, list[list[str | None]]] = {task.name: [] for task in prepared.tasks}
    for row in questions.where(slices).select("task", "inputs").collect():
        by_task[row["task"]].append(list(row["inputs"]))
    return {task.name: _estimate(prepared, task, by_task[task.name], shows=prompts) for task in prepared.tasks}


def _estimate(prepared: Prepared, task: AnyTask, sample: list[list[str | None]], *, shows: bool) -> Estimate:
    inquiry = prepared.model.inquiry(task)
    # whoever asks an endpoint has its prompts in characters
    unit = CHARACTERS_PER_TOKEN if inquiry.setting.is_endpoint else 1
    empty = sum(len(read.prompt) for read in inquiry.asked(["" for _ in task.inputs]).reads)
    if not sample:
        return Estimate(empty / unit, 0.0, 0.0, 0, "")
    prompts, outputs, size = 0, 0, 0
    for values in sample:
        reads = inquiry.asked(values).reads
        prompts += sum(len(read.prompt) for read in reads)
        outputs += sum(min(read.max_tokens, _usual_output(task, values)) for read in reads)
        size += sum(len(value.encode()) for value in values if value is not None)
    per_byte = max(0.0, (prompts - empty * len(sample)) / size) if size else 0.0
    return Estimate(
        empty / unit,
        per_byte / unit,
        outputs / len(sample),
        len(sample),
        _shown(inquiry, sample[0]) if shows else "",
    )


def _shown(inquiry: Inquiry, values: list[str | None]) -> str:
    """Return a question's first prompt as the model sees it."""
    reads = inquiry.asked(values).reads
    if inquiry.setting.is_endpoint:
        return "\n".join(message["content"] for read in reads[:1] for message in messages_of(read.prompt))
    tokens = inquiry.setting.tokens
    return b"".join(tokens.token_bytes(token) for read in reads[:1] for token in read.prompt).decode(errors="replace")


def _usual_output(task: AnyTask, values: list[str | None]) -> int:
    """Guess the decoded tokens of one read: a cleaned cell is about as long as the cell."""
    if task.kind == "struct":
        return 12 * len(getattr(task, "attributes", ()))
    if task.kind == "cell":
        return max(4, len((values[-1] or "").encode()) // 2)
    return 4 if task.kind in ("label", "labels", "bool") else 16


def totals(questions: DataFrame) -> dict[str, tuple[int, int]]:
    """Return (questions, bytes of their inputs) per task."""
    rows = questions.groupBy("task").agg(F.count("*").alias("n"), F.sum("input_bytes").alias("size")).collect()
    return {row["task"]: (int(row["n"]), int(row["size"])) for row in rows}

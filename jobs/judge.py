"""Judging answers: from an answer's JSON to a typed value, its guards, its status. All in Catalyst."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import cells as cells_
from jobs import lake
from jobs.cells import CellFrame
from jobs.chosen import note_of, score_of, shown_scores
from jobs.columns import broken_rule, column_types, value_type
from jobs.source import ZONED
from jobs.texts import is_blank, text_of
from schemas.tasks import AnyTask, Match

WRITTEN_BY = "written_by:"


@dataclass(frozen=True)
class Judgement:
    """How one task's answers become values."""

    cells: CellFrame
    at: int

    @property
    def task(self) -> AnyTask:
        """The task, labels resolved."""
        return self.cells.scope.tasks[self.at]

    @property
    def value_type(self) -> str:
        """Spark type of the written column; an in-place column keeps its own."""
        return value_type(self.task, self.cells.scope.schema)

    def column_types(self) -> dict[str, str]:
        """Return every column that the task writes, with its type."""
        return column_types(self.task, self.cells.scope.schema)

    def typed(self, json: Column) -> Column:
        """Return a JSON value as the column's type; what does not convert is null."""
        wrapped = F.concat(F.lit('{"v":'), json, F.lit("}"))
        kind = self.value_type
        if kind.startswith(("array", "struct", "map")):
            return F.from_json(wrapped, f"v {kind}")["v"]
        text = F.get_json_object(wrapped, "$.v")
        if kind == "timestamp":
            # a time without a zone is UTC, whatever zone the session keeps
            zoned = F.when(text.rlike(ZONED), text).otherwise(F.concat(text, F.lit("Z")))
            return F.coalesce(zoned.try_cast(kind), F.concat(text, F.lit("T00:00:00Z")).try_cast(kind))
        return text if kind == "string" else text.try_cast(kind)

    def text(self, json: Column) -> Column:
        """Return a JSON value as the text that the written cell will have."""
        kind = lake.struct(f"v {self.value_type}")[0].dataType
        return text_of(self.typed(json), kind)

    def guard(self, json: Column, new: Column, old: Column) -> Column:
        """Return the name of the guard that an answer breaks, or null."""
        stated = (json != "null") & json.isNotNull()
        broken = F.when(stated & new.isNull(), F.lit("guard:type"))
        if self.task.in_place:
            broken = broken.when(~stated | is_blank(new), F.lit("guard:empty"))
        return broken.otherwise(broken_rule(self.task, new, old))


def judge(wanted: DataFrame, answers: DataFrame, cells: CellFrame) -> DataFrame:
    """Join cells to their answers and decide each one's status.

    Returns the key columns, `task` and `judged`: status, json, new, write, error, confidence and the fields of
    `x_meta`; `noop` cells are counted, not written.
    """
    known = answers.select(
        F.col("question_id").alias("a_question"),
        F.struct("status", "value", "confidence", "label_mass", "scores", "error", "model", "notes",
                 "prompt_tokens", "completion_tokens", "answered_run", "answered_at").alias("a"),
    )  # fmt: skip
    joined = wanted.join(known, F.col("question_id") == F.col("a_question"), "left").drop("a_question")
    # {"v":…} without its wrapping is the value as JSON
    wrapped = F.to_json(F.struct(F.col("reference").alias("v")))
    by_reference = F.substr(wrapped, F.lit(6), F.length(wrapped) - 6)
    joined = joined.withColumn(
        "json",
        F.when(F.col("state") == "reference", by_reference)
        .when(F.col("state") == "person", F.col("said"))
        .when(F.col("a.status") == "ok", F.col("a.value")),
    )
    judgements = [Judgement(cells, at) for at in range(len(cells.scope.tasks))]
    joined = joined.withColumn("new", _per_task([j.text(F.col("json")) for j in judgements]))
    joined = joined.withColumn(
        "guard", _per_task([j.guard(F.col("json"), F.col("new"), F.col("old")) for j in judgements])
    )
    joined = joined.withColumn("status", _status(cells))
    return joined.withColumn("judged", _judged(cells))


def _per_task(values: list[Column]) -> Column:
    chosen = F.when(F.col("task") == 0, values[0])
    for at, value in enumerate(values[1:], 1):
        chosen = chosen.when(F.col("task") == at, value)
    return chosen


def _status(cells: CellFrame) -> Column:
    tasks = cells.scope.tasks
    state = F.col("state")
    rules = [cells.rules[task.name] for task in tasks]
    passes = _per_task([rule.passes(*_scores(task), F.col("framed")) for rule, task in zip(rules, tasks, strict=True)])
    in_place = F.col("task").isin([at for at, task in enumerate(tasks) if task.in_place])
    held_back = F.col("guard").isNotNull() | cells_.holds_back(F.col("a.notes"))
    status = F.when(state == "kept", "kept").when(state == "skip", "skipped")
    status = status.when((state == "reference") & F.col("guard").isNotNull(), "review")
    status = status.when(state == "reference", "accepted")
    # of the guards, a person's value is held by one: that it is a value of the column's type
    status = status.when((state == "person") & (F.col("guard") == "guard:type"), "review")
    status = status.when((state == "person") & ~(in_place & F.col("new").eqNullSafe(F.col("old"))), "accepted")
    status = status.when(state == "person", "unchanged")
    status = status.when(F.col("a.status").isNull(), "pending").when(F.col("a.status") == "failed", "failed")
    same = in_place & F.col("new").eqNullSafe(F.col("old")) & F.col("guard").isNull()
    # an answer that was written over the cell, and is judged anew, is no cell that was right from the start
    stands = F.coalesce((state == "redecide") & (F.col("was") == "accepted") & ~held_back, F.lit(False))
    status = status.when(same, F.when(stands, "accepted").otherwise("unchanged"))
    return status.when(held_back | ~passes, "review").otherwise("accepted")


def _scores(task: AnyTask) -> tuple[Column, Column, Column]:
    """What a rule looks at: the answer's raw score, the mass of the labels, its value as a text."""
    return score_of(task, _answer), F.col("a.label_mass"), F.col("new")


def _answer(field: str) -> Column:
    return F.col(f"a.{field}")


def _on_record() -> Column:
    """Whether nothing is to be written: a failure already on record, a cell that still waits."""
    same = F.col("was_question") == F.col("question_id")
    failed = (F.col("status") == "failed") & (F.col("was") == "failed") & same
    failed = failed & F.col("was_error").eqNullSafe(F.col("a.error"))
    waits = (F.col("status") == "pending") & (F.col("was").isNull() | (F.col("was") == "pending"))
    return F.coalesce(failed | waits, F.lit(False))


def _stands_since() -> Column:
    """Whether a cell that is judged anew holds, as its value, what an earlier run wrote."""
    same = F.col("new").eqNullSafe(F.col("old")) & (F.col("was") == "accepted")
    return F.coalesce(F.col("state").isin("redecide", "person") & same, F.lit(False))


def _writer() -> Column:
    """The note of the run that wrote a value which others have only judged since: `undo` takes it back by that."""
    before = F.filter(F.from_json("old_meta", "notes array<string>")["notes"], lambda note: note.startswith(WRITTEN_BY))
    written = F.concat(F.lit(WRITTEN_BY), F.get_json_object("old_meta", "$.published_run"))
    return F.coalesce(F.try_element_at(before, F.lit(1)), written, F.lit(WRITTEN_BY))


def writer(meta: Column) -> Column:
    """The run that wrote a cell's value, from its record; later runs may have judged it anew."""
    notes = F.filter(meta["notes"], lambda note: note.startswith(WRITTEN_BY))
    return F.coalesce(F.substring(F.try_element_at(notes, F.lit(1)), len(WRITTEN_BY) + 1, 1000), meta["published_run"])


def _judged(cells: CellFrame) -> Column:
    tasks = cells.scope.tasks
    in_place = F.col("task").isin([at for at, task in enumerate(tasks) if task.in_place])
    match = F.col("task").isin([at for at, task in enumerate(tasks) if isinstance(task, Match)])
    status = F.col("status")
    accepted = status == "accepted"
    # a new column holds accepted values only; in place the cell stays as it was
    empties = status.isin("review", "skipped", "failed") & ~in_place
    answered = F.col("a.status") == "ok"
    by_person = F.col("state") == "person"
    # where a person found the model's answer right, it keeps its score
    unscored = (F.col("state") == "reference") | (
        by_person & ~F.coalesce(F.col("a.value") == F.col("said"), F.lit(False))
    )
    chosen = _per_task([F.lit(note_of(task)).cast("string") for task in tasks])
    notes = F.concat(
        F.coalesce(F.when(~unscored, F.col("a.notes")), F.array().cast("array<string>")),
        F.when(F.col("guard").isNotNull(), F.array("guard")).otherwise(F.array().cast("array<string>")),
        F.when(F.col("state").isin(*cells_.NOT_ASKED), F.array("state")).otherwise(F.array().cast("array<string>")),
        F.when(by_person, F.array(cells_.said_note(F.col("said")))).otherwise(F.array().cast("array<string>")),
        F.when(answered & ~unscored & chosen.isNotNull(), F.array(chosen)).otherwise(F.array().cast("array<string>")),
        F.when(accepted & _stands_since(), F.array(_writer())).otherwise(F.array().cast("array<string>")),
    )
    task_fingerprint = _per_task([F.lit(cells.fingerprints[task.name]) for task in tasks])
    confidence = _per_task([cells.rules[task.name].confidence(*_scores(task)) for task in tasks])
    promised = _per_task([cells.rules[task.name].promised(F.col("framed")) for task in tasks])
    passes = _per_task([cells.rules[task.name].passes(*_scores(task), F.col("framed")) for task in tasks])
    proposed = F.when(answered & ~accepted, F.col("new"))
    return F.struct(
        status.alias("status"),
        _on_record().alias("noop"),
        F.when(accepted, F.col("json")).alias("json"),
        F.when(accepted, F.col("new")).alias("new"),
        (accepted | empties).alias("write"),
        F.col("old"),
        F.col("old_meta"),
        F.col("hash"),
        F.col("seen"),
        F.when(status == "failed", F.col("a.error")).alias("error"),
        F.when(~unscored, confidence).alias("confidence"),
        _per_task([shown_scores(task, F.col("a.scores")) for task in tasks]).alias("scores"),
        F.when(match, F.col("a.scores")["score"]).alias("score"),
        proposed.alias("proposed"),
        F.col("question_id"),
        task_fingerprint.alias("fingerprint"),
        F.when(~unscored, _per_task([score_of(task, _answer) for task in tasks])).alias("raw_score"),
        F.when(~unscored, F.col("a.label_mass")).alias("label_mass"),
        F.when(~unscored, F.col("a.model")).alias("model"),
        F.col("a.prompt_tokens").alias("prompt_tokens"),
        F.col("a.completion_tokens").alias("completion_tokens"),
        F.col("a.answered_run").alias("answered_run"),
        F.col("a.answered_at").alias("answered_at"),
        notes.alias("notes"),
        F.col("framed"),
        F.when(accepted & ~unscored & passes, promised).alias("promise"),
    )

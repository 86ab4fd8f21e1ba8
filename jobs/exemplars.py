"""Rows that a task's prompts show as examples: their answers are given away, so that no promise may rest on them."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.cells import CellFrame, asked_question, input_texts, question_of
from jobs.labelled import MOST_CHARACTERS
from jobs.texts import one_of
from schemas.fields import ExamplePool
from schemas.tasks import AnyTask
from udfs.prompts import sheet_of


def without_examples(rows: DataFrame, cells: CellFrame) -> DataFrame:
    """Leave out the rows of a scope that say what one of a task's examples says."""
    (task,) = cells.scope.tasks
    rows = rows.where(~_is_shown(cells)) if task.given_examples else rows
    if known := _known_inputs(task):
        spark = rows.sparkSession
        inputs = spark.createDataFrame([(list(texts),) for texts in known], "inputs array<string>")
        # by question, since a value that was written in place is no longer what was asked about
        shown = inputs.select(question_of(cells, F.col("inputs")).alias("_shown"))
        rows = rows.withColumn("_question", asked_question(cells))
        rows = rows.join(F.broadcast(shown), F.col("_question") == F.col("_shown"), "left_anti").drop("_question")
    return rows


def _known_inputs(task: AnyTask) -> list[tuple[str | None, ...]]:
    """The inputs of a task's examples, where an example says them one by one."""
    if isinstance(task.examples, ExamplePool):
        return [row.inputs for row in task.examples.rows]
    return [(one.input,) for one in task.given_examples] if len(task.inputs) == 1 else []


def _is_shown(cells: CellFrame) -> Column:
    """Whether a row's inputs, as a prompt shows them, are those of an example, which may have been cut."""
    (task,) = cells.scope.tasks
    texts, names = input_texts(cells), sheet_of(task).names
    given = [one.input for one in task.given_examples]
    cut = F.transform(texts, lambda text: F.substring(text, 1, MOST_CHARACTERS))
    return one_of(_as_shown(texts, names), given) | one_of(_as_shown(cut, names), given)


def _as_shown(texts: Column, names: tuple[str, ...]) -> Column:
    """What `udfs.prompts.shown_inputs` makes of a row, built by Catalyst."""
    values = [F.coalesce(F.get(texts, F.lit(place)), F.lit("")) for place in range(len(names))]
    if len(names) == 1:
        return values[0]
    lines = [F.concat(F.lit(f"{name}: "), value) for name, value in zip(names, values, strict=True)]
    return F.concat_ws("\n", *lines)

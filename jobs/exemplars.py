"""Rows that a task's prompts show as examples, or that its model was trained on: no promise may rest on them."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.cells import CellFrame, asked_question, input_texts, question_of
from jobs.labelled import MOST_CHARACTERS
from jobs.texts import one_of
from jobs.trained_on import learned_inputs
from schemas.fields import ExamplePool
from schemas.tasks import AnyTask, Match
from udfs.prompts import sheet_of


def unknown_to_model(rows: DataFrame, cells: CellFrame) -> DataFrame:
    """Leave out the rows of a scope that say what an example of their task says, or what its model was trained on.

    Raises:
        DataContractError: what the model was trained on cannot be read any more.
    """
    (task,) = cells.scope.tasks
    rows = rows.where(~_is_shown(cells)) if task.given_examples else rows
    spark = rows.sparkSession
    if known := _known_inputs(task):
        shown = spark.createDataFrame([(list(texts),) for texts in known], "inputs array<string>")
        rows = _without(rows, cells, F.broadcast(shown))
    learned = learned_inputs(spark, cells.scope.job.model, len(task.inputs))
    if learned is not None and isinstance(task, Match):
        # a varied source teaches some pairs the other way round
        cut, width = len(task.left), len(task.inputs)
        turned = F.concat(F.slice("inputs", cut + 1, width - cut), F.slice("inputs", 1, cut))
        learned = learned.union(learned.select(turned)).distinct()
    return rows if learned is None else _without(rows, cells, learned)


def _without(rows: DataFrame, cells: CellFrame, inputs: DataFrame) -> DataFrame:
    """Leave out the rows with some inputs: by question, as what was written in place is not what was asked about."""
    known = inputs.select(question_of(cells, F.col("inputs")).alias("_known"))
    asked = rows.withColumn("_question", asked_question(cells))
    return asked.join(known, F.col("_question") == F.col("_known"), "left_anti").drop("_question")


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

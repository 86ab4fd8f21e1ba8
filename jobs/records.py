"""From a mixture's sources to records of one form, one small function for each kind of source.

Nothing is drawn here: a record is what the source says, and what is left out of it is there with the reason.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs import lake
from jobs.cells import nothing_to_ask
from jobs.held_out import split_keys
from jobs.mix_files import MixPlan
from jobs.people import as_text, people_said
from jobs.rows import check_columns, read_rows
from jobs.source import resolve_labels, source_rows
from jobs.store import store_of
from jobs.texts import is_blank, text_of
from schemas.errors import DataContractError
from schemas.mix import AnySource, Conversations, Generated, Instructions, JobRows, Prompts, ReviewedRows, Split
from schemas.tables import ddl
from schemas.tasks import AnyTask
from udfs.mixture import RECORDS, MixSpec, cutter, generator, task_json
from udfs.truth import may_be_null

INPUTS, OUTPUTS = ("input", "context"), ("output", "response")
# a turn's role and text by the two names that conversations come under
TURNS = {"conversations": ("from", "value"), "messages": ("role", "content")}


def records_of(spark: SparkSession, plan: MixPlan, spec: MixSpec) -> DataFrame:
    """Return the records of all sources, in columns `udfs.mixture.RECORDS`.

    Raises:
        DataContractError: a table or column is missing, or a truth column has a type that its task has no answer in.
    """
    makers: dict[str, Callable[[SparkSession, Any, int, MixPlan, MixSpec], DataFrame]] = {
        "job": _of_job,
        "reviewed": _of_reviewed,
        "instructions": _of_instructions,
        "conversations": _of_conversations,
        "prompts": _of_prompts,
        "generated": _of_generated,
    }
    made = [makers[one.kind](spark, one, at, plan, spec) for at, one in enumerate(plan.file.sources)]
    return reduce(DataFrame.union, made)


def _of_job(spark: SparkSession, source: JobRows, at: int, plan: MixPlan, spec: MixSpec) -> DataFrame:
    """One record for each row and truth column: the texts that `run` would ask about, and the truth's text."""
    job = resolve_labels(spark, plan.jobs[source.name])
    rows = source_rows(spark, job)
    tasks = [_without_pool(job.task(name)) for name in source.truth]
    needed = {name for task in tasks for name in task.inputs}
    check_columns(rows, needed | set(source.truth.values()), job.source.text)
    keys = _keys(rows, source)
    made = []
    for task in tasks:
        kinds = {field.name: field.dataType for field in rows.schema}
        texts = [text_of(lake.col(name), kinds[name]) for name in task.inputs]
        column = source.truth[task.name]
        truth = _truth(task, column, kinds[column])
        missing = F.lit(False) if may_be_null(task) else truth.isNull()
        record = {
            "shape": F.lit("varied" if source.vary else "task"),
            "task": F.lit(task_json(task)),
            "texts": F.array(*texts),
            "answer": truth,
            "split_keys": keys,
            "dropped": F.when(nothing_to_ask(task, texts), "blank").when(missing, "no_truth"),
        }
        made.append(_record(rows, source, at, record))
    return reduce(DataFrame.union, made)


def _of_reviewed(spark: SparkSession, source: ReviewedRows, at: int, plan: MixPlan, spec: MixSpec) -> DataFrame:
    """One record for each of a job's cells of which somebody said what is right."""
    job = resolve_labels(spark, plan.jobs[source.name])
    made = []
    for task in map(_without_pool, job.columns):
        said = people_said(spark, store_of(job), job, task)
        value = as_text(F.col("said"))
        inputs = [F.get("inputs", F.lit(place)).alias(name) for place, name in enumerate(task.inputs)]
        rows = said.where(F.size("inputs") == len(task.inputs)).select(value.alias("_said"), *inputs)
        texts = [lake.col(name) for name in task.inputs]
        missing = F.lit(False) if may_be_null(task) else F.col("_said").isNull()
        record = {
            "shape": F.lit("varied" if source.vary else "task"),
            "task": F.lit(task_json(task)),
            "texts": F.array(*texts),
            "answer": F.col("_said"),
            "split_keys": _keys(rows, source),
            "dropped": F.when(nothing_to_ask(task, texts), "blank").when(missing, "no_truth"),
        }
        made.append(_record(rows, source, at, record))
    return reduce(DataFrame.union, made)


def _without_pool(task: AnyTask) -> AnyTask:
    """A task as it is taught: examples that are chosen row by row belong to one table, not to the task."""
    return task.model_copy(update={"examples": task.given_examples})


def _truth(task: AnyTask, column: str, kind: T.DataType) -> Column:
    """Return a truth column as text; a blank one says nothing, but where a cell may be cleaned to nothing.

    Raises:
        DataContractError: no value of this type could be an answer.
    """
    nested = (T.ArrayType, T.StructType, T.MapType)
    allowed: dict[str, tuple[tuple[type[T.DataType], ...], str]] = {
        "multilabel": ((T.ArrayType, T.StringType), "an array of labels, or its JSON"),
        "extract": ((T.StructType, T.MapType, T.StringType), "a struct of attributes, or its JSON"),
        "match": ((T.BooleanType,), "a boolean"),
    }
    types, wording = allowed.get(task.task, ((), "text or another plain value"))
    if not (isinstance(kind, types) if types else not isinstance(kind, nested)):
        raise DataContractError(
            f"truth column {column} of {task.name} ({task.task}) is {kind.simpleString()}; it must be {wording}"
        )
    text = text_of(lake.col(column), kind)
    return text if task.task == "clean" else F.when(~is_blank(text), text)


def _of_instructions(spark: SparkSession, source: Instructions, at: int, plan: MixPlan, spec: MixSpec) -> DataFrame:
    rows = read_rows(spark, source)
    check_columns(rows, ["instruction"], source.text)
    given = next((name for name in INPUTS if name in rows.columns), None)
    output = _one_of(rows, OUTPUTS, source.text)
    texts = F.array(F.col("instruction"), F.col(given) if given else F.lit(None).cast("string"))
    return _of_texts(rows, source, at, "instruction", texts, output)


def _of_prompts(spark: SparkSession, source: Prompts, at: int, plan: MixPlan, spec: MixSpec) -> DataFrame:
    rows = read_rows(spark, source)
    check_columns(rows, ["prompt", "completion"], source.text)
    return _of_texts(rows, source, at, "prompt", F.array("prompt"), "completion")


def _of_texts(rows: DataFrame, source: Split, at: int, shape: str, texts: Column, output: str) -> DataFrame:
    blank = is_blank(texts[0]) | is_blank(F.col(output))
    record = {
        "shape": F.lit(shape),
        "texts": texts,
        "answer": F.col(output),
        "split_keys": _keys(rows, source),
        "dropped": F.when(blank, "blank"),
    }
    return _record(rows, source, at, record)


def _of_conversations(spark: SparkSession, source: Conversations, at: int, plan: MixPlan, spec: MixSpec) -> DataFrame:
    """Records of pieces that fit `longest`; what has odd roles or is too long alone stands there as dropped."""
    rows = read_rows(spark, source)
    column = _one_of(rows, TURNS, source.text)
    role, text = TURNS[column]
    turns = rows.select(
        F.transform(column, lambda turn: turn[role].cast("string")).alias("roles"),
        F.transform(column, lambda turn: turn[text].cast("string")).alias("texts"),
        _keys(rows, source).alias("split_keys"),
    )
    return turns.mapInPandas(cutter(spec, _constants(source, at, "chat")), ddl(RECORDS))


def _of_generated(spark: SparkSession, source: Generated, at: int, plan: MixPlan, spec: MixSpec) -> DataFrame:
    make = generator(source.pairs, spec.seed, _constants(source, at, "task"))
    return spark.range(source.rows).mapInPandas(make, ddl(RECORDS))


def _constants(source: AnySource, at: int, shape: str) -> dict[str, Any]:
    return {"source": at, "dataset": source.name, "shape": shape}


def _keys(rows: DataFrame, source: Split) -> Column:
    check_columns(rows, (name for names in source.split_by or () for name in names), f"source {source.name}")
    return split_keys(rows, source.split_by or ())


def _record(rows: DataFrame, source: Split, at: int, record: dict[str, Column]) -> DataFrame:
    """Put a record's columns in order; what it has not is null."""
    found = {"source": F.lit(at), "dataset": F.lit(source.name), **record}
    return rows.select(*[found.get(name, F.lit(None)).cast(kind).alias(name) for name, kind in RECORDS.items()])


def _one_of(rows: DataFrame, names: Iterable[str], where: str) -> str:
    found = next((name for name in names if name in rows.columns), None)
    if found is None:
        raise DataContractError(f"{where} has none of the columns {', '.join(names)}; it has {', '.join(rows.columns)}")
    return found

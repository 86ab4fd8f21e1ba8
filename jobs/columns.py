"""Columns that a task writes, with their Spark types, and the guards on what is written into an existing one."""

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.texts import one_of
from schemas.fields import Attribute
from schemas.job import EnrichJob
from schemas.tables import META_DDL
from schemas.tasks import AnyTask, Clean, Extract

_ATTRIBUTE_TYPES = {
    "string": "string",
    "enum": "string",
    "int": "bigint",
    "float": "double",
    "date": "date",
    "bool": "boolean",
}


def compared(job: EnrichJob, task: AnyTask) -> tuple[str, ...]:
    """The target's columns that a MERGE must find as the plan saw them: what a cell is made of and what it replaces."""
    return tuple(dict.fromkeys((*task.inputs, task.name))) if job.is_in_place else (task.name,)


def struct_type(task: Extract) -> str:
    """Return the Spark type of an extract: one field an attribute, in declared order."""

    def kind(attribute: Attribute) -> str:
        if attribute.type == "list":
            return f"array<{_ATTRIBUTE_TYPES[attribute.of]}>"
        return _ATTRIBUTE_TYPES[attribute.type]

    return "struct<" + ",".join(f"{name}:{kind(attribute)}" for name, attribute in task.attributes.items()) + ">"


def value_type(task: AnyTask, schema: StructType) -> str:
    """Return the Spark type of the written column; an in-place column keeps the one it has in `schema`."""
    if task.in_place:
        return schema[task.name].dataType.simpleString()
    if isinstance(task, Extract):
        return struct_type(task)
    return {"label": "string", "labels": "array<string>", "bool": "boolean"}.get(task.kind, "string")


def column_types(task: AnyTask, schema: StructType) -> dict[str, str]:
    """Return every column that a task writes, with its type."""
    kinds = {
        task.name: value_type(task, schema),
        f"{task.name}_confidence": "double",
        f"{task.name}_error": "string",
        f"{task.name}_meta": META_DDL,
        f"{task.name}_scores": "map<string,double>",
        f"{task.name}_score": "double",
    }
    return {name: kinds[name] for name in task.written}


def broken_rule(task: AnyTask, new: Column, old: Column) -> Column:
    """Return the declared guard that a cleaned value breaks, or null; guards may change without asking again."""
    broken = F.lit(None).cast("string")
    if isinstance(task, Clean):
        if task.max_edit_distance is not None:
            far = F.levenshtein(F.coalesce(old, F.lit("")), new) > task.max_edit_distance
            broken = F.when(far, F.lit("guard:edit_distance")).otherwise(broken)
        if isinstance(task.domain, tuple):
            broken = F.when(~one_of(new, task.domain), F.lit("guard:domain")).otherwise(broken)
        if task.pattern is not None:
            broken = F.when(~new.rlike(task.pattern), F.lit("guard:pattern")).otherwise(broken)
    return broken

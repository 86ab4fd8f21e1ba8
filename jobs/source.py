"""Step 0 of a run: pin one version of the source and refuse what would cost money for nothing."""

from dataclasses import dataclass

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructType

from jobs import lake
from schemas.errors import DataContractError, JobFileError
from schemas.fields import LabelTable
from schemas.job import EnrichJob, Place
from schemas.options import RunOptions
from schemas.tables import META_DDL
from schemas.tasks import AnyTask, Classify, Clean, Impute, Multilabel

MAX_TABLE_LABELS = 2000
TARGET = "_target_"  # prefix of a separate target's columns beside the source's


@dataclass(frozen=True)
class Scope:
    """What a run looks at: the job with labels resolved, one version of the source, the rows in scope."""

    job: EnrichJob
    version: int
    rows: DataFrame
    schema: StructType
    target_exists: bool

    @property
    def tasks(self) -> tuple[AnyTask, ...]:
        """The tasks of this run, labels resolved."""
        return self.job.columns


def open_scope(spark: SparkSession, job: EnrichJob, options: RunOptions) -> Scope:
    """Pin the source and check names, types and windows; no row is read yet.

    Raises:
        DataContractError: a column or table is missing, a name collides, a target is no Delta table.
        JobFileError: `--only` or a window does not fit the job.
    """
    version = _pinned_version(spark, job)
    rows = _at_version(spark, job, version)
    schema = rows.schema
    job = _only(job, options.only)
    _check_columns(job, schema)
    rows = _window(rows, job, options)
    target_exists = job.is_in_place or lake.exists(spark, job.target_place)
    if not job.is_in_place and not target_exists:
        lake.refuse_files(spark, job.target_place)
    if not job.is_in_place and target_exists:
        _check_apart(spark, job)
        target = lake.read(spark, job.target_place)
        _check_target(job, target.schema)
        rows = _beside_target(rows, target, job)
    return Scope(resolve_labels(spark, job), version, rows, schema, target_exists)


def source_rows(spark: SparkSession, job: EnrichJob) -> DataFrame:
    """Return the rows of the source's pinned version that its `where` leaves; none is read yet.

    Raises:
        DataContractError: the table or the version is not there.
        JobFileError: `where` is no condition over it.
    """
    return _window(_at_version(spark, job, _pinned_version(spark, job)), job, RunOptions())


def _pinned_version(spark: SparkSession, job: EnrichJob) -> int:
    place = Place(table=job.source.table, path=job.source.path)
    if job.source.version is not None:
        lake.delta_table(spark, place)
        return job.source.version
    if job.source.timestamp is not None:
        return lake.version_at(spark, place, job.source.timestamp)
    return lake.latest_version(spark, place)


def _at_version(spark: SparkSession, job: EnrichJob, version: int) -> DataFrame:
    place = Place(table=job.source.table, path=job.source.path)
    try:
        return lake.read(spark, place, version=version)
    except AnalysisException as problem:
        raise DataContractError(
            f"{place.text} has no version {version} that could be read",
            hint="`source.version` must be one that VACUUM has left; without it the newest is read",
        ) from problem


def _only(job: EnrichJob, names: tuple[str, ...]) -> EnrichJob:
    if not names:
        return job
    known = [task.name for task in job.columns]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise JobFileError(f"--only names {', '.join(unknown)}; this job writes {', '.join(known)}")
    return job.model_copy(update={"columns": tuple(task for task in job.columns if task.name in names)})


def _check_columns(job: EnrichJob, schema: StructType) -> None:
    there = set(schema.names)
    needed = {*job.key, *([job.source.time] if job.source.time else [])}
    for task in job.columns:
        needed |= {*task.inputs, *([task.name] if task.in_place else [])}
        if isinstance(task, Impute) and task.reference:
            needed |= set(task.reference.keys)
    missing = sorted(needed - there)
    if missing:
        raise DataContractError(
            f"{job.source.text} lacks column {', '.join(missing)}; it has {', '.join(schema.names)}",
            hint="names are compared exactly, upper and lower case included",
        )
    if job.is_in_place:
        _check_target(job, schema)


def _check_apart(spark: SparkSession, job: EnrichJob) -> None:
    """Refuse a separate target that is the source by another name: its rows would be taken for answers alone."""
    if lake.location(spark, job.target_place) == lake.location(spark, job.source):
        raise JobFileError(
            f"source {job.source.text} and target {job.target_place.text} are one table by two names",
            hint="leave `target` out, or write it as the source is written, to work in place",
        )


def _check_target(job: EnrichJob, schema: StructType) -> None:
    """Refuse a column of ours that stands there already and is not ours."""
    folded = {name.casefold(): name for name in schema.names}
    for task in job.columns:
        meta = f"{task.name}_meta"
        ours = meta in schema.names and lake.same_type(schema[meta].dataType, META_DDL)
        new = [name for name in task.written if not (task.in_place and name == task.name)]
        taken = [folded[name.casefold()] for name in new if name.casefold() in folded]
        if taken and not ours:
            raise DataContractError(
                f"{job.target_place.text} has a column {', '.join(taken)} that burnish did not write",
                hint=f"give the task another name than {task.name!r}, or drop the column",
            )
    missing = [name for name in job.key if name not in schema.names]
    if missing:
        raise DataContractError(f"{job.target_place.text} lacks the key column {', '.join(missing)}")


def _window(rows: DataFrame, job: EnrichJob, options: RunOptions) -> DataFrame:
    if job.source.where:
        try:
            rows = rows.where(F.expr(job.source.where))
        except (ParseException, AnalysisException) as problem:
            raise JobFileError(
                f"source.where is not a condition over {job.source.text}: {job.source.where}"
            ) from problem
    if options.start is None and options.end is None:
        return rows
    if job.source.time is None:
        raise JobFileError("--from and --to need `source.time`, the column they bound")
    time = lake.col(job.source.time).cast("timestamp")
    if options.start is not None:
        rows = rows.where(time >= F.lit(options.start.isoformat()).cast("timestamp"))
    if options.end is not None:
        rows = rows.where(time < F.lit(options.end.isoformat()).cast("timestamp"))
    return rows


def _beside_target(rows: DataFrame, target: DataFrame, job: EnrichJob) -> DataFrame:
    """Join what the target holds of our columns to the source's rows, under the prefix `_target_`."""
    ours = [name for task in job.columns for name in task.written if name in target.columns]
    right = target.select(
        *[lake.col(name).alias(f"{TARGET}key{at}") for at, name in enumerate(job.key)],
        *[lake.col(name).alias(TARGET + name) for name in ours],
    )
    matched = F.lit(True)
    for at, name in enumerate(job.key):
        matched = matched & lake.col(name).eqNullSafe(F.col(f"{TARGET}key{at}"))
    return rows.join(right, matched, "left").drop(*[f"{TARGET}key{at}" for at in range(len(job.key))])


def check_keys(scope: Scope) -> int:
    """Count the rows in scope and refuse null or repeated keys.

    Raises:
        DataContractError: with how many keys are null or repeated.
    """
    keys = scope.rows.select(*[lake.col(name).alias(f"k{at}") for at, name in enumerate(scope.job.key)])
    null = F.lit(False)
    for name in keys.columns:
        null = null | F.col(name).isNull()
    counted = keys.groupBy(*keys.columns).agg(F.count("*").alias("n"), F.first(null).alias("null"))
    row = counted.agg(
        F.sum("n"), F.sum(F.when(F.col("null"), F.col("n"))), F.sum(F.when((F.col("n") > 1) & ~F.col("null"), 1))
    ).first()
    rows, nulls, repeated = (int(value or 0) for value in row or (0, 0, 0))
    if nulls or repeated:
        found = " and ".join(
            text
            for count, text in ((nulls, f"{nulls:,} rows with a null key"), (repeated, f"{repeated:,} repeated keys"))
            if count
        )
        raise DataContractError(
            f"{scope.job.source.text} has {found} in ({', '.join(scope.job.key)})",
            hint="a MERGE needs each row named once: add a column to `key`, or narrow the source with `where`",
        )
    return rows


def resolve_labels(spark: SparkSession, job: EnrichJob) -> EnrichJob:
    """Replace every `labels: {from_table, column}` by the labels that stand there now, sorted."""
    return job.model_copy(update={"columns": tuple(_resolved(spark, task) for task in job.columns)})


def _resolved(spark: SparkSession, task: AnyTask) -> AnyTask:
    if isinstance(task, Classify | Multilabel | Impute) and isinstance(task.labels, LabelTable):
        found = labels_from(spark, task.labels)
        return task.model_copy(update={"labels": dict.fromkeys(found, "")})
    if isinstance(task, Clean) and isinstance(task.domain, LabelTable):
        return task.model_copy(update={"domain": tuple(labels_from(spark, task.domain))})
    return task


def labels_from(spark: SparkSession, labels: LabelTable) -> list[str]:
    """Read the distinct values of a label table's column.

    Raises:
        DataContractError: the column is missing, or holds fewer than two or too many values.
    """
    frame = lake.read(spark, lake.place_of(labels.from_table))
    if labels.column not in frame.columns:
        raise DataContractError(f"{labels.from_table} lacks column {labels.column}; it has {', '.join(frame.columns)}")
    value = lake.col(labels.column).cast(StringType())
    rows = frame.select(value.alias("v")).where("trim(v) <> ''").distinct().limit(MAX_TABLE_LABELS + 1).collect()
    found = sorted(row[0] for row in rows)
    if not 2 <= len(found) <= MAX_TABLE_LABELS:
        raise DataContractError(
            f"{labels.from_table}.{labels.column} holds {len(found)} labels; 2 to {MAX_TABLE_LABELS} are allowed"
        )
    return found

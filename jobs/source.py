"""Step 0 of a run: pin one version of the source and refuse what would cost money for nothing."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructType, TimestampType

from jobs import lake
from jobs.arguments import moment
from jobs.columns import column_types
from jobs.conditions import narrowed
from jobs.labelled import with_examples
from schemas.errors import DataContractError, JobFileError
from schemas.fields import LabelTable
from schemas.job import EnrichJob, Place
from schemas.options import RunOptions
from schemas.tables import META_DDL
from schemas.tasks import AnyTask, Classify, Clean, Impute, Multilabel

MAX_TABLE_LABELS = 2000
ZONED = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"  # how a time ends that says where
TARGET = "_target_"  # prefix of a separate target's columns beside the source's


@dataclass(frozen=True)
class Scope:
    """What a run looks at: the job with labels resolved, one version of the source, the rows in scope.

    `bystanders` are tasks of the job that `--only` leaves out and that have written the target before.
    """

    job: EnrichJob
    version: int
    rows: DataFrame
    schema: StructType
    target_exists: bool
    bystanders: tuple[AnyTask, ...] = ()
    is_narrowed: bool = False

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
    declared, job = job, _only(job, options.only)
    check_columns(job, schema)
    _check_patterns(spark, job)
    rows = _window(rows, job, options)
    target_exists = job.is_in_place or lake.exists(spark, job.target_place)
    if not job.is_in_place and not target_exists:
        lake.refuse_files(spark, job.target_place)
    if not job.is_in_place and target_exists:
        _check_apart(spark, job)
        target = lake.read(spark, job.target_place)
        _check_target(job, target.schema)
        rows = _beside_target(rows, target, job)
    left_out = [task for task in declared.columns if task not in job.columns and f"{task.name}_meta" in schema.names]
    return Scope(
        job=resolve_labels(spark, job),
        version=version,
        rows=rows,
        schema=schema,
        target_exists=target_exists,
        bystanders=tuple(left_out),
        is_narrowed=bool(job.source.where or options.start or options.end),
    )


def one_column(scope: Scope, at: int) -> Scope:
    """The same for one of its tasks only."""
    return replace(scope, job=scope.job.model_copy(update={"columns": (scope.tasks[at],)}))


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
        return lake.version_at(spark, place, moment(job.source.timestamp, "source.timestamp"))
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


def check_columns(job: EnrichJob, schema: StructType) -> None:
    """Refuse a job that reads columns the source lacks, or writes ones that others wrote.

    Raises:
        DataContractError: naming the columns.
    """
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
        _check_types(job, task, schema)
    missing = [name for name in job.key if name not in schema.names]
    if missing:
        raise DataContractError(f"{job.target_place.text} lacks the key column {', '.join(missing)}")


def _check_types(job: EnrichJob, task: AnyTask, schema: StructType) -> None:
    """Refuse columns of ours that an earlier form of the task wrote with another type: no MERGE could write them."""
    for name, kind in column_types(task, schema).items():
        if name in schema.names and not lake.same_type(schema[name].dataType, kind):
            raise DataContractError(
                f"column {name} of {job.target_place.text} is {schema[name].dataType.simpleString()}, and the job "
                f"would now write {lake.struct(f'c {kind}')[0].dataType.simpleString()}",
                hint=f"drop {name} and the columns beside it, or give the task another name than {task.name!r}",
            )


def _check_patterns(spark: SparkSession, job: EnrichJob) -> None:
    """Refuse a pattern that only Python understands: Java's engine guards what is written."""
    for task in job.columns:
        if isinstance(task, Clean) and task.pattern is not None:
            try:
                spark.range(1).select(F.lit("").rlike(task.pattern)).collect()
            except PySparkException as problem:
                raise JobFileError(
                    f"column {task.name}: {task.pattern!r} is no regular expression to Java",
                    hint="groups are written (?<name>…) there, and some escapes differ",
                ) from problem


def _window(rows: DataFrame, job: EnrichJob, options: RunOptions) -> DataFrame:
    if job.source.where:
        rows = narrowed(rows, job.source.where, what=f"source.where is not a condition over {job.source.text}")
    if options.start is None and options.end is None:
        return rows
    if job.source.time is None:
        raise JobFileError("--from and --to need `source.time`, the column they bound")
    if options.start is not None:
        rows = rows.where(_is_from(job.source.time, rows.schema, options.start))
    if options.end is not None:
        rows = rows.where(~_is_from(job.source.time, rows.schema, options.end))
    return rows


def _is_from(name: str, schema: StructType, moment: datetime) -> Column:
    """Whether a time lies at or after a moment; dates and times without a zone are UTC, whatever the session's zone."""
    time, utc = lake.col(name), moment.astimezone(UTC)
    zoned = time.try_cast("timestamp") >= F.lit(utc.isoformat()).cast("timestamp")
    plain = time.try_cast("timestamp_ntz") >= F.lit(utc.replace(tzinfo=None).isoformat()).cast("timestamp_ntz")
    if isinstance(schema[name].dataType, TimestampType):
        return zoned
    if isinstance(schema[name].dataType, StringType):
        return F.when(time.rlike(ZONED), zoned).otherwise(plain)
    return plain


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


def check_keys(scope: Scope, *, of: DataFrame | None = None) -> None:
    """Refuse null or repeated keys.

    Where the scope is narrowed and the MERGE would meet all of the table, a twin out of scope counts too.

    Args:
        of: the rows that will be written, where they are few; others' keys are not looked at.

    Raises:
        DataContractError: with how many keys are null or repeated.
    """
    names = [lake.col(name).alias(f"k{at}") for at, name in enumerate(scope.job.key)]
    keys = everything = scope.rows.select(*names)
    is_part = scope.is_narrowed and scope.job.is_in_place
    if is_part:
        source = Place(table=scope.job.source.table, path=scope.job.source.path)
        everything = lake.read(scope.rows.sparkSession, source, version=scope.version).select(*names)
    if of is not None:
        keys = of.select(*names)
    if is_part or of is not None:
        keys = everything.join(keys, keys.columns, "left_semi").unionAll(keys.where(_any_null(keys)))
    counted = keys.groupBy(*keys.columns).agg(F.count("*").alias("n"), F.first(_any_null(keys)).alias("null"))
    row = counted.agg(
        F.sum(F.when(F.col("null"), F.col("n"))), F.sum(F.when((F.col("n") > 1) & ~F.col("null"), 1))
    ).first()
    nulls, repeated = (int(value or 0) for value in row or (0, 0))
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


def _any_null(keys: DataFrame) -> Column:
    null = F.lit(False)
    for name in keys.columns:
        null = null | F.col(name).isNull()
    return null


def resolve_labels(spark: SparkSession, job: EnrichJob) -> EnrichJob:
    """Replace every `labels: {from_table, column}` by the labels that stand there now, sorted, and examples too.

    Guards that a column does not declare become the job's.
    """
    labelled = [_guarded(job, _resolved(spark, task)) for task in job.columns]
    return job.model_copy(update={"columns": tuple(with_examples(spark, job, task) for task in labelled)})


def _guarded(job: EnrichJob, task: AnyTask) -> AnyTask:
    guards = job.guards_of(task)
    # where there are none, the task stays as it is declared
    return task.model_copy(update={"guards": guards}) if guards else task


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
    frame = lake.read_lookup(spark, labels.from_table)
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

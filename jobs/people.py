"""What people said of cells: it belongs to a row's key and inputs, whichever model or prompt they looked at."""

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs import lake
from jobs.store import Store
from jobs.texts import one_of
from schemas.job import EnrichJob
from schemas.tasks import AnyTask, Extract, Match, Multilabel
from udfs.parse import dumps
from udfs.truth import may_be_null

RIGHT = "yes"  # every other verdict, a skipped row included, counts against the model


def found_right(verdict: str | None, value: str | None, correction: str | None) -> bool:
    """Whether a person found the model's value right, both texts being JSON.

    Who says yes and gives another value all the same, as SQL lets them, has said no.
    """
    return verdict == RIGHT and correction in (None, value)


def is_found_right() -> Column:
    """`found_right` of a row of the review table."""
    agrees = F.coalesce(F.col("correction") == F.col("value"), F.col("correction").isNull())
    return F.coalesce((F.col("verdict") == RIGHT) & agrees, F.lit(False))


def people_said(
    spark: SparkSession, store: Store, job: EnrichJob, task: AnyTask, *, version: int | None = None
) -> DataFrame:
    """What people gave, or found right, for cells of a column: key, inputs, inputs_hash, `said` as JSON, reviewed_at.

    The newest word on a row with these inputs counts; one without a date, as SQL may leave it, is the oldest.

    Args:
        version: of the review table; the newest by default.
    """
    heard = _heard(spark, store, job, version=version).where((F.col("column") == task.name) & F.col("holds"))
    dated = F.coalesce("reviewed_at", F.timestamp_seconds(F.lit(0))).alias("reviewed_at")
    return newest(heard, "key", "inputs_hash").select("key", "inputs", "inputs_hash", "said", dated)


def columns_spoken_of(spark: SparkSession, store: Store, job: EnrichJob) -> dict[str, int]:
    """The job's columns of whose cells people said something: how many of their values are none of the labels now."""
    if not store.exists(spark, "review"):
        return {}
    refused = F.lit(False)
    for task in job.columns:
        refused = F.when(F.col("column") == task.name, ~F.coalesce(is_allowed(task), F.lit(False))).otherwise(refused)
    heard = _heard(spark, store, job).where(F.col("column").isin([task.name for task in job.columns]))
    counted = newest(heard, "column", "key", "inputs_hash", "holds").groupBy("column")
    return {row["column"]: row["n"] for row in counted.agg(F.count_if(F.col("holds") & refused).alias("n")).collect()}


def _heard(spark: SparkSession, store: Store, job: EnrichJob, *, version: int | None = None) -> DataFrame:
    """Rows of which people said something; `said` is the value that it gives the cell (`holds`: there is one)."""
    review = (
        store.read(spark, "review") if version is None else lake.read(spark, store.place("review"), version=version)
    )
    said = F.coalesce("correction", F.when(F.col("verdict") == RIGHT, F.col("value")))
    mine = (F.col("target") == job.target_place.text) & F.coalesce("correction", "verdict").isNotNull()
    holds = F.col("said").isNotNull() & F.col("inputs_hash").isNotNull()
    return review.where(mine).withColumn("said", said).withColumn("holds", holds)


def newest(rows: DataFrame, *by: str) -> DataFrame:
    """Of rows with `reviewed_at`, the newest of each group."""
    order = Window.partitionBy(*by).orderBy(F.col("reviewed_at").desc(), F.sha2("said", 256))
    return rows.withColumn("_nth", F.row_number().over(order)).where("_nth = 1").drop("_nth")


def is_allowed(task: AnyTask) -> Column:
    """Whether `said` is an answer that the task's labels, or attributes, allow now."""
    if isinstance(task, Extract):
        return _has_fields(task)
    if isinstance(task, Match):
        return one_of(F.col("said"), [dumps(True), dumps(False)])
    words = task.example_words
    if words is None:
        return F.lit(True)
    if isinstance(task, Multilabel):
        return F.forall(F.from_json("said", "array<string>"), lambda one: one_of(one, words))
    allowed = (*words, None) if may_be_null(task) else words
    return one_of(F.col("said"), [dumps(word) for word in allowed])


def _has_fields(task: Extract) -> Column:
    """Whether an object says something of every attribute, and nothing that an enumeration does not hold."""
    fields = F.from_json("said", "map<string,string>")
    names = F.array(*[F.lit(name) for name in task.attributes])
    found = F.size(F.array_except(names, F.map_keys(fields))) == 0
    for name, attribute in task.attributes.items():
        if attribute.type == "enum":
            found = found & F.coalesce(one_of(F.try_element_at(fields, F.lit(name)), attribute.values), F.lit(True))
    return found


def as_text(said: Column) -> Column:
    """What a truth column would say: of a text's JSON the text, of anything else its JSON."""
    return F.from_json(F.concat(F.lit('{"v":'), said, F.lit("}")), "v string")["v"]

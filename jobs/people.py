"""What people said of cells: it belongs to a row's key and inputs, whichever model or prompt they looked at."""

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs import lake
from jobs.store import Store
from jobs.texts import one_of
from schemas.job import EnrichJob
from schemas.tasks import Answer, AnyTask, Classify, Impute, Multilabel
from udfs.parse import dumps

RIGHT = "yes"  # every other verdict, a skipped row included, counts against the model


def people_said(
    spark: SparkSession, store: Store, job: EnrichJob, task: AnyTask, *, version: int | None = None
) -> DataFrame:
    """What people gave, or found right, for cells of a column: key, inputs, inputs_hash, `said` as JSON, reviewed_at.

    The newest word on a row with these inputs counts; one without a date, as SQL may leave it, is the oldest.

    Args:
        version: of the review table; the newest by default.
    """
    review = (
        store.read(spark, "review") if version is None else lake.read(spark, store.place("review"), version=version)
    )
    mine = (F.col("target") == job.target_place.text) & (F.col("column") == task.name)
    said = F.coalesce("correction", F.when(F.col("verdict") == RIGHT, F.col("value")))
    rows = review.where(mine & F.col("inputs_hash").isNotNull()).withColumn("said", said)
    known = newest(rows.where(F.col("said").isNotNull()), "key", "inputs_hash")
    dated = F.coalesce("reviewed_at", F.timestamp_seconds(F.lit(0))).alias("reviewed_at")
    return known.select("key", "inputs", "inputs_hash", "said", dated)


def newest(rows: DataFrame, *by: str) -> DataFrame:
    """Of rows with `reviewed_at`, the newest of each group."""
    order = Window.partitionBy(*by).orderBy(F.col("reviewed_at").desc(), F.sha2("said", 256))
    return rows.withColumn("_nth", F.row_number().over(order)).where("_nth = 1").drop("_nth")


def is_allowed(task: AnyTask) -> Column:
    """Whether `said` is an answer that the task's labels allow now."""
    words = task.example_words
    if words is None:
        return F.lit(True)
    if isinstance(task, Multilabel):
        return F.forall(F.from_json("said", "array<string>"), lambda one: one_of(one, words))
    if isinstance(task, Classify | Impute | Answer):
        return one_of(F.col("said"), [dumps(word) for word in (*words, None)])
    return F.lit(True)


def as_text(said: Column) -> Column:
    """What a truth column would say: of a text's JSON the text, of anything else its JSON."""
    return F.from_json(F.concat(F.lit('{"v":'), said, F.lit("}")), "v string")["v"]

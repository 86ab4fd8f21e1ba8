"""What anyone would write: a pandas UDF with `LLM.generate` per batch, then a MERGE, with an engine of its own."""

import json
import sys
import time
from collections.abc import Iterator

import pandas as pd
from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql.pandas.functions import pandas_udf

from jobs.session import spark_session


def label(spark: SparkSession, path: str, model: str, template: str, labels: list[str]) -> float:
    """Label every row of the table and return how many seconds the engine took to start."""
    started = spark.sparkContext.accumulator(0.0)

    @pandas_udf("string")  # type: ignore[call-overload, untyped-decorator] # its stubs know no iterators
    def topic(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        from vllm import LLM, SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        began = time.monotonic()
        llm = LLM(model, dtype="float32", max_model_len=2048, max_num_seqs=64, seed=0)
        started.add(time.monotonic() - began)
        sampling = SamplingParams(
            temperature=0, max_tokens=8, structured_outputs=StructuredOutputsParams(choice=labels)
        )
        for batch in batches:
            prompts = [template.replace("{message}", text) for text in batch]
            yield pd.Series([found.outputs[0].text for found in llm.generate(prompts, sampling, use_tqdm=False)])

    rows = spark.read.format("delta").load(path)
    answered = rows.coalesce(1).withColumn("topic", topic("message")).select("id", "topic")
    answered.write.format("delta").mode("overwrite").save(f"{path}_answers")
    target = DeltaTable.forPath(spark, path)
    if "topic" not in rows.columns:
        spark.sql(f"ALTER TABLE delta.`{path}` ADD COLUMNS (topic string)")
        target = DeltaTable.forPath(spark, path)
    source = spark.read.format("delta").load(f"{path}_answers")
    merging = target.alias("t").merge(source.alias("s"), "t.id = s.id")
    merging.whenMatchedUpdate(set={"topic": "s.topic"}).execute()
    return float(started.value)


def main() -> None:
    """Read the night's facts from standard input, and say on standard output what it took."""
    facts = json.load(sys.stdin)
    spark = spark_session("naive")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(facts["batch"]))
    began = time.monotonic()
    start = label(spark, facts["path"], facts["model"], facts["template"], facts["labels"])
    print(json.dumps({"seconds": time.monotonic() - began, "engine_start": start}))


if __name__ == "__main__":
    main()

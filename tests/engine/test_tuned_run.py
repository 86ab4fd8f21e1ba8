"""From a labelled table to a mixture, to an adapter, to a run with it: a user's own job file, in three commands."""

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import lake
from jobs.mix import mix
from jobs.mix_files import load_mix
from jobs.run import run
from jobs.train import train
from schemas.job import Place
from schemas.options import RunOptions
from schemas.train import TrainFile
from schemas.yaml_file import load_file, load_job

WORDS = {"red": "apple cherry rose brick", "blue": "sky sea jeans ice", "green": "grass leaf frog pea"}
ROWS = [
    (n, f"the {word} number {n}", colour)
    for n, (colour, word) in enumerate((colour, word) for colour, words in WORDS.items() for word in words.split() * 8)
]


@pytest.fixture(scope="module")
def labelled(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    lake.replace(spark.createDataFrame(ROWS, "id int, text string, colour string").coalesce(1), place(folder))
    return folder


def place(folder: Path) -> Place:
    return Place(path=str(folder / "table"))


def write(file: Path, content: dict[str, object]) -> Path:
    file.write_text(json.dumps(content))
    return file


def test_a_labelled_table_becomes_an_adapter_that_a_run_uses(spark: SparkSession, labelled: Path) -> None:
    task = {"task": "classify", "name": "guess", "from": ["text"], "labels": list(WORDS)}
    job = {"source": {"path": str(labelled / "table")}, "key": ["id"], "model": "smollm2-untuned", "accept": 0}
    job_file = write(labelled / "job.yaml", {**job, "columns": [task]})
    source = {"kind": "job", "name": "colours", "job": str(job_file), "truth": {"guess": "colour"}}
    mixture = {"path": str(labelled / "mixture")}
    mix_file = {"model": "smollm2-untuned", "longest": 128, "output": mixture, "sources": [source]}
    stage = {"steps": 16, "batch": 8, "learning_rate": 2e-3, "longest": 256}
    train_file = {"model": "smollm2-untuned", "data": mixture, "output": str(labelled / "out"), "stages": [stage]}

    mixed = mix(spark, load_mix(write(labelled / "mix.yaml", mix_file)))
    assert mixed.sources["colours"].instances == len(ROWS)
    trained = train(spark, load_file(write(labelled / "train.yaml", train_file), TrainFile))
    losses = [step.loss for step in trained.steps]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])

    with_adapter = {**job, "model": {"base": "smollm2-untuned", "adapter": trained.product}}
    tuned = load_job(write(labelled / "tuned.yaml", {**with_adapter, "columns": [task]}))
    result = run(spark, tuned, options=RunOptions())
    assert result.complete
    rows = lake.read(spark, place(labelled)).collect()
    right = sum(row["guess"] == row["colour"] for row in rows)
    # one in three is chance; these are the rows it learned from
    assert right > 0.6 * len(rows)
    assert {row["guess_meta"]["model"] for row in rows} == {tuned.model.text}
    assert run(spark, tuned, options=RunOptions()).progress.questions == 0

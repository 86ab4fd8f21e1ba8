"""Write the public data as Delta tables with truth columns, and a job file for each: `build.py FOLDER`.

The mix, train and suite files beside this one read them from `$BURNISH_SUITE`.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession

from jobs import lake
from jobs.session import spark_session
from schemas.job import Place

HERE = Path(__file__).parent
DEFAULT_DATA = HERE.parents[1].parent / "shared" / "data"


def write(spark: SparkSession, folder: Path, data: Path, only: set[str] | None = None) -> list[Any]:
    """Write tables and job files of all sets, or of those named; return the sets."""
    sys.path.insert(0, str(HERE))
    sets = [one for one in importlib.import_module("sets").all_sets(data) if only is None or one.name in only]
    for one in sets:
        for part, rows in (("train", one.train), ("test", one.test)):
            if rows:
                keyed = [(number, *row) for number, row in enumerate(rows)]
                frame = spark.createDataFrame(keyed, f"id int, {one.ddl}").coalesce(1)
                lake.replace(frame, Place(path=str(folder / f"{one.name}_{part}")))
        part = "train" if one.train else "test"
        job = {
            "source": {"path": str(folder / f"{one.name}_{part}")},
            "key": ["id"],
            "model": "smollm2",
            "accept": 0,
            "columns": one.tasks,
        }
        text = yaml.safe_dump(job, sort_keys=False, allow_unicode=True, width=1000)
        (folder / f"{one.name}.yaml").write_text(text.replace("${", "$${"), encoding="utf-8")
    return sets


def main() -> None:
    """Write everything."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("BURNISH_DATA", DEFAULT_DATA))
    for one in write(spark_session("suite"), folder, data):
        outputs = ", ".join(task["name"] for task in one.tasks[:3])
        print(f"{one.name}: {len(one.train):,} to learn from, {len(one.test):,} to be judged by; {outputs}")


if __name__ == "__main__":
    main()

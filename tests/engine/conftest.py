"""One local Spark session with Delta, and what tests on public data need."""

import os
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.session import spark_session
from tests.shop import lasting_jvm, quick_jvms

quick_jvms()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> SparkSession:
    with lasting_jvm():  # tests of other folders go on with it
        return spark_session("burnish-tests", cores=2, folder=tmp_path_factory.mktemp("spark"))


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Return the folder of public data sets; where it is missing, skip, or fail if CI promised it."""
    beside = Path(__file__).parents[2].resolve().parent / "shared" / "data"
    folder = Path(os.environ.get("BURNISH_DATA", beside))
    if not (folder / "labeling" / "banking77" / "test.csv").is_file():
        if os.environ.get("BURNISH_REQUIRE_DATA"):
            pytest.fail(f"no public data in {folder}, and BURNISH_REQUIRE_DATA is set")
        pytest.skip(f"no public data in {folder} (set BURNISH_DATA)")
    return folder

"""One local Spark session with Delta and one scripted endpoint for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.session import spark_session
from tests.scripted_endpoint import ScriptedEndpoint, scripted_endpoint
from tests.shop import Shop, for_small_tables, lasting_jvm, quick_jvms

quick_jvms()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> SparkSession:
    """Return the session; its named tables lie in a folder that goes with the test run."""
    with lasting_jvm():
        session = spark_session("burnish-tests", cores=2, folder=tmp_path_factory.mktemp("spark"))
    return for_small_tables(session)


@pytest.fixture(scope="session")
def server() -> Iterator[ScriptedEndpoint]:
    """Serve one endpoint for the whole session: its address is part of every fingerprint."""
    with scripted_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(server: ScriptedEndpoint) -> ScriptedEndpoint:
    """Return the endpoint with nothing asked and nothing scripted."""
    server.script = lambda asked: None
    server.taken()
    server.probes = 0
    server.has_logprobs = True
    return server


@pytest.fixture
def shop(spark: SparkSession, tmp_path: Path, endpoint: ScriptedEndpoint) -> Shop:
    """Return a shop without a table yet."""
    return Shop(spark, tmp_path, endpoint)

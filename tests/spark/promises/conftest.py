"""What tests of promises start from: a table is answered, drawn and promised once for all of them."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.result import RunResult
from jobs.review import sample
from jobs.verdicts import import_truth
from tests.scripted_endpoint import ScriptedEndpoint
from tests.shop import Shop, counts
from tests.spark.promises.tickets import DDL, ROWS, job, rows, sure_when_right


@dataclass(frozen=True)
class Made:
    """A folder with the table of tickets, and what it holds in each of its states.

    Attributes:
        now: where the table and its store are put back.
        answered: all rows wait for people.
        drawn: all rows are drawn for them.
        promised: half of the rows were drawn and judged, and a run wrote what that proves.
        night: that run.
        asked: how many questions it asked, of the endpoint and in the table of questions.
    """

    now: Path
    answered: Path
    drawn: Path
    promised: Path
    night: RunResult
    asked: tuple[int, int]


@pytest.fixture(scope="session")
def made(spark: SparkSession, server: ScriptedEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return the table in all its states."""
    shop = Shop(spark, tmp_path_factory.mktemp("tickets") / "now", server)
    server.script = sure_when_right
    shop.write(rows(0, ROWS), DDL)
    declared = job(shop)
    first = shop.run(declared)
    assert counts(first, "topic") == {"review": ROWS}
    assert "burnish review sample" in first.as_dict()["remarks"][-1]
    now, answered = shop.folder, shop.kept("answered")
    sample(spark, declared, rows=ROWS // 2)
    half = shop.kept("half")
    sample(spark, declared, rows=ROWS - ROWS // 2)
    drawn = shop.kept("drawn")
    shop.put_back(now, half)
    import_truth(spark, declared, shop.path, {"topic": "truth"})
    server.taken()
    commits = Path(f"{shop.path}_burnish/questions/_delta_log")
    before = len(list(commits.glob("*.json")))
    night = shop.run(declared)
    asked = (sum(server.taken().values()), len(list(commits.glob("*.json"))) - before)
    return Made(now, answered, drawn, shop.kept("promised"), night, asked)


@pytest.fixture
def tickets(shop: Shop, made: Made) -> Shop:
    """Return the shop with that table, its rows answered."""
    return as_made(shop, made, made.answered)


@pytest.fixture
def drawn(shop: Shop, made: Made) -> Shop:
    """Return the shop with that table, all its rows drawn for people to judge."""
    return as_made(shop, made, made.drawn)


@pytest.fixture
def promised(shop: Shop, made: Made) -> Shop:
    """Return the shop with that table, something written of which precision is promised."""
    return as_made(shop, made, made.promised)


def as_made(shop: Shop, made: Made, state: Path) -> Shop:
    """Put the table back as it was in one of its states."""
    shop.endpoint.script = sure_when_right
    return shop.put_back(made.now, state)

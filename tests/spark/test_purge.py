"""One row's text out of burnish's own tables, and nobody else's."""

from datetime import datetime

import pytest

from jobs import lake
from jobs.publish import staged_place
from jobs.purge import purge
from schemas.errors import DataContractError, JobFileError
from schemas.job import Place
from tests.shop import TOPIC, Shop

CITY = {"task": "clean", "name": "city", "rules": "lower case, no blanks around"}
ROWS = [(1, "refund for Anna Smith", " Berlin "), (2, "delivery late", "Paris")]
DDL = "id long, text string, city string"


def holds(shop: Shop, place: Place, text: str) -> bool:
    rows = lake.read(shop.spark, place).toJSON().collect()
    return any(text in row for row in rows)


def test_a_key_of_any_type_is_found(shop: Shop) -> None:
    shop.write([(datetime(2026, 3, 1, 8, 30), "a.b", " Berlin ")], "at timestamp, the_id string, city string")
    job = shop.job(CITY, key=["at", "the_id"])
    shop.run(job)
    at = shop.frame().selectExpr("cast(at as string)").first()[0]
    done = purge(shop.spark, job, key={"at": at, "the_id": "a.b"})
    assert done.rows == {"questions": 1, "answers": 1, "changes": 1, "staged": 1}


def test_what_is_kept_of_a_row_goes_and_the_table_stays(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    job = shop.job(CITY, TOPIC)
    shop.run(job)
    store = shop.store(job)
    places = {name: store.place(name) for name in ("questions", "answers", "changes")}
    assert holds(shop, places["questions"], "Anna Smith")
    version = shop.version()
    done = purge(shop.spark, job, key={"id": "1"})
    assert done.rows == {"questions": 2, "answers": 2, "changes": 2, "staged": 1}
    assert not holds(shop, places["questions"], "Anna Smith")
    assert not holds(shop, places["changes"], "Berlin")
    assert not holds(shop, staged_place(job, store), "berlin")
    assert holds(shop, places["questions"], "delivery late")
    assert shop.version() == version
    assert all("VACUUM" in statement for statement in done.statements)
    assert len(done.statements) == 4
    again = shop.run(job)
    assert again.progress.questions == 0, "the cells of the row are done, and stay so"
    with pytest.raises(DataContractError, match="nothing is on record"):
        purge(shop.spark, job, key={"id": "17"})
    with pytest.raises(JobFileError, match="takes id=VALUE"):
        purge(shop.spark, job, key={"name": "1"})

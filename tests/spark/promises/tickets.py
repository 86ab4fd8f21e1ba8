"""Tickets that a model labels, most of them rightly, and what is promised of its labels."""

from typing import Any

from schemas.job import EnrichJob
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop

ROWS = 100
TWIN = 23  # its text is that of no. 3
DDL = "id int, text string, truth string"
PROMISE = {"precision": 0.8, "assurance": 0.9}


def sure_when_right(asked: Asked) -> Any:
    """Tickets that end in 7 or 9 are labelled wrongly, and with less confidence."""
    number = int(asked.text.split("no ")[1].split()[0].strip(".\n"))
    return ("other", 0.3 + number / 1000) if number % 10 in (7, 9) else ("refund", 0.7 + number / 1000)


def rows(start: int, end: int) -> list[tuple[int, str, str]]:
    """Return tickets with their true labels, one of them a twin of another."""
    return [(n, f"ticket no {3 if n == TWIN else n} .", "refund") for n in range(start, end)]


def job(shop: Shop, **words: Any) -> EnrichJob:
    """Return the job that promises, its questions dear; `accept` adds to the promise."""
    dear = {"engine": {"gpu_hour_price": 1000}}
    return shop.job(TOPIC, **dear | words | {"accept": PROMISE | words.get("accept", {})})

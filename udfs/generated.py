"""Cleaning pairs and record pairs made up on the spot, so that a model meets formats that no file here contains."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from schemas.fields import Example
from schemas.mix import Pairs
from schemas.tasks import Clean, Match
from udfs import noise
from udfs.extras import need
from udfs.variation import Asking

if TYPE_CHECKING:
    from faker import Faker

NEEDS_FAKER = ("casing", "typos", "records")
LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL")
# how many pairs are right as they are, and how many prompts show worked examples
RIGHT_ALREADY, WITH_EXAMPLES, MOST_EXAMPLES = 0.2, 0.3, 3
COUNTRIES = ("1", "33", "34", "39", "44", "49", "31", "48")
UNITS = (("g", "kg"), ("ml", "l"), ("m", "km"), ("mg", "g"), ("W", "kW"), ("mA", "A"))

Maker = Callable[[], tuple[str, str]]  # what is there, what it should be


def asking_of(pairs: Pairs, rng: Random) -> Asking:
    """Make one pair of this kind.

    Raises:
        EnvironmentProblem: the kind needs faker, which is not installed.
    """
    if pairs == "records":
        return _records(rng)
    makers: dict[Pairs, Callable[[Random], tuple[str, str, Maker]]] = {
        "dates": _dates,
        "phones": _phones,
        "units": _units,
        "casing": _casing,
        "typos": _typos,
    }
    column, rules, make = makers[pairs](rng)
    dirty, clean = make()
    examples = []
    if rng.random() < WITH_EXAMPLES:
        examples = [
            Example(input=one, output=other) for one, other in _distinct(make, rng.randint(1, MOST_EXAMPLES)).items()
        ]
    task = Clean(task="clean", name=column, rules=rules, examples=tuple(examples))
    given = clean if rng.random() < RIGHT_ALREADY else dirty
    return Asking(task, (given,), clean)


def _distinct(make: Maker, count: int) -> dict[str, str]:
    return dict(make() for _ in range(count))


def check_faker() -> None:
    """Refuse to start without faker.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    need("faker", extra="train", what="names and companies", instead="leave out the pairs " + ", ".join(NEEDS_FAKER))


@lru_cache(maxsize=len(LOCALES))
def _faker(locale: str) -> "Faker":
    check_faker()
    from faker import Faker

    return Faker(locale)


def _somebody(rng: Random) -> "Faker":
    """A faker of some country, at a place in its stream of names that `rng` alone decides."""
    found = _faker(rng.choice(LOCALES))
    found.seed_instance(rng.getrandbits(32))
    return found


def _dates(rng: Random) -> tuple[str, str, Maker]:
    column = rng.choice(("date", "bought_on", "birthday", "created_at", "delivery_date", "due"))
    day_first = rng.random() < 0.5
    order = "the day stands before the month" if day_first else "the month stands before the day"
    targets: tuple[tuple[tuple[str, ...], Callable[[date], str]], ...] = (
        (("ISO form, YYYY-MM-DD", "write dates as YYYY-MM-DD", "year, month, day with hyphens"), date.isoformat),
        (("DD.MM.YYYY", "write dates as 31.12.2024"), lambda day: f"{day:%d.%m.%Y}"),
        (("MM/DD/YYYY", "month, day and year with slashes"), lambda day: f"{day:%m/%d/%Y}"),
        (
            ("day, name of the month, year: 5 March 2024",),
            lambda day: f"{day.day} {noise.MONTHS[day.month - 1]} {day.year}",
        ),
        (("eight digits, YYYYMMDD",), lambda day: f"{day:%Y%m%d}"),
    )
    words, write = rng.choice(targets)

    def make() -> tuple[str, str]:
        # within these years two digits name one year only
        day = date(1970, 1, 1) + timedelta(days=rng.randrange(20_000))
        return noise.date_text(day, rng, day_first=day_first), write(day)

    return column, f"{rng.choice(words)}; {order}", make


def _phones(rng: Random) -> tuple[str, str, Maker]:
    column = rng.choice(("phone", "mobile", "tel", "fax", "contact_number"))
    words, mark = rng.choice(
        (
            (("international form, digits only after the plus sign", "plus sign and digits, nothing else"), ""),
            (("international form with hyphens: +49-30-123456",), "-"),
            (("plus sign, country, area and number with blanks between",), " "),
        )
    )

    def make() -> tuple[str, str]:
        country, area = rng.choice(COUNTRIES), str(rng.randint(20, 989))
        number = str(rng.randint(10_000, 99_999_999))
        clean = f"+{country}{mark}{area}{mark}{number}"
        return noise.phone_text(country, area, number, rng), clean

    return column, rng.choice(words), make


def _units(rng: Random) -> tuple[str, str, Maker]:
    small, large = rng.choice(UNITS)
    column = rng.choice(("weight", "size", "amount", "quantity", "value", "measure"))
    words, write = rng.choice(
        (
            ((f"in {small}, number, blank, unit", f"one unit everywhere: {small}"), lambda amount: f"{amount} {small}"),
            ((f"the number of {small} alone, without the unit",), str),
            ((f"in {large}, number and unit without a blank",), lambda amount: f"{amount / 1000:g}{large}"),
        )
    )

    def make() -> tuple[str, str]:
        amount = rng.choice((rng.randint(1, 20) * 50, rng.randint(1, 100) * 100, rng.randint(1, 9_999)))
        return noise.quantity_text(amount, small, large, rng), write(amount)

    return column, rng.choice(words), make


def _casing(rng: Random) -> tuple[str, str, Maker]:
    column, what = rng.choice((("name", "name"), ("customer", "name"), ("city", "city"), ("company", "company")))
    rules = rng.choice(
        (
            "capital and small letters as in print, no blanks too many",
            "correct case",
            "case and blanks as people write them",
        )
    )

    def make() -> tuple[str, str]:
        clean = " ".join(str(getattr(_somebody(rng), what)()).split())
        dirty = noise.recased(clean, rng)
        return (noise.spaced(dirty, rng) if rng.random() < 0.3 else dirty), clean

    return column, rules, make


def _typos(rng: Random) -> tuple[str, str, Maker]:
    column, what = rng.choice(
        (("country", "country"), ("job", "job"), ("month", "month_name"), ("color", "color_name"))
    )
    rules = rng.choice(("correct spelling", "no typing errors", "spell it as a dictionary does"))

    def make() -> tuple[str, str]:
        somebody = _faker("en_US")
        somebody.seed_instance(rng.getrandbits(32))
        clean = str(getattr(somebody, what)())
        return noise.mistyped(clean, rng, errors=rng.choice((1, 1, 2))), clean

    return column, rules, make


def _records(rng: Random) -> Asking:
    """Two records: one thing written down twice, or two things that share something."""
    one, other = _person(rng), _person(rng)
    is_same = rng.random() < 0.5
    if not is_same:
        # strangers that agree in nothing would be too easy
        shared = rng.choice(sorted(one))
        other = {**other, shared: one[shared]}
    names = tuple(rng.sample(sorted(one), rng.randint(2, len(one))))
    whole = one if is_same else other
    second = noise.smudged(whole, rng)
    if not any(second[name] for name in names):
        # nothing is asked about a record of which nothing is left
        second = whole
    task = Match(task="match", name="same", left=names, right=names)
    return Asking(task, (*(one[name] for name in names), *(second[name] for name in names)), is_same)


def _person(rng: Random) -> noise.Record:
    somebody: Any = _somebody(rng)
    return {
        "name": somebody.name(),
        "street": somebody.street_address().replace("\n", ", "),
        "city": somebody.city(),
        "phone": somebody.phone_number(),
        "company": somebody.company(),
    }

"""What people and systems do to clean values: pure functions over a seeded `Random`."""

from collections.abc import Mapping
from datetime import date
from random import Random

NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo",
    "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et",
    "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
Record = dict[str, str | None]


def mistyped(text: str, rng: Random, *, errors: int = 1) -> str:
    """Make typing errors: letters swapped, left out, doubled, or taken from the next key."""
    for _ in range(errors):
        places = [place for place, char in enumerate(text) if char.isalpha()]
        if not places:
            return text
        at = rng.choice(places)
        char, after = text[at], text[at + 1 : at + 2]
        key = rng.choice(NEIGHBOURS.get(char.lower(), char))
        wrong = rng.choice((after + char, "", char * 2, key.upper() if char.isupper() else key))
        text = text[:at] + wrong + text[at + (2 if wrong == after + char else 1) :]
    return text


def recased(text: str, rng: Random) -> str:
    """Lose the case: all small, all capital, or capitals and small letters the wrong way round."""
    return rng.choice((str.lower, str.upper, str.swapcase))(text)


def spaced(text: str, rng: Random) -> str:
    """Put blanks where none belong: before, after, or twice between words."""
    return rng.choice((f" {text}", f"{text} ", text.replace(" ", "  "), f"  {text} "))


def truncated(text: str, rng: Random) -> str:
    """Cut the end off, as a column that is too narrow does."""
    return text if len(text) < 6 else text[: rng.randint(len(text) // 2, len(text) - 1)].rstrip()


def date_text(day: date, rng: Random, *, day_first: bool) -> str:
    """Write a day as people do; where both are numbers, `day_first` says which stands first."""
    first, second = (day.day, day.month) if day_first else (day.month, day.day)
    mark = rng.choice("./-")
    wide = f"{first:02}{mark}{second:02}{mark}{day.year}"
    name = rng.choice((MONTHS[day.month - 1], MONTHS[day.month - 1][:3]))
    return rng.choice(
        (
            wide,
            f"{first}{mark}{second}{mark}{day.year}",
            f"{first}{mark}{second}{mark}{day.year % 100:02}",
            f"{day.day} {name} {day.year}",
            f"{name} {day.day}, {day.year}",
            f"{day.day}-{name.upper()}-{day.year}",
            f"{day.year}/{day.month:02}/{day.day:02}",
            f"{day:%Y%m%d}",
            f"{day.isoformat()}T00:00:00",
        )
    )


def phone_text(country: str, area: str, number: str, rng: Random) -> str:
    """Write a telephone number as people do: grouped, bracketed, with 00 for the plus or the area's zero kept."""
    mark = rng.choice((" ", "-", ".", "/", ""))
    half = len(number) // 2
    grouped = rng.choice((number, f"{number[:half]}{mark or ' '}{number[half:]}"))
    lead = rng.choice((f"+{country}", f"00{country}", f"+{country} (0)", f"(+{country})", f"{country}"))
    return rng.choice((f"{lead}{mark}{area}{mark}{grouped}", f"{lead} ({area}) {grouped}"))


def quantity_text(amount: int, small: str, large: str, rng: Random) -> str:
    """Write an amount of a small unit (grams) as people do, sometimes in the unit that is a thousand of it."""
    in_large = f"{amount / 1000:g}"
    return rng.choice(
        (
            f"{amount}{small}",
            f"{amount} {small}",
            f"{amount:,} {small}",
            f"{in_large}{large}",
            f"{in_large} {large}",
            f"{in_large.replace('.', ',')} {large}",
            f"{amount} {small.upper()}",
            f"ca. {amount} {small}.",
        )
    )


def shuffled(record: Mapping[str, str | None], rng: Random) -> Record:
    """Put values into wrong fields: two change places, or one is added to another's and leaves its own empty."""
    found = dict(record)
    if len(found) < 2:
        return found
    one, other = rng.sample(sorted(found), 2)
    if rng.random() < 0.5:
        found[one], found[other] = found[other], found[one]
    else:
        found[other] = " ".join(value for value in (found[other], found[one]) if value) or None
        found[one] = None
    return found


def smudged(record: Mapping[str, str | None], rng: Random) -> Record:
    """Write a record down a second time, as another clerk would: typing errors, cut, empty and shuffled fields."""
    found: Record = {}
    for name, value in record.items():
        draw = rng.random()
        if value is None or draw < 0.5:
            found[name] = value
        elif draw < 0.6:
            found[name] = None
        else:
            found[name] = rng.choice((mistyped, recased, truncated, spaced))(value, rng)
    return shuffled(found, rng) if rng.random() < 0.2 else found

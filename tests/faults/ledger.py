"""Cases, what came of them, and the file in which a campaign that was cut short finds where it was."""

import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import Interrupted


@dataclass(frozen=True)
class Case:
    """One fault at one moment; the seed decides on whatever is left to chance."""

    campaign: str
    fault: str
    seed: int
    play: Callable[["Case", Path], "Seen"] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """What replays it: `make faults CASE=driver/wave-committed/3`."""
        return f"{self.campaign}/{self.fault}/{self.seed}"


@dataclass
class Seen:
    """What the checker saw.

    Attributes:
        faults: how many were injected.
        rows: rows (or inputs) that the case had.
        lost: rows that are not as an undisturbed run leaves them.
        twice: questions asked more than once; bound: how many may be.
        resume_sec: wall time of the run that went on.
        escaped: exceptions that were none of burnish's own errors.
        left: processes of ours that outlived the case by a minute.
        problems: what broke an invariant, in words.
        more: what one campaign alone counts.
    """

    faults: int = 1
    rows: int = 0
    lost: int = 0
    twice: int = 0
    bound: int = 0
    resume_sec: float | None = None
    escaped: int = 0
    left: int = 0
    problems: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def check(self, holds: bool, problem: str) -> None:
        """Note a problem where something does not hold."""
        if not holds:
            self.problems.append(problem)


def played(case: Case, folder: Path) -> Seen:
    """Play a case in a folder of its own; what it raises is a finding like any other."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return case.play(case, folder)
    except Interrupted:
        # somebody ends the campaign: a case that was cut short has found nothing
        raise
    except Exception as problem:  # noqa: BLE001 - an exception that escapes is what campaigns look for
        told = "".join(traceback.format_exception(problem))[-2000:]
        return Seen(escaped=1, problems=[f"{type(problem).__name__} escaped: {told}"])


class Results:
    """A file of one line a case; the last line of a case counts."""

    def __init__(self, file: Path) -> None:
        """Read what is there."""
        self.file = file
        self.seen: dict[str, Seen] = dict(self._lines())

    def _lines(self) -> Iterator[tuple[str, Seen]]:
        if not self.file.exists():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            found: dict[str, Any] = json.loads(line)
            yield found.pop("case"), Seen(**found)

    def put(self, case: Case, seen: Seen) -> None:
        """Keep a result at once: the next case may end this process."""
        self.seen[case.name] = seen
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"case": case.name, **asdict(seen)}, ensure_ascii=False) + "\n")

    def of(self, cases: Iterable[Case]) -> list[Seen]:
        """What came of those of the cases that were played."""
        return [self.seen[case.name] for case in cases if case.name in self.seen]

    def left(self, cases: Iterable[Case]) -> list[Case]:
        """The cases that were not played yet, or went wrong."""
        return [case for case in cases if case.name not in self.seen or self.seen[case.name].problems]


HEAD = (
    "faults injected | rows | rows lost | asked twice (bound) | seconds to resume | exceptions escaped "
    "| processes left | failed cases |"
)
RULED = "|--:" * 8 + "|"


def table(results: Results, cases: Sequence[Case]) -> str:
    """The results as Markdown, one line a fault."""
    lines = [f"| campaign | fault | cases | {HEAD}", f"|---|---|--:{RULED}"]
    for campaign, fault in dict.fromkeys((case.campaign, case.fault) for case in cases):
        if mine := results.of([case for case in cases if (case.campaign, case.fault) == (campaign, fault)]):
            lines.append(f"| {campaign} | {fault.replace('-', ' ')} | {len(mine)} | {_counts(mine)}")
    return "\n".join(lines) + "\n"


def summary(results: Results, cases: Sequence[Case], sides: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The results as Markdown, of each group of faults a line a side.

    Args:
        sides: by group and side the beginnings of the names of its cases.
    """
    lines = [f"| faults | | cases | {HEAD}", f"|---|---|--:{RULED}"]
    for group, by_side in sides.items():
        for side, names in by_side.items():
            if mine := results.of([case for case in cases if case.name.startswith(tuple(names))]):
                lines.append(f"| {group} | {side} | {len(mine)} | {_counts(mine)}")
    return "\n".join(lines) + "\n"


def _counts(seen: Sequence[Seen]) -> str:
    def total(name: str) -> int:
        return sum(getattr(one, name) for one in seen)

    resumed = sorted(one.resume_sec for one in seen if one.resume_sec is not None)
    seconds = f"{resumed[len(resumed) // 2]:.0f}" if resumed else "\u2013"
    failed = sum(bool(one.problems) for one in seen)
    return (
        f"{total('faults')} | {total('rows'):,} | {total('lost')} | {total('twice')} ({total('bound')}) | {seconds} "
        f"| {total('escaped')} | {total('left')} | {failed} |"
    )

"""What a run did, for a program and for a person."""

from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs.gate import GateKeeper, as_record
from jobs.plan import cached_share, duration
from jobs.prepare import Prepared, describe, remarks
from jobs.waves import Progress
from schemas.tables import STATUSES

# what becomes of a cell that had something to ask, once it is no longer pending
DECIDED = ("accepted", "unchanged", "review", "failed")


@dataclass(frozen=True)
class RunResult:
    """What a run did."""

    prepared: Prepared
    run_id: str
    columns: dict[str, dict[str, Any]]
    progress: Progress
    seconds: float
    gone: int = 0
    keeper: GateKeeper | None = None
    drawn: tuple[str, ...] = ()
    replicas: int = 1

    @property
    def remarks(self) -> list[str]:
        """What a person should know of the run."""
        return [*remarks(self.prepared), *(self.keeper.remarks if self.keeper is not None else ()), *self.drawn]

    @property
    def rows(self) -> int:
        """Rows in scope."""
        return self.prepared.rows

    @property
    def complete(self) -> bool:
        """Whether no cell in scope waits for an answer."""
        return not any(column["statuses"]["pending"] for column in self.columns.values())

    @property
    def failed_share(self) -> float:
        """The part of the cells with something to ask that stand without an answer, whichever night asked them."""
        counts: dict[str, int] = {
            name: sum(column["statuses"][name] for column in self.columns.values()) for name in DECIDED
        }
        return counts["failed"] / max(1, sum(counts.values()))

    @property
    def has_failed_too_often(self) -> bool:
        """Whether more cells failed than `limits.max_failed_share` allows."""
        return self.failed_share > self.prepared.job.limits.max_failed_share

    @property
    def cost(self) -> float | None:
        """What the GPUs that the run held cost at the price given, from its start to its end."""
        price = self.prepared.job.engine.gpu_hour_price
        return None if price is None else round(price * self.seconds / 3600 * self.replicas, 4)

    @property
    def exit_code(self) -> int:
        """0, or 1 when more rows failed than allowed, or cells wait and `--require-complete` was given."""
        incomplete = self.prepared.options.require_complete and not self.complete
        return 1 if self.has_failed_too_often or incomplete else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        asked = self.progress
        seconds = asked.seconds if asked.questions else 0.0
        cells = self.prepared.count("ask")
        return {
            "run_id": self.run_id,
            "target": self.prepared.job.target_place.text,
            "model": self.prepared.model.ref.text,
            "model_digest": self.prepared.model.digest,
            "complete": self.complete,
            "stopped": asked.stopped or None,
            "rows": self.prepared.rows,
            "gone_from_source": self.gone,
            "cells_to_ask": cells,
            "questions": asked.questions,
            "answered": asked.answered,
            "failed": asked.failed,
            "failed_share": round(self.failed_share, 6),
            "cached_share": cached_share(self.prepared, asked.questions),
            "prompt_tokens": asked.prompt_tokens,
            "completion_tokens": asked.completion_tokens,
            "cached_tokens": asked.cached_tokens,
            "waves": asked.waves,
            "ask_seconds": round(seconds, 3),
            "seconds": round(self.seconds, 3),
            "replicas": self.replicas,
            "cost": self.cost,
            "rows_per_sec": round(asked.done / seconds, 3) if seconds else None,
            "tokens_per_sec": round(asked.done_tokens / seconds, 3) if seconds else None,
            "columns": self.columns,
            "columns_declared": describe(self.prepared),
            "remarks": self.remarks,
            "gate": as_record(self.keeper.facts) if self.keeper is not None else {},
        }

    def render(self) -> Group:
        """Return the result for a terminal."""
        table = Table(title=f"run {self.run_id}: {self.prepared.rows:,} rows", title_justify="left")
        shown = [status for status in STATUSES if any(one["statuses"][status] for one in self.columns.values())]
        for heading in ("column", *shown, "changed"):
            table.add_column(heading, justify="left" if heading == "column" else "right")
        for name, one in self.columns.items():
            table.add_row(name, *(f"{one['statuses'][status]:,}" for status in shown), f"{one['changed']:,}")
        asked = self.progress
        kept = [
            f"{name}: {one['promised']:,} answers written as promised, {one['carried']:,} carried (outside the frame)"
            for name, one in self.columns.items()
            if one["promised"] or one["carried"]
        ]
        unscored = [
            f"{name}: {one['not_scored']:,} answers ({one['not_scored_share']:.1%} of those judged now) have no score"
            for name, one in self.columns.items()
            if one["not_scored"]
        ]
        lines = [
            f"{asked.questions:,} questions asked ({asked.answered:,} answered, {asked.failed:,} failed) "
            f"in {duration(self.seconds)}",
            *kept,
            *unscored,
        ]
        if asked.stopped:
            lines.append(f"stopped by limits.{asked.stopped}: the rest is pending, the same command continues")
        if self.has_failed_too_often:
            allowed = f"limits.max_failed_share allows {self.prepared.job.limits.max_failed_share:.2%}"
            lines.append(f"{self.failed_share:.2%} of the cells with something to ask have failed; {allowed}")
        if self.gone:
            lines.append(f"{self.gone:,} rows are gone from the source and were {self._what_became_of_leavers()}")
        waiting = sum(one["changed_under_way"] for one in self.columns.values())
        if waiting:
            lines.append(f"{waiting:,} cells changed while the run was under way; they wait for the next one")
        return Group(table, *(Text(line) for line in (*lines, *self.remarks)))

    def _what_became_of_leavers(self) -> str:
        if self.prepared.job.on_source_delete != "delete":
            return "kept"
        return "kept: with --only no row is deleted" if self.prepared.options.only else "deleted"

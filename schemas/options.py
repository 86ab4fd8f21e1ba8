"""What a person asks of one run, beside the job file."""

from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.errors import JobFileError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of `plan` and `run`; times bound `source.time`, half open."""

    start: datetime | None = None
    end: datetime | None = None
    only: tuple[str, ...] = ()
    retry_failed: bool = False
    reask: bool = False
    keep_old: bool = False
    overwrite_edits: bool = False
    publish_only: bool = False
    require_complete: bool = False
    publish_every_min: float | None = None
    json_lines: bool = False

    def __post_init__(self) -> None:
        """Take times without a zone for UTC, and refuse what cannot be meant.

        Raises:
            JobFileError: the window is empty, or two options contradict each other.
        """
        for name in ("start", "end"):
            given = getattr(self, name)
            if given is not None and given.tzinfo is None:
                object.__setattr__(self, name, given.replace(tzinfo=UTC))
        if self.start is not None and self.end is not None and self.start >= self.end:
            window = f"from {self.start.isoformat()} to {self.end.isoformat()}"
            raise JobFileError(f"the time window {window} is empty: --from must lie before --to")
        if self.reask and self.keep_old:
            raise JobFileError("--reask asks all rows again, --keep-old none of the old ones: give one of them")
        if self.publish_every_min is not None and self.publish_every_min <= 0:
            raise JobFileError(f"--publish-every takes a time above zero, got {self.publish_every_min} minutes")

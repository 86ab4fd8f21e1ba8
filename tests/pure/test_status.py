"""What `burnish status` says of a run that is not done, and of the replicas that it sees."""

import io
from typing import Any

import pytest
from rich.console import Console

from jobs.status import JobStatus

RUN = {
    "run_id": "r1",
    "state": "running",
    "alive": True,
    "questions": 1200,
    "answered": 300,
    "failed": 2,
    "waves": 3,
    "rows_per_sec": 7.5,
    "silent_sec": 40,
    "left": 900,
}
REPLICA = {
    "host": "node-7",
    "folder": "/tmp/b/app/key",
    "phase": "ready",
    "is_healthy": True,
    "is_used": True,
    "is_orphan": False,
    "of_run": True,
    "restarts": 1,
    "idle_sec": 2,
    "processes": [17, 18],
}


def shown(**words: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=250).print(JobStatus("shop.tickets", {}, [], **words).render())
    return out.getvalue()


@pytest.mark.parametrize(
    ("known", "says"),
    [
        (
            {"alive": True},
            "r1 is running. 300 of 1,200 questions answered in 3 waves at 7.5 rows/s; the last",
        ),
        ({"alive": True}, "Where it dies, the same command asks 900 questions and writes what is answered."),
        ({"alive": False}, "r1 is dead: its process is gone."),
        ({"alive": False}, "The same command asks 900 questions"),
        ({"alive": None}, "r1 has no end on record."),
        ({"alive": None}, "Where it is dead, the same command asks 900 questions"),
        ({"alive": False, "state": "interrupted"}, "r1 ended as interrupted."),
        ({"alive": False, "rows_per_sec": None, "silent_sec": None}, "in 3 waves. The same"),
    ],
)
def test_a_run_that_is_not_done_is_told_as_far_as_it_is_known(known: dict[str, Any], says: str) -> None:
    assert says in shown(under_way=RUN | known)


def test_replicas_are_told_with_their_health_and_whose_they_are() -> None:
    told = shown(
        replicas=(REPLICA, REPLICA | {"is_orphan": True, "is_healthy": False, "is_used": False, "idle_sec": None})
    )
    mine, dead = [line for line in told.splitlines() if "node-7" in line]
    assert all(word in mine for word in ("this run", "ready", "answers, in use", "2 s ago", "17, 18"))
    assert all(word in dead for word in ("a dead run", "does not answer, idle", "none yet"))
    assert "replicas" not in shown()

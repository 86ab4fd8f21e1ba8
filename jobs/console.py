"""What every verb of the command line does alike: load a job file, find a session, print a result."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from schemas.errors import EnvironmentProblem, JobFileError
from schemas.secrets import redacted, without_secrets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from rich.console import Console

    from schemas.job import EnrichJob

LOG_WIDTH = 140
JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; all else goes to stderr.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write there instead of to stdout.")]


class Result(Protocol):
    """What verbs return: the same facts for a program and for a person."""

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""

    def render(self) -> Any:
        """Return something that rich can print."""


def load(path: Path) -> "EnrichJob":
    """Read and check a job file."""
    from jobs.validate import validate as checked

    return checked(path)


def session(job: "EnrichJob | None" = None, *, checked: bool = False) -> "SparkSession":
    """Return the session that is there, else a new one after the checks: a missing Java is one line then.

    It is not stopped: a platform's session goes on, and our own ends with the process.
    """
    from jobs.session import active_session, spark_session

    if checked:
        from jobs.doctor import check

        failed = [one for one in check(active_session(), job=job, orphans="skip") if not one.ok]
        if failed:
            message = "; ".join(f"{one.name}: {one.detail}" for one in failed)
            raise EnvironmentProblem(message, hint=" ".join(one.hint for one in failed if one.hint))
    spark = spark_session("burnish")
    from jobs.spark_problems import mute_spark

    mute_spark()
    return spark


def show(result: Result, as_json: bool) -> None:
    """Print a result for a person, or as JSON."""
    if as_json:
        print_json(result.as_dict())
    else:
        printer().print(result.render())


def printer() -> "Console":
    """Return the console that people read; a scheduler's log has no width, and its tables need not be cut to one."""
    from rich.console import Console

    found = Console()
    if not found.is_terminal and not found.is_jupyter and "COLUMNS" not in os.environ:
        found.width = LOG_WIDTH
    return found


def pairs_of(texts: list[str] | None) -> dict[str, str]:
    """Read `X=Y` options.

    Raises:
        JobFileError: one has no Y.
    """
    found = dict(one.partition("=")[::2] for one in texts or ())
    if not all(found.values()):
        raise JobFileError("--column takes X=Y here: column Y of the table holds what X should be")
    return found


def print_json(value: Any) -> None:
    """Print JSON on stdout."""
    typer.echo(json.dumps(without_secrets(value), ensure_ascii=False, default=lambda one: redacted(str(one))))


def refuse_existing(out: Path | None) -> None:
    """Refuse to write over a file, before any work is done.

    Raises:
        JobFileError: it is there.
    """
    if out is not None and out.exists():
        raise JobFileError(f"{out} is there already; take another name, or move it away")


def write(text: str, out: Path | None) -> None:
    """Write to a file, or to stdout.

    Raises:
        JobFileError: the file cannot be written.
    """
    if out is None:
        typer.echo(text, nl=False)
    else:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as problem:
            raise JobFileError(f"{out}: cannot be written: {problem.strerror}") from problem

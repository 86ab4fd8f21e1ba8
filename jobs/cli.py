"""The command `burnish`: one verb per module of `jobs`, each imported when it is called.

`burnish --help`, `validate` and `schema` therefore need no Spark, and answer at once.
"""

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from jobs.arguments import read_options
from jobs.cli_review import review
from jobs.console import AsJson, JobFile, Out, load, pairs_of, print_json, refuse_existing, session, show, write
from schemas.errors import BurnishError, EnvironmentProblem, JobFileError
from udfs import logs
from udfs.hush import unexpected

TERMINATED = 128 + signal.SIGTERM

app = typer.Typer(
    name="burnish",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(review, name="review")

log = logging.getLogger(__name__)
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option("--log-format", envvar="BURNISH_LOG_FORMAT", help="How stderr is written; json: a line per event."),
]


@app.callback()
def log_as(log_format: LogFormat = "text") -> None:
    """Clean and enrich columns of Delta tables with a language model, with a confidence beside every value."""
    logs.configure(as_json=log_format == "json")


Start = Annotated[str | None, typer.Option("--from", metavar="T", help="First moment of `source.time` (ISO, UTC).")]
End = Annotated[str | None, typer.Option("--to", metavar="T", help="First moment of `source.time` that is too late.")]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="COLUMN", help="Just this column; repeatable.")]
Truth = Annotated[str | None, typer.Option("--truth", metavar="TABLE", help="True values under the job's key.")]
TrueColumns = Annotated[list[str] | None, typer.Option("--column", metavar="X=Y", help="Its column Y holds what X is.")]
NoValues = Annotated[bool, typer.Option("--no-values", help="Leave the texts of cells out.")]
Reask = Annotated[bool, typer.Option("--reask", help="Ask answered rows again where the job has changed.")]
KeepOld = Annotated[bool, typer.Option("--keep-old", help="Keep old answers; ask only for new and changed rows.")]


def main() -> NoReturn:
    """Run the command; every error is one message and one exit code."""
    logs.configure(as_json=False)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except BurnishError as problem:
        _tell(problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as problem:  # noqa: BLE001 - a traceback would end with 1 and may print cells
        told = _told(problem)
        _tell(told)
        sys.exit(told.exit_code)
    sys.exit(0)


def _check_pair(truth: str | None, named: dict[str, str]) -> None:
    if (truth is None) != (not named):
        raise JobFileError("--truth and `--column X=Y` go together: Y holds what X should be")


def _told(problem: Exception) -> BurnishError:
    """Name an unexpected error without its message, which may hold values of cells."""
    if "pyspark" in sys.modules:
        from jobs.spark_problems import as_ours

        if (found := as_ours(problem)) is not None:
            return found
    return unexpected(problem)


def _terminate(signum: int, frame: object) -> NoReturn:
    """Leave through `finally` blocks; `run` puts its own handler in this one's place."""
    sys.exit(TERMINATED)


def _tell(problem: BurnishError) -> None:
    if logs.is_json():
        known = {"code": problem.code, "exit_code": problem.exit_code, "retryable": problem.retryable}
        log.error("%s", problem, extra=logs.facts(**known, hint=problem.hint))
        return
    typer.echo(f"burnish: {problem}", err=True)
    if problem.hint:
        typer.echo(f"hint: {problem.hint}", err=True)


@app.command()
def init(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A Delta table's name (1 to 3 parts) or folder.")],
    task: Annotated[str, typer.Option("--task", help="classify, multilabel, extract, clean, impute, match, answer.")],
    column: Annotated[list[str], typer.Option("--column", help="A column to read; repeatable.")],
    labels_from: Annotated[str | None, typer.Option("--labels-from", help="A column whose values are labels.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="The column to write.")] = None,
    out: Out = None,
) -> None:
    """Write a first job file for a table, with a key that was checked."""
    refuse_existing(out)
    spark = session()
    from jobs.init import init as draft

    write(draft(spark, table, task=task, columns=column, labels_from=labels_from, name=name), out)


@app.command()
def doctor(
    job: Annotated[Path | None, typer.Argument(metavar="[JOB]", help="A job file, to check its model too.")] = None,
    end_orphans: Annotated[
        bool, typer.Option("--end-orphans", help="End your own replicas whose run is dead; nobody else's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check Java, Spark, Delta, the model, the engine and the disk, and look for replicas of dead runs."""
    found = load(job) if job is not None else None
    from jobs.doctor import check, report
    from jobs.session import active_session

    checks = check(active_session(), job=found, orphans="end" if end_orphans else "list")
    if as_json:
        print_json([{"name": one.name, "ok": one.ok, "detail": one.detail, "hint": one.hint} for one in checks])
    else:
        report(checks)
    raise typer.Exit(0 if all(one.ok for one in checks) else EnvironmentProblem.exit_code)


@app.command()
def validate(job: JobFile) -> None:
    """Check a job file; needs no Spark."""
    found = load(job)
    columns = ", ".join(f"{task.name} ({task.task})" for task in found.columns)
    typer.echo(f"{job} is fine: {found.source.text} -> {found.target_place.text}, {columns}")


@app.command()
def plan(
    job: JobFile,
    start: Start = None,
    end: End = None,
    only: Only = None,
    reask: Reask = False,
    keep_old: KeepOld = False,
    no_values: NoValues = False,
    as_json: AsJson = False,
) -> None:
    """Say what a run would ask, how long it would take and what it would cost; starts no engine."""
    found = load(job)
    options = read_options(start=start, end=end, only=only, reask=reask, keep_old=keep_old, json_lines=as_json)
    spark = session(found, checked=True)
    from jobs.plan import plan as made

    show(made(spark, found, options=options, prompts=not no_values), as_json)


@app.command()
def preview(
    job: JobFile,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, max=1000, help="How many rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the answers for a few rows; writes nothing."""
    found = load(job)
    spark = session(found, checked=True)
    from jobs.preview import preview_table

    show(preview_table(spark, found, rows=rows), as_json)


@app.command()
def run(
    job: JobFile,
    start: Start = None,
    end: End = None,
    only: Only = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask rows that failed for good again.")] = False,
    reask: Reask = False,
    keep_old: KeepOld = False,
    overwrite_edits: Annotated[bool, typer.Option("--overwrite-edits", help="Write over people's edits.")] = False,
    publish_only: Annotated[
        bool, typer.Option("--publish-only", help="Ask nothing; write what is answered, whatever the gate says.")
    ] = False,
    require_complete: Annotated[bool, typer.Option("--require-complete", help="Exit 1 if rows stay pending.")] = False,
    publish_every: Annotated[str | None, typer.Option(metavar="TIME", help="Publish so often, as 30m.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask what is not answered yet, and write the answers."""
    found = load(job)
    options = read_options(
        start=start,
        end=end,
        only=only,
        retry_failed=retry_failed,
        reask=reask,
        keep_old=keep_old,
        overwrite_edits=overwrite_edits,
        publish_only=publish_only,
        require_complete=require_complete,
        publish_every=publish_every,
        json_lines=as_json,
    )
    spark = session(found, checked=True)
    from jobs.run import run as done

    result = done(spark, found, options=options)
    show(result, as_json)
    raise typer.Exit(result.exit_code)


@app.command()
def status(job: JobFile, as_json: AsJson = False) -> None:
    """Count the cells of a job's columns by status, and show its last runs."""
    found = load(job)
    spark = session(found)
    from jobs.status import status as counted

    show(counted(spark, found), as_json)


@app.command()
def history(job: JobFile, as_json: AsJson = False) -> None:
    """List the runs that wrote a job's target: what each changed, what of it still stands, what it cost."""
    found = load(job)
    spark = session(found)
    from jobs.history import history as listed

    show(listed(spark, found), as_json)


@app.command()
def undo(
    job: JobFile,
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="The run, as `burnish history` names it.")],
    column: Annotated[list[str] | None, typer.Option("--column", help="Just this column; repeatable.")] = None,
    where: Annotated[str | None, typer.Option("--where", metavar="SQL", help="Just these rows of the target.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be restored; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put back what a run changed, where a cell still holds what it wrote."""
    found = load(job)
    spark = session(found)
    from jobs.undo import undo as undone

    result = undone(spark, found, run_id=run, columns=column or (), where=where, dry_run=dry_run)
    show(result, as_json)


@app.command()
def purge(
    job: JobFile,
    key: Annotated[list[str], typer.Option("--key", metavar="COLUMN=VALUE", help="The row; repeat for each column.")],
    as_json: AsJson = False,
) -> None:
    """Remove one row's text from burnish's own tables; says which VACUUM finishes the job."""
    found = load(job)
    parts = dict(one.partition("=")[::2] for one in key)
    spark = session(found)
    from jobs.purge import purge as purged

    show(purged(spark, found, key=parts), as_json)


@app.command()
def mix(
    mix: Annotated[Path, typer.Argument(metavar="MIX", help="The mix file.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 4 if a held-out row is in it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a table of training rows from many sources, and print what it holds."""
    from jobs.mix_files import load_mix

    plan = load_mix(mix)
    spark = session()
    from jobs.mix import check as checked
    from jobs.mix import mix as mixed

    if not check:
        show(mixed(spark, plan), as_json)
        return
    result = checked(spark, plan)
    show(result, as_json)
    raise typer.Exit(result.exit_code)


@app.command()
def train(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="The train file.")],
    rows: Annotated[
        int, typer.Option("--show", min=0, max=1000, help="Train nothing; show so many rows, token by token.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a model on a mixture; the same command goes on where a kill left it."""
    from schemas.train import TrainFile
    from schemas.yaml_file import load_file

    file = load_file(train, TrainFile)
    spark = session()
    from jobs.train import show as shown
    from jobs.train import train as trained

    show(shown(spark, file, rows) if rows else trained(spark, file), as_json)


@app.command()
def evaluate(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="The suite file.")],
    only: Annotated[list[str] | None, typer.Option("--set", metavar="NAME", help="Just this set; repeatable.")] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="Compare all scores that the answers are stored with.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score job files on tables whose truth is known, beside what needs no model."""
    from schemas.suite import SuiteFile
    from schemas.yaml_file import load_file

    file = load_file(suite, SuiteFile)
    spark = session(checked=True)
    from jobs.evaluate import evaluate as evaluated

    show(evaluated(spark, file, only=only or (), scores=scores), as_json)


@app.command()
def calibrate(
    job: JobFile,
    truth: Truth = None,
    column: TrueColumns = None,
    as_json: AsJson = False,
) -> None:
    """Make confidences say how often such an answer is right, from rows that people judged."""
    found, named = load(job), pairs_of(column)
    _check_pair(truth, named)
    spark = session(found)
    from jobs.calibrate import calibrate_columns

    show(calibrate_columns(spark, found, truth_table=truth, truth=named), as_json)


@app.command()
def report(
    job: JobFile,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The page; its facts go beside it as JSON.")
    ] = Path("burnish-report.html"),
    truth: Truth = None,
    column: TrueColumns = None,
    no_values: NoValues = False,
    as_json: AsJson = False,
) -> None:
    """Write one page: what was written, how sure it is, where it was wrong, what to look at next."""
    found, named = load(job), pairs_of(column)
    _check_pair(truth, named)
    spark = session(found)
    from jobs.report import report as made

    result = made(spark, found, truth_table=truth, truth=named, values=not no_values)
    result.write(out)
    show(result, as_json)


@app.command()
def schema(out: Out = None) -> None:
    """Print the JSON schema of a job file, for editors."""
    from jobs.schema import schema as declared

    write(json.dumps(declared(), indent=2, ensure_ascii=False) + "\n", out)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo's tables go.")] = Path("burnish-demo"),
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many tickets.")] = 300,
    promise: Annotated[
        bool, typer.Option("--promise/--no-promise", help="Judge 120 rows at the end, and promise what they prove.")
    ] = True,
) -> None:
    """Fill the columns of a small table of support tickets, change one row, and run again."""
    from jobs.demo.tour import demo as shown

    raise typer.Exit(shown(folder, rows=rows, promise=promise))


if __name__ == "__main__":
    main()

"""`burnish review`: draw rows for people, and take in what they say."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from jobs.console import AsJson, JobFile, load, pairs_of, refuse_existing, session, show
from schemas.errors import JobFileError

review = typer.Typer(help="Draw rows for people to judge, and take in what they say.", no_args_is_help=True)

Column = Annotated[list[str] | None, typer.Option("--column", help="Just this column; repeatable.")]


@review.command()
def sample(
    job: JobFile,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many more rows of each column.")] = 200,
    column: Column = None,
    new_frame: Annotated[
        bool, typer.Option("--new-frame", help="Begin anew, with the rows that the table holds now.")
    ] = False,
    since: Annotated[
        int | None,
        typer.Option(
            "--since", metavar="VERSION", min=0, help="Add a frame: rows that came or changed after this version."
        ),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="CSV", help="Write what waits for a verdict there, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw rows by chance into the review table; the first draw fixes which rows a promise is about."""
    found = load(job)
    refuse_existing(sheet)
    spark = session(found)
    from jobs.review import sample as drawn
    from jobs.verdicts import write_sheet

    result = drawn(spark, found, rows=rows, columns=column or (), new_frame=new_frame, since=since)
    if sheet is not None:
        write_sheet(spark, found, sheet)
    show(result, as_json)


@review.command("import")
def import_(
    job: JobFile,
    sheet: Annotated[
        Path | None, typer.Argument(metavar="[CSV]", help="A sheet that `review sample` wrote, filled in.")
    ] = None,
    truth: Annotated[
        str | None, typer.Option("--truth", metavar="TABLE", help="Judge by a table of true values under the same key.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", metavar="X=Y", help="Column Y of it holds what X should be.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take in verdicts from a sheet, or make them from a table of true values."""
    if (sheet is None) == (truth is None):
        raise JobFileError("give a sheet, or --truth with a table")
    found = load(job)
    spark = session(found)
    from jobs.verdicts import import_sheet, import_truth

    if sheet is not None:
        show(import_sheet(spark, found, sheet), as_json)
        return
    named = pairs_of(column)
    if not named:
        raise JobFileError("--truth needs `--column X=Y` for each column to judge: Y holds what X should be")
    show(import_truth(spark, found, str(truth), named), as_json)


@review.command()
def label(
    job: JobFile,
    blind: Annotated[bool, typer.Option("--blind", help="Hide the model's answer; give your own.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge one row after the other at the terminal; what was said is kept when you leave."""
    found = load(job)
    spark = session(found)
    from rich.console import Console

    from jobs.verdicts import label as asked

    show(asked(spark, found, console=Console(), reviewer=getpass.getuser(), blind=blind), as_json)


@review.command()
def status(job: JobFile, as_json: AsJson = False) -> None:
    """Count what is drawn, judged and open, and list what people said that holds no more."""
    found = load(job)
    spark = session(found)
    from jobs.review import review_status

    show(review_status(spark, found), as_json)

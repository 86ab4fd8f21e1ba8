"""What people say: sheets as spreadsheets make them, answers as people type them, and what is told of both."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from rich.console import Console

from jobs.lapsed import MOST_LISTED
from jobs.people import found_right
from jobs.review import Reviewed, Said
from jobs.sheet import MOST_CHARACTERS, harmless
from jobs.verdicts import own_answer, said_in
from schemas.errors import JobFileError
from schemas.tasks import AnyTask

TASKS: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
TOPIC = TASKS.validate_python({"task": "classify", "name": "topic", "from": ["text"], "labels": ["a", "b", "q"]})
CITY = TASKS.validate_python({"task": "answer", "name": "city", "from": ["text"], "question": "Where?"})
TAGS = TASKS.validate_python({"task": "multilabel", "name": "tags", "from": ["text"], "labels": ["a", "b"]})
HEADER = "frame,column,place,inputs,answer,verdict,correction"


def read(folder: Path, *lines: str, header: str = HEADER) -> list[Said]:
    sheet = folder / "sheet.csv"
    sheet.write_text("\r\n".join((header, *lines)), encoding="utf-8-sig", newline="")
    return said_in(sheet, [TOPIC, CITY, TAGS])


def complaint(folder: Path, *lines: str, header: str = HEADER) -> str:
    with pytest.raises(JobFileError) as refused:
        read(folder, *lines, header=header)
    return str(refused.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_sheet_is_read_however_its_cells_are_parted(tmp_path: Path, delimiter: str) -> None:
    def parted(line: str) -> str:
        return line.replace("|", delimiter)

    header = parted('Place|verdict|frame |"my notes, and more; of them"|column|correction')
    # what parts the cells of other sheets may stand in a cell, a line end in quotes, and cells at the end be empty
    text = f'"x{delimiter}, ; \n\t y"'
    found = read(
        tmp_path,
        parted(f"1|yes|f|{text}|topic|"),
        "",
        parted("2||f||topic|b||"),
        parted("3||f||topic"),
        parted('4|no|f||city|"Rome, ""Italy""; or\tso"'),
        header=header,
    )
    assert found == [
        Said("f", "topic", 1, "yes"),
        Said("f", "topic", 2, "no", '"b"'),
        Said("f", "city", 4, "no", json.dumps('Rome, "Italy"; or\tso')),
    ]


def test_a_sheet_without_the_columns_is_refused(tmp_path: Path) -> None:
    told = complaint(tmp_path, "f,topic,1,yes", header="frame,column,place,a secret")
    assert told.endswith("its first line lacks verdict, correction; it has frame, column, place, 1 others")
    assert "lacks frame, column, place, verdict, correction; it has nothing" in complaint(tmp_path, header="")
    assert "names verdict more than once" in complaint(tmp_path, header=f"{HEADER},verdict")
    with pytest.raises(JobFileError, match="cannot be read: No such file"):
        said_in(tmp_path / "none.csv", [TOPIC])
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\nf,city,1,,,no,Zürich".encode("latin-1"))
    with pytest.raises(JobFileError, match="as UTF-8"):
        said_in(tmp_path / "latin.csv", [CITY])


def test_every_line_that_cannot_be_understood_is_named(tmp_path: Path) -> None:
    told = complaint(
        tmp_path,
        "f,topic,1,,,yes,",
        "f,topic,1,,,yes,",  # said twice
        "f,topic,1,,,no,b",
        "f,topic,2,,,no,a",
        "f,topic,2,,,no,b",
        "f,city,1,,,no,Rome, Italy",
        "f,topic,²,,,yes,",
        f"f,topic,{2**31},,,yes,",
        "f,tags,1,,,no,a",
    )
    at = {line.partition(":")[0]: line for line in told.split("\n")[1:]}
    assert list(at) == ["line 4", "line 6", "line 7", "line 8", "line 9", "line 10"]
    assert "contradicts line 2" in at["line 4"]
    assert "contradicts line 5" in at["line 6"]
    assert "has 8 cells, the header 7" in at["line 7"]
    assert "takes a JSON list of a, b" in at["line 10"]
    assert read(tmp_path, "f,topic,1,,,yes,", "f,topic,1,,,yes,") == [Said("f", "topic", 1, "yes")]
    # a quote that nothing closes would swallow the lines after it
    assert "is no CSV" in complaint(tmp_path, 'f,city,1,,,no,"Rome', "f,city,2,,,no,Paris")


def test_a_cell_of_a_sheet_holds_what_a_spreadsheet_can() -> None:
    assert harmless("x" * MOST_CHARACTERS) == "x" * MOST_CHARACTERS
    assert harmless("=" + "x" * MOST_CHARACTERS) == f"'={'x' * (MOST_CHARACTERS - 1)}…"


def typed(monkeypatch: pytest.MonkeyPatch, task: AnyTask, value: Any, *lines: str) -> tuple[Said | None, str]:
    """What somebody who types these lines says of a value, and what they were told."""
    left = iter(lines)
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(console, "input", lambda prompt: (console.print(prompt), next(left))[1])
    row = {"frame": "f", "column": task.name, "place": 1, "value": json.dumps(value)}
    found = own_answer(console, task, row)
    assert next(left, None) is None
    told = console.file
    assert isinstance(told, io.StringIO)
    return found, told.getvalue()


def test_a_typing_error_is_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found, told = typed(monkeypatch, TOPIC, "a", "aa", "a")
    assert found == Said("f", "topic", 1, "yes")
    assert "no answer for topic, which takes a, b, q" in told
    found, told = typed(monkeypatch, TAGS, ["b"], "b", '["b", "a"]')
    assert found == Said("f", "tags", 1, "no", '["a","b"]')
    assert "takes a JSON list of a, b" in told
    assert typed(monkeypatch, TOPIC, "a", "")[0] == Said("f", "topic", 1, "skip")


def test_q_leaves_where_it_is_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    found, told = typed(monkeypatch, TOPIC, "a", "q")
    assert found == Said("f", "topic", 1, "no", '"q"')
    assert "Ctrl-D leaves" in told
    assert typed(monkeypatch, CITY, "Rome", "q")[0] is None


def test_who_says_yes_and_corrects_has_said_no() -> None:
    assert found_right("yes", '"a"', None)
    assert found_right("yes", '"a"', '"a"')
    assert not found_right("yes", '"a"', '"b"')
    assert not found_right("skip", '"a"', None)
    assert not found_right(None, '"a"', None)


def test_how_many_are_right_is_told_when_all_are_judged() -> None:
    def told(**counts: Any) -> str:
        one = {"frame": "f", "version": 1, "since": None, "rows": 90, "is_open": False, "sample": None, "others": ()}
        gone = {"topic": {"rows": 1_022, "some": [{"key": f"k{n}", "said": "a"} for n in range(MOST_LISTED)]}}
        console = Console(file=io.StringIO(), width=200)
        console.print(Reviewed({"topic": one | counts}, gone).render())
        file = console.file
        assert isinstance(file, io.StringIO)
        return file.getvalue()

    waiting = told(drawn=40, judged=31, skipped=2, open=9, right=None)
    assert "is told of a frame once all" in waiting
    assert "k19: a" in waiting
    assert "k20: a" not in waiting
    assert "and 1,002 more" in waiting
    judged = told(drawn=40, judged=40, skipped=2, open=0, right=37)
    assert "is told of a frame" not in judged
    assert "37" in judged

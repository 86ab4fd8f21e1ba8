"""The report's page in a real browser: whatever stands in a cell, nothing runs and nothing is asked for."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs.page import ColumnReport, Judged, Report
from jobs.review import printable

CHROMIUM = shutil.which("chromium")
ASKING = ('<img src="{}">', '<link rel="stylesheet" href="{}">', '<iframe src="{}"></iframe>')
NAUGHTY = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</td></table><svg onload=\"document.title='owned'\">",
    "{{ 7 * 7 }} {% raw %}",
    "'; DROP TABLE t; --",
    "\u202eright to left \u0000 and nothing",
    "<b>bold</b> &amp; <!-- ",
)


def report_of(texts: list[str]) -> Report:
    """Say these texts wherever a page shows one."""
    rows = [Judged(text, text, text, right=False, confidence=0.5, correction=text) for text in texts]
    bins = [(at, 20 - at) for at in range(20)]
    part = {"rows": 10, "confidence": 0.5, "right": 0.4, "low": 0.2, "high": 0.6}
    figures = {"auroc": 0.8, "ece": 0.1, "brier": 0.2, "right": 0.4}
    columns = [
        ColumnReport(
            text, "classify", {text: 3}, bins, 10, figures, [part], [(0.5, 0.1), (1.0, 0.6)], (0.5, 0.1),
            [(text, text, 2)], rows, rows,
        )
        for text in texts
    ]  # fmt: skip
    names = ("rows", "questions", "failed", "prompt_tokens", "completion_tokens", "seconds", "cached_share")
    known = {"started": "now", "source_version": 1, "versions": {"burnish": "1"}}
    runs = [dict.fromkeys(names) | known | {"run": text, "state": text, "changed": {text: 1}} for text in texts]
    return Report("t", texts[0], "m", tuple(texts), tuple(runs), tuple(columns))


@pytest.fixture
def visits() -> Iterator[tuple[str, list[str]]]:
    """Serve an address that nothing should ask for, and what was asked."""
    asked: list[str] = []

    class Visited(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Visited)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/x", asked
    server.shutdown()


def opened(file: Path) -> str:
    """Open a page in a real browser and return what became of it."""
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={file.parent / 'profile'}",
    ]
    command += ["--virtual-time-budget=3000", "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_no_text_of_a_cell_is_markup() -> None:
    page = report_of([*NAUGHTY]).html()
    assert "<script" not in page.lower()
    assert "<b>bold" not in page
    assert "{{ 7 * 7 }}" in page


def test_no_text_of_a_cell_commands_a_terminal() -> None:
    assert printable("a\x1b[2Jb\x00\r\tc\n") == "a\ufffd[2Jb\ufffd\ufffd\tc\n"


class Tags(HTMLParser):
    """The tags of a piece of a page, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_report_in_a_notebook_shows_itself_in_a_frame_of_its_own() -> None:
    found = report_of([NAUGHTY[1]])
    # nothing of the page, its style neither, is the notebook's own
    ((tag, frame),) = Tags(found._repr_html_()).found
    assert (tag, frame["sandbox"], frame["width"]) == ("iframe", "", "100%")
    assert int(frame["height"] or 0) > 0
    page = [tag for tag, _ in Tags(frame["srcdoc"] or "").found]
    assert page == [tag for tag, _ in Tags(found.html()).found]
    assert "style" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium; CI installs Debian's")
def test_nothing_on_the_page_runs_or_asks(tmp_path: Path, visits: tuple[str, list[str]]) -> None:
    address, asked = visits
    texts = [*(text.format(address) for text in ASKING), *NAUGHTY]
    file = tmp_path / "page.html"
    # what the same texts would do on a page that does not escape them
    file.write_text("<title>report</title>" + "".join(texts), encoding="utf-8")
    assert "<title>owned</title>" in opened(file)
    assert asked
    asked.clear()
    report_of(texts).write(file)
    page = opened(file)
    assert "<title>burnish: t</title>" in page
    assert page.count("<svg") == 3 * len(texts)
    assert not asked
    # nor does anything in a notebook
    file.write_text("<title>notebook</title>" + report_of(texts[:4])._repr_html_(), encoding="utf-8")
    assert "<title>notebook</title>" in opened(file)
    assert not asked

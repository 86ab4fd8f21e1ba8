"""The notebook, executed from top to bottom in a kernel of its own, as a reader would, and the demo's last step."""

from io import StringIO
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.demo.promise import keep_promise

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


def test_the_tour_runs_from_top_to_bottom_and_what_it_wrote_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    monkeypatch.setenv("BURNISH_TOUR_FOLDER", str(tmp_path / "tour"))
    monkeypatch.setenv("BURNISH_TOUR_ROWS", "10")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("before → after" in str(output) for output in printed)

    told = StringIO()
    folder = tmp_path / "tour"
    result = keep_promise(spark, folder, folder / "job.yaml", console=Console(file=told, width=200))
    assert result.progress.questions == 0
    rows = [line.split("\u2502")[1:-1] for line in told.getvalue().splitlines() if line.startswith("\u2502")]
    kept = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows if len(row) == 6}
    assert {"topic", "order", "same_product"} <= set(kept)
    # ten tickets are fewer than are drawn: people have judged them all
    assert all(1 <= int(judged) <= 10 and int(right) <= int(judged) for judged, right, *_ in kept.values())
    assert (folder / "report.html").is_file()

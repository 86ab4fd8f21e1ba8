"""A selection of the campaigns of `make faults`: real kills, real rivals, each case held to the same invariants."""

import os
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.faults.ledger import Results, Seen, played
from tests.faults.run import all_cases

SELECTION = (
    "driver/wave-computed/1",
    "driver/changes-logged/0",
    "delta/update-same-rows/3",
    "delta/the-same-job/0",
    "delta/restored-version/0",
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cases' common model and undisturbed tables are."""
    return tmp_path_factory.mktemp("shared")


def problems_of(name: str, spark: SparkSession, shared: Path, folder: Path) -> list[str]:
    """Play a case of the campaigns, and say what it broke."""
    (case,) = [case for case in all_cases(spark, shared) if case.name == name]
    return played(case, folder / "case").problems


@pytest.mark.parametrize("name", SELECTION)
def test_what_must_hold_holds(name: str, spark: SparkSession, shared: Path, tmp_path: Path) -> None:
    assert not problems_of(name, spark, shared, tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk_ends_the_run_and_more_room_lets_it_go_on(
    spark: SparkSession, shared: Path, tmp_path: Path
) -> None:
    assert not problems_of("limits/disk-full/0", spark, shared, tmp_path)


def test_a_table_dropped_under_way_is_a_clear_end(spark: SparkSession, shared: Path, tmp_path: Path) -> None:
    assert not problems_of("limits/table-dropped/0", spark, shared, tmp_path)


def test_cases_have_names_of_their_own_and_results_are_taken_up(
    spark: SparkSession, shared: Path, tmp_path: Path
) -> None:
    cases = all_cases(spark, shared)
    assert len({case.name for case in cases}) == len(cases) > 300
    results = Results(tmp_path / "results.jsonl")
    results.put(cases[0], Seen(problems=["broke"]))
    results.put(cases[1], Seen(rows=3))
    again = Results(tmp_path / "results.jsonl")
    assert again.left(cases[:3]) == [cases[0], cases[2]]

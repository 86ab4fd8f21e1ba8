"""All campaigns, or those named: `python -m tests.faults.run [CASE…] [--folder F] [--results FILE]`.

A word selects every case whose name begins with it: `driver`, `driver/wave-committed`, `driver/wave-committed/3`.
Results are kept after every case; the same command goes on with what is left or went wrong. The table of everything
on record is written here, as Markdown; what came of injections has a page of its own. What `results.jsonl` beside this
file holds is already in the table: `--results tests/faults/results.jsonl` goes on from there, on another machine too.
"""

import argparse
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.session import spark_session
from tests.faults import cluster, driver, injection, inputs, limits, naive, rivals
from tests.faults.injection_page import page as injection_page
from tests.faults.ledger import Case, Results, played, summary, table
from tests.shop import for_small_tables, quick_jvms
from udfs.models import cache_folder

HERE = Path(__file__).parent
BY_BURNISH, BY_SCRIPT = "burnish", "`tests/bench/naive.py`"
SIDES = {
    "the driver is killed": {BY_BURNISH: ["driver/"], BY_SCRIPT: ["naive/driver-"]},
    "an executor, a worker, a watchdog or an engine is killed, hangs, talks nonsense": {
        BY_BURNISH: ["executors/"],
        BY_SCRIPT: ["naive/python-worker-killed"],
    },
    "others write the table meanwhile; layouts; replays": {
        BY_BURNISH: ["delta/"],
        BY_SCRIPT: ["naive/rows-", "naive/row-", "naive/the-same-job-twice"],
    },
    "odd cells and names of columns": {BY_BURNISH: ["inputs/"], BY_SCRIPT: ["naive/a-", "naive/an-"]},
    "limits, a full disk, a table dropped": {BY_BURNISH: ["limits/"]},
}
CAMPAIGNS = (driver, cluster, rivals, inputs, limits, naive, injection)


def all_cases(spark: SparkSession, shared: Path) -> list[Case]:
    """The cases of all campaigns in order."""
    return [case for campaign in CAMPAIGNS for case in campaign.cases(spark, shared)]


def main() -> None:
    """Play what is left of the cases, print how it goes, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--folder", type=Path, default=cache_folder() / "faults", help="where cases have their tables")
    parser.add_argument("--results", type=Path, help="one line a case; by default in the folder")
    parser.add_argument("--table", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--injection", type=Path, default=HERE / "INJECTION.md")
    parser.add_argument("--keep", action="store_true", help="keep the tables of cases that went well")
    words = parser.parse_args()
    results = Results(words.results or words.folder / "results.jsonl")
    shared = words.folder / f"shared-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    quick_jvms()
    spark = for_small_tables(spark_session("burnish-faults", cores=2))
    cases = all_cases(spark, shared)
    chosen = [case for case in cases if not words.cases or case.name.startswith(tuple(words.cases))]
    if not chosen:
        sys.exit(f"no case begins with {' or '.join(words.cases)}")
    failed = _play(results, chosen, words.folder, keep=words.keep)
    shutil.rmtree(shared, ignore_errors=True)
    written = _write(results, cases, chosen, words)
    print(f"{len(chosen)} cases, {failed} went wrong; {', '.join(map(str, written))}")
    sys.exit(1 if failed else 0)


def _write(results: Results, cases: Sequence[Case], chosen: Sequence[Case], words: argparse.Namespace) -> list[Path]:
    """Write the pages that the chosen cases have changed; return where they are."""
    of_guards, others = (
        [case for case in cases if (case.campaign == injection.CAMPAIGN) is is_one] for is_one in (True, False)
    )
    pages = {words.injection: (of_guards, injection_page), words.table: (others, _page)}
    changed = {file: write(results, mine) for file, (mine, write) in pages.items() if set(mine) & set(chosen)}
    for file, text in changed.items():
        file.write_text(text, encoding="utf-8")
    return list(changed)


def _play(results: Results, chosen: Sequence[Case], folder: Path, *, keep: bool) -> int:
    left = results.left(chosen)
    for number, case in enumerate(left, 1):
        mine = folder / "cases" / case.name.replace("/", "-")
        shutil.rmtree(mine, ignore_errors=True)
        began = time.monotonic()
        seen = played(case, mine)
        results.put(case, seen)
        told = "ok" if not seen.problems else "FAILED"
        print(f"[{number}/{len(left)}] {case.name}: {told}, {time.monotonic() - began:.0f} s", flush=True)
        for problem in seen.problems:
            print(f"    {problem}\n    again: make faults CASE={case.name}", flush=True)
        if not keep and not seen.problems:
            shutil.rmtree(mine, ignore_errors=True)
    return sum(bool(results.seen[case.name].problems) for case in chosen)


def _page(results: Results, cases: Sequence[Case]) -> str:
    done = sum(case.name in results.seen for case in cases)
    when = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}"
    head = f"# Faults\n\n{when}, {done:,} of {len(cases):,} cases: `make faults`."
    return f"{head}\n\n{summary(results, cases, SIDES)}\n{table(results, cases)}"


if __name__ == "__main__":
    main()

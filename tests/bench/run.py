"""Measure burnish on this machine and write RESULTS.md beside this file: `run.py [part …] [--quick] [--rounds N]`."""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "ask_tiny": "asking",
    "ask_smollm2": "asking",
    "naive": "against_naive",
    "changed": "second_night",
    "confidence": "confidence_cost",
    "publish_1m": "million",
    "night_10m": "ten_million",
    "promise": "promise",
    "promise_real": "promise",
    "confidences": "confidences",
    "second_looks": "second_looks",
}


def main() -> int:
    """Run the parts named, all of them by default; a quick run proves the scripts and writes nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small tables, to see that everything works")
    parser.add_argument("--rounds", type=int, default=None, help="repetitions of each measurement (5; quick: 2)")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md", help="the file to write")
    given = parser.parse_args()
    # PYTHONSAFEPATH keeps a script's own folder off the path.
    sys.path.insert(0, str(HERE))
    report, rig = importlib.import_module("report"), importlib.import_module("rig")
    rounds = given.rounds or (2 if given.quick else 5)
    for part in given.parts or PARTS:
        if part == "promise_real" and not given.parts and "BURNISH_SUITE" not in os.environ:
            print("promise_real is left out: it needs evaluated sets where BURNISH_SUITE says", flush=True)
            continue
        began = time.monotonic()
        with rig.opened(quick=given.quick, rounds=rounds) as bench:
            tables = getattr(importlib.import_module(PARTS[part]), part)(bench)
        seconds = time.monotonic() - began
        text = report.section(part, tables, command=f"tests/bench/run.py {part}", seconds=seconds, rounds=rounds)
        print(text, flush=True)
        if not given.quick:
            report.write(given.results, part, text, order=list(PARTS))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Part e, second half: 10,000,000 rows in 200 partitions, and the nights after the first one."""

import json
from pathlib import Path

from published import answer_all, files_of, job_without_engine, version_of
from pyspark.sql import functions as F
from report import Table, spread, verdict
from rig import Bench, rss_mib
from texts import generated

from jobs.run import run
from schemas.job import EnrichJob
from schemas.options import RunOptions

MOST_SCAN = 1.5
NIGHTS = ("after a night that wrote", "after somebody else's commit")
MOST_COMMITS = 500
CHANGED = (3, 117)
TABLES = ("target", "target_burnish/questions", "target_burnish/answers", "target_burnish/changes")


def night_10m(bench: Bench) -> list[Table]:
    """Fill the table once, then change 1 % of two partitions, then change nothing."""
    rows, parts = bench.size(10_000_000, quick=50_000), bench.size(200, quick=20)
    path, changed = bench.path("target"), tuple(part % parts for part in CHANGED)
    frame = generated(bench.spark, rows, files=parts).withColumn("part", (F.col("id") * parts / rows).cast("int"))
    frame.write.format("delta").partitionBy("part").save(path)
    job = job_without_engine(bench, path)
    nights = [_night(bench, job, "first night, every row")]
    before = files_of(bench, path)
    _change(bench, path, changed)
    edited = files_of(bench, path)
    nights.append(_night(bench, job, "second night, 1 % of two partitions"))
    others = {file for file in before if not any(f"part={part}/" in file for part in changed)}
    kept = others <= files_of(bench, path)
    written = _partitions_written(path, since=nights[-1][-1])
    nights.append(_night(bench, job, "third night, nothing"))
    print(f"  files {len(before)}, after the edit {len(edited)}, partitions written {sorted(written)}")
    return [_nights(nights), _files(kept, written, changed), _scan(bench, job, path, changed)]


Night = tuple[str, float, int, int, float, float, int]


def _night(bench: Bench, job: EnrichJob, name: str) -> Night:
    """Answer what is open, then run; return the name, seconds, cells changed, commits, memory, version before."""
    path = bench.path("target")
    answer_all(bench, job)
    tables = [bench.path(table) for table in (*TABLES, "target_burnish/staged", "target_burnish/runs")]
    commits, version = bench.commits(*tables), version_of(bench, path)
    result = bench.timed(name, lambda: run(bench.spark, job, options=RunOptions()))
    if not result.complete or result.progress.questions:
        raise RuntimeError(f"{name}: cells were left over")
    seconds, cells = bench.clock[name][-1], result.columns["topic"]["changed"]
    return name, seconds, cells, bench.commits(*tables) - commits, rss_mib(), bench.heap_mib(), version


def _change(bench: Bench, path: str, parts: tuple[int, ...]) -> None:
    listed = ", ".join(map(str, parts))
    bench.spark.sql(
        f"UPDATE delta.`{path}` SET message = concat(message, ' Thank you.') WHERE part IN ({listed}) AND id % 100 = 7"
    )


def _partitions_written(path: str, *, since: int) -> set[int]:
    """Return the partitions of the files that commits after a version removed or added."""
    found = set()
    for log in Path(path, "_delta_log").glob("*.json"):
        if int(log.stem) <= since:
            continue
        for line in log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            action = entry.get("add") or entry.get("remove")
            if action is not None:
                found.add(int(action["partitionValues"]["part"]))
    return found


def _nights(nights: list[Night]) -> Table:
    rows = [
        (name, f"{seconds:.1f}", f"{cells:,}", f"{commits}", f"{rss:,.0f}", f"{heap:,.0f}")
        for name, seconds, cells, commits, rss, heap, _ in nights
    ]
    most = max(commits for _, _, _, commits, *_ in nights)
    headings = ("night", "seconds", "cells changed", "commits", "driver's Python, MiB", "JVM heap after GC, MiB")
    return Table(headings, rows, f"Commits a run, all tables: {verdict(most, most=MOST_COMMITS)}.")


def _files(kept: bool, written: set[int], changed: tuple[int, ...]) -> Table:
    only = written == set(changed)
    rows = [
        ("files of the other partitions all still there", "yes" if kept else "no"),
        ("partitions that the second night's commits touch", ", ".join(map(str, sorted(written)))),
        ("nothing else rewritten", "met" if kept and only else "missed"),
    ]
    return Table(("1 % changed in two partitions", "found"), rows)


def _scan(bench: Bench, job: EnrichJob, path: str, changed: tuple[int, ...]) -> Table:
    """Compare nights without changes with a scan that hashes what a look at every row has to hash.

    A night that wrote all there was to write leaves on record that nothing is to do; after anybody else's commit the
    next night looks at every row.
    """
    frame = bench.spark.read.format("delta").load(path)
    same = (F.sha2(F.concat(F.lit("x"), "message"), 256) == F.col("topic_meta.inputs_after")) & (
        F.sha2(F.concat(F.lit("="), "topic"), 256) == F.col("topic_meta.value_hash")
    )
    for number in range(bench.rounds):
        _change(bench, path, changed)
        _night(bench, job, "a night that writes")
        bench.timed("scan", lambda: frame.agg(F.count_if(same)).collect())
        bench.timed(NIGHTS[0], lambda: run(bench.spark, job, options=RunOptions()))
        bench.spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('round' = '{number}')")
        bench.timed(NIGHTS[1], lambda: run(bench.spark, job, options=RunOptions()))
    rows = []
    for name in NIGHTS:
        nights, scans = bench.clock[name], bench.clock["scan"]
        ratios = [night / scan for night, scan in zip(nights, scans, strict=True)]
        goal = verdict(sorted(ratios)[len(ratios) // 2], most=MOST_SCAN)
        rows.append((name, spread(nights), spread(scans), spread(ratios), goal))
    note = (
        "The scan hashes inputs and value of every row and compares both with the hashes on record. After a night that "
        "wrote all there was to write, and alone, no row is looked at; after anybody else's commit every row is."
    )
    return Table(("night without changes", "seconds", "scan, s", "night ÷ scan", "goal"), rows, note)

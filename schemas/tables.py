"""Columns of the tables burnish keeps for itself and of the struct it writes beside every value, as Spark DDL."""

from typing import Final, Literal

Status = Literal["accepted", "unchanged", "review", "kept", "skipped", "pending", "failed", "undone"]
STATUSES: Final = ("accepted", "unchanged", "review", "kept", "skipped", "pending", "failed", "undone")

META_FIELDS: Final = {
    "status": "string",
    "proposed": "string",
    "question_id": "string",
    "fingerprint": "string",
    "inputs_after": "string",
    "value_hash": "string",
    "raw_score": "double",
    "label_mass": "double",
    "model": "string",
    "prompt_tokens": "int",
    "completion_tokens": "int",
    "answered_run": "string",
    "published_run": "string",
    "answered_at": "timestamp",
    "promise": "string",
    "notes": "array<string>",
}
META_DDL: Final = "struct<" + ",".join(f"{name}:{kind}" for name, kind in META_FIELDS.items()) + ">"

QUESTIONS: Final = {
    "run_id": "string",
    "bucket": "int",
    "task": "string",
    "fingerprint": "string",
    "question_id": "string",
    "inputs": "array<string>",
    "input_bytes": "bigint",
}

# One row per question and attempt. `value` is canonical JSON; `scores` are named (see `schemas.scores`), so that a
# column can choose another one without asking again; `lane` and `lane_version` are the transaction that committed the
# row.
ANSWERS: Final = {
    "question_id": "string",
    "fingerprint": "string",
    "task": "string",
    "status": "string",
    "value": "string",
    "confidence": "double",
    "label_mass": "double",
    "scores": "map<string,double>",
    "error": "string",
    "prompt_tokens": "int",
    "completion_tokens": "int",
    "cached_tokens": "int",
    "model": "string",
    "notes": "array<string>",
    "answered_run": "string",
    "answered_at": "timestamp",
    "lane": "int",
    "lane_version": "bigint",
}

CHANGES: Final = {
    "run_id": "string",
    "target": "string",
    "key": "string",
    "column": "string",
    "old_value": "string",
    "new_value": "string",
    "old_meta": "string",
    "confidence": "double",
    "question_id": "string",
    "changed_at": "timestamp",
}

RUNS: Final = {
    "run_id": "string",
    "job": "string",
    "target": "string",
    "started_at": "timestamp",
    "ended_at": "timestamp",
    "state": "string",
    "complete": "boolean",
    "source_version": "bigint",
    "target_version": "bigint",
    "report": "string",
}

# What a look at every row of a target found when nothing was to do, and all that decides what it finds, as a digest.
QUIET: Final = {
    "target": "string",
    "context": "string",
    "states": "string",
    "noted_at": "timestamp",
}

# A frame is the scored rows of one column in one version of the target: all of them, or those in no older frame that
# came or changed since an earlier version. `candidates` is JSON: [label or null, threshold, rows that score at least so
# much], fixed when the frame is opened, before a label is read; null in a frame that still fills, night by night. Such
# a one has its `seed`, and how many rows are its `sample`; the newest line of a frame counts. After its fingerprint
# stands the column's `score` where that is not the usual one, here and in `calibrations`.
FRAMES: Final = {
    "frame": "string",
    "target": "string",
    "column": "string",
    "fingerprint": "string",
    "version": "bigint",
    "rows": "bigint",
    "candidates": "string",
    "opened_at": "timestamp",
    "since": "bigint",
    "seed": "string",
    "sample": "int",
}

FRAMED: Final = {
    "frame": "string",
    "column": "string",
    "key": "string",
    "question_id": "string",
    "score": "double",
    "label": "string",
    "place": "string",
}

# One row per drawn cell; `place` counts a frame's draws. `value` and `correction` are JSON as in `answers`;
# `inputs_hash` is of the canonical inputs alone, so that what a person said outlives model and prompt.
REVIEW: Final = {
    "frame": "string",
    "target": "string",
    "column": "string",
    "place": "int",
    "key": "string",
    "question_id": "string",
    "inputs_hash": "string",
    "inputs": "array<string>",
    "value": "string",
    "score": "double",
    "verdict": "string",
    "correction": "string",
    "reviewer": "string",
    "reviewed_at": "timestamp",
}

# One row per test of a frame: `labels` is a digest of what was known, `thresholds` JSON pairs of label and threshold.
LOOKS: Final = {
    "frame": "string",
    "column": "string",
    "look": "int",
    "promise": "string",
    "labels": "string",
    "labelled": "int",
    "thresholds": "string",
    "told": "string",
    "looked_at": "timestamp",
}

# What people's verdicts say of a column's scores: `curves` is JSON, [label or null for all, kind, numbers].
CALIBRATIONS: Final = {
    "target": "string",
    "column": "string",
    "fingerprint": "string",
    "curves": "string",
    "rows": "int",
    "told": "string",
    "fitted_at": "timestamp",
}

# An answer with a note that begins so goes to review, however sure the model was.
HOLDING_NOTES: Final = ("guard:", "invalid:", "at_limit:", "not_verbatim")

BUCKETS: Final = 100_000


def ddl(columns: dict[str, str]) -> str:
    """Return a table's columns as one DDL string."""
    return ", ".join(f"`{name}` {kind}" for name, kind in columns.items())

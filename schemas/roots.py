"""Under which folders files may name paths: the operator's word, from the environment, never the file's own."""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from schemas.errors import JobFileError
from schemas.job import TABLE_NAME

VARIABLE: Final = "BURNISH_ROOTS"  # folders and addresses, separated by commas; without it any path will do
PATHS: Final = frozenset({"path", "file", "output", "adapter", "python", "job"})
NAMES_OR_PATHS: Final = frozenset({"store", "from_table", "table"})
ADDRESS: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):(//[^/]*)?(/.*|$)", re.DOTALL)

Where = tuple[str | int, ...]


def outside(path: str, env: Mapping[str, str] = os.environ) -> str:
    """Return what is wrong with a path: a NUL in it, or that it lies under none of the roots, links followed."""
    roots = [root.strip() for root in env.get(VARIABLE, "").split(",") if root.strip()]
    if "\0" in path:
        return f"{path!r} is no path: it holds a NUL"
    scheme, place = _resolved(path)
    under = (_resolved(root) for root in roots)
    if not roots or any(scheme == kind and posixpath.commonpath([place, root]) == root for kind, root in under):
        return ""
    return f"{path} lies outside of the folders that {VARIABLE} allows ({', '.join(roots)})"


def check_path(path: str, env: Mapping[str, str] = os.environ) -> None:
    """Refuse a path that lies under none of the roots.

    Raises:
        JobFileError: naming path and roots.
    """
    if problem := outside(path, env):
        raise JobFileError(problem, hint="name a folder below one of them, or ask who runs burnish here")


def named_paths(model: BaseModel, at: Where = ()) -> Iterator[tuple[Where, str]]:
    """Yield every path that a file names, with the place of its field."""
    for name, field in type(model).model_fields.items():
        yield from _of_value(name, getattr(model, name), (*at, field.alias or name))


def _of_value(name: str, value: Any, at: Where) -> Iterator[tuple[Where, str]]:
    if isinstance(value, BaseModel):
        yield from named_paths(value, at)
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            if isinstance(one, BaseModel):
                yield from named_paths(one, (*at, index))
    elif isinstance(value, str) and (name in PATHS or (name in NAMES_OR_PATHS and TABLE_NAME.match(value) is None)):
        yield at, value


def _resolved(path: str) -> tuple[str, str]:
    """A path's scheme with its authority, and its folder without links, `..` and doubled slashes."""
    found = ADDRESS.match(path)
    scheme, authority, place = found.groups("") if found else ("file", "", path)
    if scheme.lower() == "file":
        return "file", str(Path(place).expanduser().resolve())
    return f"{scheme}:{authority}".lower(), posixpath.normpath(place or "/")

"""Job and mix files: read, checked as a whole, and refused with every problem's line and field path in one message."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from schemas.errors import JobFileError
from schemas.fields import Whole
from schemas.job import EnrichJob
from schemas.problems import explain, path_text
from schemas.roots import named_paths, outside
from schemas.yaml_tree import MAX_BYTES, Place, Problem, Tree, place_of, read_tree

SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

Root = TypeVar("Root", bound=Whole)


def load_job(path: Path, env: Mapping[str, str] = os.environ) -> EnrichJob:
    """Read and check a job file.

    Raises:
        JobFileError: the file cannot be read, or anything in it is wrong; names every problem found.
    """
    return load_file(path, EnrichJob, env)


def parse_job(text: str, *, file: str = "job.yaml", env: Mapping[str, str] = os.environ) -> EnrichJob:
    """Check the text of a job file; `file` is what messages call it.

    Raises:
        JobFileError: anything is wrong; names every problem found.
    """
    return parse_file(text, EnrichJob, file=file, env=env)


def load_file(path: Path, root: type[Root], env: Mapping[str, str] = os.environ) -> Root:
    """Read and check a file that holds one `root`.

    Raises:
        JobFileError: the file cannot be read, or anything in it is wrong; names every problem found.
    """
    try:
        with path.open("rb") as file:
            # One byte more than allowed is enough to know.
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise JobFileError(
                f"{path}: is larger than {MAX_BYTES // 1024} KiB; is it a {root.called}?", hint=root.hint
            )
        text = content.decode("utf-8-sig")
    except OSError as problem:
        raise JobFileError(f"{path}: cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise JobFileError(f"{path}:{line}: is not UTF-8 text", hint="save the file as UTF-8") from problem
    return parse_file(text, root, file=str(path), env=env)


def parse_file(text: str, root: type[Root], *, file: str, env: Mapping[str, str] = os.environ) -> Root:
    """Check the text of a file that holds one `root`; `file` is what messages call it.

    Raises:
        JobFileError: anything is wrong; names every problem found.
    """
    tree = read_tree(text, env)
    if tree.value is None and tree.problems:
        raise _refused(tree.problems, file, root.hint)
    try:
        found = root.model_validate(tree.value)
    except ValidationError as problem:
        problems = _together(tree, explain(problem.errors(include_url=False), tree, root))
        raise _refused(problems, file, root.hint) from None
    problems = tree.problems + [
        Problem(place_of(tree.nodes[path].start_mark) if path in tree.nodes else Place(1, 1), path, complaint)
        for path, named in named_paths(found)
        if (complaint := outside(named, env))
    ]
    if problems:
        raise _refused(problems, file, root.hint)
    return found


def yaml_text(text: str) -> str:
    """Return a text as one line of YAML that `parse_job` reads back as just this text."""
    text = re.sub(r"(\$+)\{", r"$\1{", text)
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(_escaped(letter) for letter in text) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isprintable():
        return letter
    return SHORT_ESCAPES.get(letter) or (f"\\u{ord(letter):04X}" if letter <= "\uffff" else f"\\U{ord(letter):08X}")


def _together(tree: Tree, found: list[Problem]) -> list[Problem]:
    """Add what the model found to what YAML lost, without a word about what a lost value broke around it."""
    lost = [problem.path for problem in tree.problems]
    return tree.problems + [one for one in found if all(path[: len(one.path)] != one.path for path in lost)]


def _refused(problems: list[Problem], file: str, hint: str) -> JobFileError:
    lines = []
    for problem in sorted(problems, key=lambda one: (one.place.line, one.place.column)):
        where = f"{path_text(problem.path)}: " if problem.path else ""
        lines.append(f"{file}:{problem.place.line}:{problem.place.column}: {where}{problem.message}")
    return JobFileError("\n".join(lines), hint=hint)

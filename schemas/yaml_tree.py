"""YAML text to plain values that remember their line and column.

PyYAML composes the nodes; values are built here with the core tags only, so that what YAML 1.1 silently turns
into something else (`yes`, `12:30`, `0777`, a date) is known as it was written.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.constructor import SafeConstructor

from schemas.secrets import remember

MAX_BYTES: Final = 1024 * 1024
MAX_VALUES: Final = 100_000
MAX_DEPTH: Final = 40
TAG = "tag:yaml.org,2002:"
CORE = ("null", "bool", "int", "float", "str")
REFERENCE = re.compile(r"(\$+)\{([^{}]*)(\}?)")
ENVIRONMENT = re.compile(r"^env:([A-Za-z_][A-Za-z0-9_]*)$")
# YAML 1.1 reads 0777 as octal and 12:30 as minutes; nobody who types them into a file here means that.
SURPRISING_NUMBER = re.compile(r"^[-+]?(0[0-7_]+$|.*:)")
# Where a variable's value is taken for a secret; elsewhere it names a table or a label, which results must show.
SECRET_ROOMS: Final = (("model",), ("models",), ("engine",))
SECRET_KEYS: Final = (("instructions",), ("rules",), ("question",))
ENDLESS_NUMBER = re.compile(r"^[-+]?\.(inf|nan)$", re.IGNORECASE)

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A position in the file, both counted from one."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it stands."""

    place: Place
    path: Path
    message: str


@dataclass(slots=True)
class Tree:
    """The values of one file, and by path the nodes and keys that they came from."""

    value: Any = None
    nodes: dict[Path, yaml.Node] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """Composes nodes, but not below a depth where Python's own stack would end."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth >= MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it bare
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_tree(text: str, env: Mapping[str, str]) -> Tree:
    """Return the values of a YAML text with their places; what is wrong stands in `problems`."""
    tree = Tree()
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        tree.problems.append(Problem(Place(1, 1), (), f"the file is larger than {MAX_BYTES // 1024} KiB"))
        return tree
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as problem:
        tree.problems.append(_unreadable(text, problem))
        return tree
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as problem:
        tree.problems.append(_malformed(problem))
    except (ValueError, LookupError, ArithmeticError) as problem:
        # PyYAML lets through what `chr` and `int` raise, for an escape such as "\UFFFFFFFF".
        tree.problems.append(Problem(place_of(loader.get_mark()), (), f"not valid YAML: {problem}"))
    else:
        if root is None:
            tree.problems.append(Problem(Place(1, 1), (), "the file is empty"))
        else:
            try:
                tree.value = _Builder(tree, env).build(root, ())
            except _UnfoldsTooFar:
                message = f"holds more than {MAX_VALUES:,} values once its aliases are written out"
                tree.problems.append(Problem(Place(1, 1), (), message))
    return tree


def place_of(mark: yaml.Mark | None) -> Place:
    """Return a mark's position, counted from one."""
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)


def _unreadable(text: str, problem: yaml.reader.ReaderError) -> Problem:
    before = text[: problem.position]
    place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    return Problem(place, (), f"holds a character that YAML does not allow: U+{ord(text[problem.position]):04X}")


def _malformed(problem: yaml.MarkedYAMLError) -> Problem:
    context = f" {problem.context}" if problem.context else ""
    advice = "; indent with blanks, not tabs" if problem.problem and r"'\t'" in problem.problem else ""
    if problem.problem and "mapping values are not allowed" in problem.problem:
        advice = "; a text that holds `: ` needs quotes"
    place = place_of(problem.problem_mark or problem.context_mark)
    if problem.problem == "but found another document":
        return Problem(place, (), "a second YAML document starts here; the file must be one")
    return Problem(place, (), f"not valid YAML{context}: {problem.problem}{advice}")


class _UnfoldsTooFar(Exception):
    """Aliases multiply, or a node holds itself."""


class _Builder:
    """Builds plain values of one node tree, with aliases written out up to a limit."""

    def __init__(self, tree: Tree, env: Mapping[str, str]) -> None:
        self.tree = tree
        self.env = env
        self.count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        """Return a node's value and note where it stands."""
        self.count += 1
        if self.count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _UnfoldsTooFar
        self.tree.nodes[path] = node
        if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return self._complain(node, path, f"the tag {_short(node.tag)} is not allowed; only plain YAML values are")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            below = (*path, key)
            if key in found:
                first = self.tree.keys[below]
                self._complain(key_node, below, f"the key is given twice; first in line {first.line}")
                continue
            self.tree.keys[below] = place_of(key_node.start_mark)
            found[key] = self.build(value_node, below)
        return found

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._complain(node, path, "a key must be text, not a list or a mapping")
            return None
        if node.tag == TAG + "merge":
            self._complain(node, path, "merge keys (`<<`) are not read here; write the lines out")
            return None
        if node.tag not in (TAG + "str", TAG + "value"):
            self._complain(node, (*path, node.value), turned(node))
            return str(node.value)
        text = self._expand(node, path)
        return text if text is not None else str(node.value)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        kind = node.tag.removeprefix(TAG)
        if kind in ("str", "value", "merge"):
            return self._expand(node, path)
        if kind == "timestamp" or (kind in ("int", "float") and SURPRISING_NUMBER.match(node.value)):
            return self._complain(node, path, turned(node))
        if kind == "float" and ENDLESS_NUMBER.match(node.value):
            return self._complain(node, path, f"`{node.value}` is no number that a setting here could take")
        try:
            return plain(node)
        except (ValueError, LookupError):
            verdict = "does not fit this value" if kind in CORE else "is not allowed; only plain YAML values are"
            return self._complain(node, path, f"the tag {_short(node.tag)} {verdict}")

    def _expand(self, node: yaml.ScalarNode, path: Path) -> str | None:
        """Replace `${env:NAME}`; `$${` stands for `${` itself."""
        if "${" not in node.value:
            return str(node.value)
        missing = []

        def replaced(match: re.Match[str]) -> str:
            dollars, inner, end = match.groups()
            if len(dollars) > 1:
                return match.group()[1:]
            name = ENVIRONMENT.match(inner)
            if not (name and end):
                missing.append(f"`{match.group()[:40]}`: only ${{env:NAME}} is replaced; write $${{ for ${{ itself")
            elif name.group(1) not in self.env:
                missing.append(f"the environment variable {name.group(1)} is not set")
            elif path[-1:] == ("where",):
                missing.append(f"a condition takes no {match.group()}: Spark shows it; write the value, or make a view")
            else:
                return self._taken(name.group(1), path)
            return ""

        text = REFERENCE.sub(replaced, node.value)
        if not missing:
            return text
        self._complain(node, path, "; ".join(missing))
        return None

    def _taken(self, name: str, path: Path) -> str:
        """Return a variable's value, which counts as a secret unless it names a table, a column or a label."""
        if path[:1] in SECRET_ROOMS or path[-1:] in SECRET_KEYS:
            remember(name, self.env[name])
        return self.env[name]

    def _complain(self, node: yaml.Node, path: Path, message: str) -> None:
        self.tree.problems.append(Problem(place_of(node.start_mark), path, message))


def plain(node: yaml.ScalarNode) -> bool | int | float | None:
    """Return what YAML makes of a scalar that is neither text nor a date.

    Raises:
        ValueError, LookupError: an explicit tag that does not fit, or one outside the core.
    """
    make = SafeConstructor()
    kind = node.tag.removeprefix(TAG)
    builders = {"bool": make.construct_yaml_bool, "int": make.construct_yaml_int, "float": make.construct_yaml_float}
    if kind == "null":
        return None
    value: bool | int | float = builders[kind](node)
    return value


def turned(node: yaml.ScalarNode) -> str:
    """Say what YAML made of a value that was meant as text, and how to write it."""
    kind = node.tag.removeprefix(TAG)
    if kind == "null" and node.value == "":
        return "has no value, which YAML reads as null; write a text, or '' for an empty one"
    if kind == "timestamp":
        made = "a date" if len(node.value) <= 10 else "a point in time"
    else:
        names = {"bool": "the boolean", "int": "the number", "float": "the number", "null": ""}
        try:
            made = f"{names.get(kind, kind)} {json.dumps(plain(node))}".strip()
        except (ValueError, LookupError):
            made = f"a value of tag {_short(node.tag)}"
    return f"`{node.value}` without quotes is {made} in YAML; write '{node.value}' if you mean the text"


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(TAG) if tag.startswith(TAG) else tag

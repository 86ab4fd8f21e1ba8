"""Rows of a batch laid side by side in few sequences, so that no padding and no repeated prompt is computed.

Rows that begin alike (one task's instructions and labels) share that beginning: it stands once, and every row goes on
from it as a branch that sees the beginning and itself, at the positions it would have alone. Each row gets the
gradient that it would get by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IGNORED = -100  # what torch's cross entropy leaves out
LEAST_SHARED = 16  # tokens; sharing less saves less than a branch's bookkeeping costs

Array = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Row:
    """One example: its tokens, and 1 where a token is learned."""

    ids: Array
    mask: Array

    @property
    def prompt(self) -> int:
        """How many tokens come before the first that is learned."""
        return int(self.mask.argmax())


@dataclass(frozen=True)
class Tree:
    """Rows with a common beginning of `shared` tokens."""

    rows: tuple[Row, ...]
    shared: int

    @property
    def size(self) -> int:
        """How many tokens it takes."""
        return self.shared + sum(len(row.ids) - self.shared for row in self.rows)


@dataclass(frozen=True)
class Packs:
    """A batch as arrays of packs by tokens; `labels` is `IGNORED` where nothing is learned.

    `tree` and `branch` say what a token sees: those before it in its own tree that are on branch 0, the beginning, or
    on its own branch. Padding is a tree of its own, numbered -1.
    """

    ids: Array
    positions: Array
    labels: Array
    tree: Array
    branch: Array

    @property
    def tokens(self) -> int:
        """How many tokens are computed that are no padding."""
        return int((self.tree >= 0).sum())

    def sees(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Which token sees which: packs by 1 by tokens by tokens."""
        before = np.tri(self.ids.shape[1], dtype=np.bool_)
        same_tree = self.tree[:, :, None] == self.tree[:, None, :]
        on_branch = (self.branch[:, None, :] == 0) | (self.branch[:, :, None] == self.branch[:, None, :])
        sees: np.ndarray[Any, np.dtype[np.bool_]] = (before & same_tree & on_branch)[:, None]
        return sees


def packed(rows: Sequence[Row], longest: int) -> Packs:
    """Lay rows out in sequences of at most `longest` tokens; no row is longer than that."""
    pieces = [piece for tree in trees_of(rows) for piece in _split(tree, longest)]
    packs: list[list[Tree]] = []
    room: list[int] = []
    for piece in sorted(pieces, key=lambda one: -one.size):
        place = next((at for at, left in enumerate(room) if piece.size <= left), None)
        if place is None:
            packs.append([piece])
            room.append(longest - piece.size)
        else:
            packs[place].append(piece)
            room[place] -= piece.size
    return _arrays(packs)


def trees_of(rows: Sequence[Row]) -> Iterator[Tree]:
    """Put rows together where sharing their beginning saves tokens; neighbours in order of tokens begin alike."""
    tree: list[Row] = []
    shared = 0
    for row in sorted(rows, key=lambda one: one.ids.tolist()):
        if tree:
            common = min(shared, _common(tree[0], row))
            # as many tokens are saved as every row but the first leaves out
            if common >= LEAST_SHARED and common * len(tree) >= shared * (len(tree) - 1):
                tree.append(row)
                shared = common
                continue
            yield _tree(tree, shared)
        # the last token of a prompt stays with its row: it says the first that is learned
        tree, shared = [row], max(row.prompt - 1, 0)
    if tree:
        yield _tree(tree, shared)


def _tree(rows: list[Row], shared: int) -> Tree:
    return Tree(tuple(rows), shared if len(rows) > 1 else 0)


def _common(one: Row, other: Row) -> int:
    most = min(one.prompt, other.prompt) - 1
    if most <= 0:
        return 0
    differs = one.ids[:most] != other.ids[:most]
    return int(differs.argmax()) if differs.any() else most


def _split(tree: Tree, longest: int) -> Iterator[Tree]:
    """Cut a tree that is too large into smaller ones, each with the beginning."""
    rows: list[Row] = []
    size = tree.shared
    for row in tree.rows:
        more = len(row.ids) - tree.shared
        if rows and size + more > longest:
            yield _tree(rows, tree.shared)
            rows, size = [], tree.shared
        rows.append(row)
        size += more
    yield _tree(rows, tree.shared)


def _arrays(packs: list[list[Tree]]) -> Packs:
    width = max(sum(tree.size for tree in pack) for pack in packs)
    shape = (len(packs), width)
    ids, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    tree_of, branch_of = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for at, pack in enumerate(packs):
        place = 0
        for number, tree in enumerate(pack):
            for branch, start, row in _branches(tree):
                part = row.ids[start : tree.shared] if branch == 0 else row.ids[start:]
                span = slice(place, place + len(part))
                ids[at, span] = part
                positions[at, span] = np.arange(start, start + len(part))
                tree_of[at, span], branch_of[at, span] = number, branch
                if branch:
                    labels[at, span] = np.where(row.mask[start:] == 1, part, IGNORED)
                place += len(part)
    return Packs(ids, positions, labels, tree_of, branch_of)


def _branches(tree: Tree) -> Iterator[tuple[int, int, Row]]:
    """The parts of a tree in order: branch, the place in the row where it starts, the row; 0 is the beginning."""
    if tree.shared:
        yield 0, 0, tree.rows[0]
    for branch, row in enumerate(tree.rows, 1):
        yield branch, tree.shared, row

"""The replica's logits processor: a closed read decodes along the trie of its labels.

It runs inside vLLM's processes, alone: nothing here may import another module of this project.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

# log(1 / mass) is parked on the garbage token this far below zero, so that the token neither is chosen nor takes a
# share that single precision could show.
PARKED_AT = -100.0
LARGEST_GAP = 80.0
BEAT_SEC = 1.0


class Node:
    """One place in the trie: the tokens that may follow, what each leads to, and the prior of each."""

    def __init__(self) -> None:
        """Start without children."""
        self.next: dict[int, Node] = {}
        self.shares: dict[int, float] = {}
        self.tokens: np.ndarray[Any, np.dtype[np.int64]] = np.zeros(0, dtype=np.int64)
        self.prior: np.ndarray[Any, np.dtype[np.float32]] = np.zeros(0, dtype=np.float32)
        self.label_ends = False
        self.is_over = False

    def follow(self, token: int, share: float) -> "Node":
        """The child for `token`, made when new."""
        self.shares[token] = share
        return self.next.setdefault(token, Node())

    def seal(self, eos: int, over: "Node", *, reads_end: bool = False) -> None:
        """Fix the arrays of this node and all below; the end of text is a child where a label ends."""
        children = list(self.next.values())
        if self.label_ends:
            self.is_over = not children and not reads_end
            self.next[eos] = over
            self.shares.setdefault(eos, 0.0)
        self.tokens = np.fromiter(self.next, dtype=np.int64)
        self.prior = np.array([self.shares[token] for token in self.next], dtype=np.float32)
        for child in children:
            child.seal(eos, over, reads_end=reads_end)


@dataclass(frozen=True)
class Trie:
    """A closed set as the processor walks it; `over` allows nothing but the end of text."""

    root: Node
    over: Node
    garbage: int


@lru_cache(maxsize=512)
def load_trie(name: str) -> Trie:
    """Read the set of this name from the folder that the replica's environment names.

    Raises:
        ValueError: the name is no sha256, there is no such set, or its file is damaged.
    """
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise ValueError("burnish_choices must be a sha256 in hex")
    path = Path(os.environ.get("BURNISH_CHOICES_DIR", "")) / f"{name}.json"
    try:
        content = json.loads(path.read_text())
        eos, priors = int(content["eos"]), content["prior"] or [[]] * len(content["paths"])
        root, over = Node(), Node()
        for tokens, prior in zip(content["paths"], priors, strict=True):
            _add(root, tokens, prior, eos=eos)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as problem:
        raise ValueError(f"burnish_choices names no readable set: {type(problem).__name__}") from problem
    over.label_ends = True
    over.seal(eos, over)
    root.seal(eos, over, reads_end=bool(content.get("reads_end")))
    return Trie(root, over, int(content["garbage"]))


def _add(root: Node, tokens: list[int], prior: list[float], *, eos: int) -> None:
    node = root
    shares = dict(enumerate(prior))
    for place, token in enumerate(tokens):
        node = node.follow(int(token), shares.get(place, 0.0))
    node.label_ends = True
    node.shares[eos] = shares.get(len(tokens), 0.0)


class Walk:
    """One request's place in its trie; `output` is the engine's own growing list."""

    def __init__(self, trie: Trie, output: list[int]) -> None:
        """Start at the root, whatever was decoded already (a request may come back after a preemption)."""
        self.trie = trie
        self.output = output
        self.node = trie.root
        self.seen = 0

    def advance(self) -> Node:
        """Follow the tokens decoded since the last call; a -1 stands for one that is still on its way."""
        while self.seen < len(self.output) and self.output[self.seen] >= 0:
            self.node = self.node.next.get(self.output[self.seen], self.trie.over)
            self.seen += 1
        return self.node


class ClosedSetProcessor(LogitsProcessor):  # type: ignore[misc] # vLLM's types are not followed
    """Masks all but the trie node's children in the rows whose request names a closed set; others pass untouched."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse an unknown set at the door, and spare requests that ask for ids the making of text.

        Raises:
            ValueError: the set is unknown, or a grammar is asked for as well.
        """
        extra = sampling_params.extra_args or {}
        if extra.get("burnish_ids"):
            sampling_params.detokenize = False
        name = extra.get("burnish_choices")
        if name is None:
            return
        if sampling_params.structured_outputs is not None:
            raise ValueError("burnish_choices and structured_outputs exclude each other")
        load_trie(str(name))

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        """Start with an empty batch."""
        self.device = device
        self.walks: dict[int, Walk] = {}
        self.beat = Path(os.environ.get("BURNISH_CHOICES_DIR", "")) / "beat"
        self.beaten = -BEAT_SEC

    def is_argmax_invariant(self) -> bool:
        """The mask decides what the greedy choice is."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the engine's batch, at every step of it: rows removed, added, then moved or swapped."""
        self._show_life()
        if batch_update is None:
            return
        for row in batch_update.removed:
            self.walks.pop(row, None)
        for row, params, _, output in batch_update.added:
            name = (params.extra_args or {}).get("burnish_choices")
            self.walks.pop(row, None)
            if name is not None:
                self.walks[row] = Walk(load_trie(str(name)), output)
        for source, target, direction in batch_update.moved:
            moved, displaced = self.walks.pop(source, None), self.walks.pop(target, None)
            if moved is not None:
                self.walks[target] = moved
            if displaced is not None and direction == MoveDirectionality.SWAP:
                self.walks[source] = displaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask the closed rows; log-probabilities over what is left are log p(token | children of the node)."""
        if not self.walks:
            return logits
        rows = list(self.walks)
        nodes = [walk.advance() for walk in self.walks.values()]
        tokens = self._padded([node.tokens for node in nodes], -1)
        prior = self._padded([node.prior for node in nodes], 0.0)
        garbage = self._on_device(np.array([[walk.trie.garbage] for walk in self.walks.values()], dtype=np.int64))
        at_end = self._on_device(np.array([[node.is_over] for node in nodes]))
        places = self._on_device(np.array(rows, dtype=np.int64))

        present = tokens >= 0
        picked = logits.index_select(0, places)
        raw = picked.gather(1, tokens.clamp_min(0)).masked_fill(~present, -torch.inf)
        shown = raw - prior
        gap = torch.logsumexp(picked, 1, keepdim=True) - torch.logsumexp(raw, 1, keepdim=True)
        # The end after a whole label is no reading of the model, unless the set wants it: its mass must not enter the
        # label's.
        gap = torch.nan_to_num(gap.masked_fill(at_end, 0.0), nan=LARGEST_GAP).clamp(0.0, LARGEST_GAP)
        parked = torch.logsumexp(shown, 1, keepdim=True) + gap + PARKED_AT

        logits.index_fill_(0, places, -torch.inf)
        # Padding writes to the garbage column, which is set last.
        columns = torch.where(present, tokens, garbage)
        logits[places.unsqueeze(1), columns] = shown
        logits[places.unsqueeze(1), garbage] = parked
        return logits

    def _show_life(self) -> None:
        """Leave a mark that tasks tell a slow engine from a stuck one by."""
        now = time.monotonic()
        if now - self.beaten >= BEAT_SEC:
            self.beaten = now
            # The folder goes when the replica ends.
            with suppress(OSError):
                self.beat.touch()

    def _padded(self, lines: "list[np.ndarray[Any, Any]]", filler: float) -> torch.Tensor:
        table = np.full((len(lines), max(map(len, lines))), filler, dtype=lines[0].dtype)
        for place, line in enumerate(lines):
            table[place, : len(line)] = line
        return self._on_device(table)

    def _on_device(self, table: "np.ndarray[Any, Any]") -> torch.Tensor:
        return torch.from_numpy(table).to(self.device, non_blocking=True)

"""Rows side by side learn what each would learn alone: nothing leaks, nothing repeats, nothing is lost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from udfs.packs import IGNORED, LEAST_SHARED, Packs, Row, packed, trees_of

WORDS = 50


def row(prompt: list[int], answer: list[int]) -> Row:
    mask = [0] * len(prompt) + [1] * len(answer)
    return Row(np.array(prompt + answer, dtype=np.int64), np.array(mask, dtype=np.int64))


def rows_of(heads: int, seed: int, count: int) -> list[Row]:
    """Rows that begin with one of a few heads."""
    draw = np.random.default_rng(seed)
    known = [draw.integers(1, WORDS, draw.integers(5, 40)).tolist() for _ in range(heads)]
    return [
        row(
            known[draw.integers(heads)] + draw.integers(1, WORDS, draw.integers(1, 12)).tolist(),
            draw.integers(1, WORDS, draw.integers(1, 5)).tolist(),
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def alone(model: LlamaForCausalLM, one: Row) -> list[float]:
    """Log-probabilities of the learned tokens of a row by itself."""
    with torch.no_grad():
        said = model(torch.from_numpy(one.ids)[None]).logits[0].log_softmax(-1)
    return [said[at - 1, one.ids[at]].item() for at in range(1, len(one.ids)) if one.mask[at]]


def together(model: LlamaForCausalLM, found: Packs) -> list[float]:
    with torch.no_grad():
        said = model(
            input_ids=torch.from_numpy(found.ids),
            position_ids=torch.from_numpy(found.positions),
            attention_mask=torch.from_numpy(found.sees()),
        ).logits.log_softmax(-1)
    places = zip(*np.nonzero(found.labels != IGNORED), strict=True)
    return [said[pack, at - 1, found.labels[pack, at]].item() for pack, at in places]


@pytest.mark.parametrize("heads", [1, 3, 12])
def test_a_packed_row_reads_as_it_does_alone(model: LlamaForCausalLM, heads: int) -> None:
    rows = rows_of(heads, seed=heads, count=12)
    found = packed(rows, longest=120)
    expected = sorted(value for one in rows for value in alone(model, one))
    assert sorted(together(model, found)) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 20), st.integers(60, 200))
def test_every_learned_token_is_learned_once(seed: int, heads: int, count: int, longest: int) -> None:
    rows = rows_of(heads, seed=seed, count=count)
    found = packed(rows, longest)
    assert found.ids.shape[1] <= longest
    learned = sorted(int(token) for one in rows for token in one.ids[one.mask == 1])
    assert sorted(found.labels[found.labels != IGNORED].tolist()) == learned
    assert found.tokens <= sum(len(one.ids) for one in rows)


def test_what_rows_begin_with_alike_stands_once() -> None:
    head = list(range(1, 31))
    rows = [row([*head, 40 + at], [45]) for at in range(8)]
    (tree,) = trees_of(rows)
    assert (tree.shared, tree.size) == (30, 30 + 8 * 2)
    assert packed(rows, 200).tokens == 46


def test_short_beginnings_are_not_shared() -> None:
    head = list(range(1, LEAST_SHARED))
    rows = [row([*head, 40 + at, 41], [45]) for at in range(4)]
    assert [tree.shared for tree in trees_of(rows)] == [0, 0, 0, 0]


def test_equal_prompts_keep_their_last_token_apart() -> None:
    rows = [row(list(range(1, 25)), [answer]) for answer in (30, 31)]
    (tree,) = trees_of(rows)
    assert tree.shared == 23


def test_a_tree_that_is_too_large_is_cut_between_rows() -> None:
    head = list(range(1, 41))
    rows = [row([*head, 42 + at % 5], [44, 45]) for at in range(20)]
    found = packed(rows, 64)
    assert found.ids.shape[0] > 1
    assert int((found.labels != IGNORED).sum()) == 40


def test_padding_sees_padding_alone() -> None:
    found = packed([row([1] * 30, [2]), row([3] * 5, [4])], 32)
    sees = found.sees()[:, 0]
    assert sees.any(-1).all()
    assert (found.tree < 0).any()
    for pack in range(len(found.ids)):
        padding, real = found.tree[pack] < 0, found.tree[pack] >= 0
        assert not sees[pack][np.ix_(real, padding)].any()

"""The processor over logits made by hand: no engine runs, but vLLM must be there to be imported."""

from pathlib import Path
from typing import Any

import pytest

from udfs.closed_set import ClosedSet

torch = pytest.importorskip("torch")
logits = pytest.importorskip("udfs.logits", exc_type=ImportError)

GARBAGE, EOS, CARD, LOST = 0, 1, 2, 3


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BURNISH_CHOICES_DIR", str(tmp_path))
    return logits.ClosedSetProcessor(None, torch.device("cpu"), False)


def mass_after(processor: Any, closed: ClosedSet, output: list[int]) -> float:
    """The mass reported for the step after `output`, when every one of eight tokens is as likely."""
    closed.write(processor.beat.parent)
    processor.walks = {0: logits.Walk(logits.load_trie(closed.name), output)}
    logprobs = torch.log_softmax(processor.apply(torch.zeros(1, 8)), -1)
    return float(torch.exp(logits.PARKED_AT - logprobs[0, GARBAGE]))


def test_the_end_of_a_label_is_read_only_where_the_set_wants_it(processor: Any) -> None:
    both = ClosedSet(("card", "card lost"), ((CARD,), (CARD, LOST)), GARBAGE, EOS)
    alone = ClosedSet(("card",), ((CARD,),), GARBAGE, EOS)
    forced = ClosedSet(("card",), ((CARD,),), GARBAGE, EOS, reads_end=True)
    assert mass_after(processor, both, [CARD]) == pytest.approx(2 / 8, abs=1e-4)
    assert mass_after(processor, alone, [CARD]) == pytest.approx(1, abs=1e-4)
    assert mass_after(processor, forced, [CARD]) == pytest.approx(1 / 8, abs=1e-4)
    assert mass_after(processor, forced, []) == pytest.approx(1 / 8, abs=1e-4)


def test_a_set_written_without_the_flag_is_read(processor: Any) -> None:
    name = "0" * 64
    (processor.beat.parent / f"{name}.json").write_text('{"paths": [[2]], "garbage": 0, "eos": 1, "prior": null}')
    assert logits.load_trie(name).root.next[CARD].is_over


def test_every_step_leaves_a_mark(processor: Any) -> None:
    processor.update_state(None)
    assert processor.beat.exists()

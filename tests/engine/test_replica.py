"""One engine through its whole life: right figures, bad rows, deaths, strays and the end of its owner."""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from schemas.errors import EnvironmentProblem
from schemas.job import ModelRef
from udfs.client import Client
from udfs.closed_set import ClosedSet
from udfs.engine_command import ReplicaSpec
from udfs.models import stage
from udfs.processes import identity, working_below
from udfs.replica import Replica, hold
from udfs.standing import BEAT, stop_all, sweep_orphans
from udfs.wire import Read, Reply

BANKING = Path(os.environ.get("BURNISH_DATA", "../shared/data")) / "labeling/banking77/test.csv"
INTRODUCTION = "Sort the messages of a bank's customers by topic, in a few words of the bank's own help pages.\n"
EOS = 2
GARBAGE = 0


@pytest.fixture(scope="module")
def spec() -> ReplicaSpec:
    folder = os.environ.get("BURNISH_TEST_MODEL_DIR") or str(stage(ModelRef(name="smollm2")).folder)
    return ReplicaSpec(
        app_id=f"test-replica-{os.getpid()}",
        model_dir=folder,
        model_digest="test",
        engine_args=(("enforce-eager", ""),),
        python=sys.executable,
        max_num_seqs=32,
        max_model_len=1024,
    )


@pytest.fixture(scope="module")
def owner() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "3600"]) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def replica(spec: ReplicaSpec, owner: "subprocess.Popen[bytes]") -> Iterator[Replica]:
    with hold(spec, owner_pid=owner.pid) as held:
        yield held
    stop_all(spec.app_id)


@pytest.fixture(scope="module")
def tokenizer(spec: ReplicaSpec) -> Tokenizer:
    return Tokenizer.from_file(f"{spec.model_dir}/tokenizer.json")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    if not BANKING.exists():
        pytest.skip(f"no data in {BANKING}")
    with BANKING.open() as file:
        return list(csv.DictReader(file))


def encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def label_set(tokenizer: Tokenizer, labels: list[str]) -> ClosedSet:
    return ClosedSet.build(labels, lambda label: encode(tokenizer, f" {label}"), garbage=GARBAGE, eos=EOS)


def closed_reads(made: ClosedSet, prompts: list[tuple[int, ...]]) -> list[Read]:
    return [Read(prompt, made.max_tokens, choices=made.name, stop_token_ids=made.stop_token_ids) for prompt in prompts]


def ask(replica: Replica, reads: list[Read], *, window: int = 64, timeout_sec: float = 120.0) -> list[Reply]:
    client = Client(replica, window=window, timeout_sec=timeout_sec)
    got = {place: replies[0] for place, replies in client.run((place, [read]) for place, read in enumerate(reads))}
    return [got[place] for place in range(len(reads))]


def engine_pids(replica: Replica) -> list[int]:
    return sorted(one.pid for one, _ in working_below(replica.folder / "ipc"))


def test_a_closed_read_gives_the_models_own_probabilities_among_siblings(replica, spec, tokenizer, rows):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    made = label_set(tokenizer, sorted({row["category"].replace("_", " ") for row in rows}))
    made.write(replica.choices_dir)
    texts = [row["text"] for row in rows[:: len(rows) // 20][:20]]
    prompts = [encode(tokenizer, f"{INTRODUCTION}Message: {text}\nTopic:") for text in texts]
    replies = ask(replica, closed_reads(made, prompts))
    model = transformers.AutoModelForCausalLM.from_pretrained(spec.model_dir, dtype=torch.float32)
    for prompt, reply in zip(prompts, replies, strict=True):
        assert made.label_of(reply.token_ids) in made.labels
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *reply.token_ids]])).logits[0, len(prompt) - 1 : -1].double()
        for step, token in enumerate(reply.token_ids):
            begun = reply.token_ids[:step]
            children = {path[step] for path in made.paths if path[:step] == begun and len(path) > step}
            over = not children
            children |= {EOS} if begun in made.paths else set()
            spoken = torch.log_softmax(logits[step], -1)
            among = torch.logsumexp(spoken[sorted(children)], 0).item()
            assert reply.logprobs[step] == pytest.approx(spoken[token].item() - among, abs=1e-3)
            assert reply.masses[step] == pytest.approx(1.0 if over else math.exp(among), abs=1e-3)
            assert token == max(children, key=lambda child: spoken[child].item())


def test_one_label_alone_reads_its_probability_given_the_prompt(replica, tokenizer):
    prompt = encode(tokenizer, "The capital of France is")
    masses = {}
    for city in ("Paris", "Rome"):
        made = label_set(tokenizer, [city])
        made.write(replica.choices_dir)
        (reply,) = ask(replica, closed_reads(made, [prompt]))
        assert reply.logprobs == (0.0,) * len(reply.token_ids)
        masses[city] = math.prod(reply.masses)
    assert 1 > masses["Paris"] > 10 * masses["Rome"] > 0


def test_a_prior_moves_the_choice(replica, tokenizer):
    prompt = encode(tokenizer, "The capital of France is")
    cities = ["Paris", "Rome"]
    paths = [encode(tokenizer, f" {city}") for city in cities]
    against = [[0.0] * len(path) for path in paths]
    against[0][0] = 50.0
    made = ClosedSet.build(cities, lambda city: encode(tokenizer, f" {city}"), garbage=GARBAGE, eos=EOS, prior=against)
    made.write(replica.choices_dir)
    (reply,) = ask(replica, closed_reads(made, [prompt]))
    assert made.label_of(reply.token_ids) == "Rome"
    assert sum(reply.logprobs) > -1e-3


def test_free_and_schema_reads_in_the_same_batch_are_untouched(replica, tokenizer):
    prompts = [encode(tokenizer, f"{number} and {number} make") for number in range(8)]
    free = [Read(prompt, 12, stop_token_ids=(EOS,)) for prompt in prompts]
    schema = '{"type":"object","properties":{"a":{"enum":["x","y"]}},"required":["a"],"additionalProperties":false}'
    grammar = [Read(prompt, 24, schema=schema) for prompt in prompts[:2]]
    made = label_set(tokenizer, ["one", "two hundred", "two thousand"])
    made.write(replica.choices_dir)
    alone = ask(replica, free)
    mixed = ask(replica, [*free, *grammar, *closed_reads(made, prompts)])
    for one, other in zip(alone, mixed[:8], strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    for reply in mixed[8:10]:
        assert tokenizer.decode(list(reply.token_ids), skip_special_tokens=True) in ('{"a":"x"}', '{"a":"y"}')
    assert all(made.label_of(reply.token_ids) for reply in mixed[10:])


def test_every_step_leaves_the_mark_that_tells_slow_from_stuck(replica, tokenizer):
    before = time.time()
    time.sleep(1.5)
    ask(replica, [Read(encode(tokenizer, "Hello"), 4)])
    assert (replica.choices_dir / BEAT).stat().st_mtime > before


def test_what_the_engine_refuses_is_said_of_that_row_only(replica, tokenizer):
    good = encode(tokenizer, "Hello")
    reads = [Read(prompt, 4) for prompt in (good, good * 2000, (10_000_000,), good)]
    assert [reply.error for reply in ask(replica, reads)] == ["", "over_long", "refused_request", ""]


def test_a_second_task_joins_the_same_engine(replica, spec, owner):
    before = engine_pids(replica)
    with hold(spec, owner_pid=owner.pid) as other:
        assert other.folder == replica.folder
        assert engine_pids(other) == before
        assert other.generation == 1
    assert replica.folder.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(replica.socket)) < 108


def test_another_configuration_never_shares_it(replica, spec, owner):
    with (
        pytest.raises(EnvironmentProblem, match=r"config\.json is missing"),
        hold(replace(spec, model_dir="/nowhere"), owner_pid=owner.pid),
    ):
        pass


def test_an_engine_that_is_killed_is_replaced_and_no_row_is_lost(replica, tokenizer):
    reads = [Read(encode(tokenizer, f"{number} and"), 40) for number in range(48)]
    work = ((place, [read]) for place, read in enumerate(reads))
    answered = Client(replica, window=24, post_size=8, timeout_sec=120.0).run(work)
    got = [next(answered)]
    os.kill(engine_pids(replica)[-1], signal.SIGKILL)
    got += list(answered)
    assert sorted(place for place, _ in got) == list(range(48))
    assert not any(replies[0].error for _, replies in got)
    assert replica.generation == 2


def test_strays_of_a_killed_watchdog_are_swept_before_the_next_start(replica, spec, owner, tokenizer):
    (watchdog,) = (one for one, place in working_below(replica.folder) if place == replica.folder)
    strays = engine_pids(replica)
    killed = [watchdog, identity(strays[0])]
    for one in killed:
        os.kill(one.pid, signal.SIGKILL)
    # a task that comes before they are gone would join them, and find them dead when it asks
    while any(one.is_alive() for one in killed):
        time.sleep(0.01)
    with hold(spec, owner_pid=owner.pid) as again:
        assert not set(engine_pids(again)) & set(strays)
        (reply,) = ask(again, [Read(encode(tokenizer, "Hello"), 2)])
        assert not reply.error


def test_the_engine_ends_with_its_owner(replica, owner):
    assert engine_pids(replica)
    assert sweep_orphans() == []
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 30
    while (engine_pids(replica) or replica.folder.exists()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert engine_pids(replica) == []
    assert not replica.folder.exists()


def test_a_context_longer_than_the_models_is_one_sentence(spec):
    too_long = replace(spec, app_id=f"{spec.app_id}-long", max_model_len=1_000_000)
    with (
        pytest.raises(EnvironmentProblem, match=r"context of 1000000 tokens is longer than the model's 8192") as told,
        hold(too_long),
    ):
        pass
    assert "engine.log" in str(told.value)
    assert told.value.hint

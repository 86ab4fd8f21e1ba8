import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.scripted_replica import EngineDied, ScriptedReplica, whole_response
from udfs.client import BEAT, Client
from udfs.closed_set import ClosedSet
from udfs.sharing import quiet
from udfs.wire import Read, Reply

POISON = 666


def reads(numbers: range, **settings: object) -> Iterator[tuple[int, list[Read]]]:
    for number in numbers:
        yield number, [Read((number, 1, 1), max_tokens=4, **settings)]  # type: ignore[arg-type]


def answers(replica: ScriptedReplica, work: Iterator[tuple[int, list[Read]]], **settings: object) -> dict[int, Reply]:
    client = Client(replica, **({"window": 16, "post_size": 4, "timeout_sec": 5.0} | settings))  # type: ignore[arg-type]
    return {number: replies[0] for number, replies in client.run(work)}


def holds(body: dict[str, object], token: int) -> bool:
    return any(token in prompt for prompt in body["prompt"])  # type: ignore[attr-defined]


def test_every_read_gets_its_own_answer_once(tmp_path: Path):
    replica = ScriptedReplica(tmp_path)
    got = answers(replica, reads(range(100)))
    assert {number: reply.token_ids for number, reply in got.items()} == {n: (n + 1,) for n in range(100)}
    assert sorted(prompt[0] for prompt in replica.prompts()) == list(range(100))
    assert max(len(body["prompt"]) for body in replica.posts) == 4  # type: ignore[arg-type]
    assert len(replica.posts) == 25


def test_the_work_is_pulled_only_as_the_window_moves(tmp_path: Path):
    replica = ScriptedReplica(tmp_path)
    pulled = count()

    def endless() -> Iterator[tuple[int, list[Read]]]:
        for number in pulled:
            yield number, [Read((number,), max_tokens=1)]

    stream = Client(replica, window=16, post_size=4).run(endless())
    for _ in range(10):
        next(stream)
    stream.close()
    assert next(pulled) < 60


def test_reads_that_differ_in_more_than_the_prompt_never_share_a_post(tmp_path: Path):
    replica = ScriptedReplica(tmp_path)
    made = ClosedSet.build(["a", "b"], lambda label: [ord(label)], garbage=0, eos=2)
    made.write(replica.choices_dir)
    kinds = [{"choices": made.name}, {"schema": '{"type": "object"}'}, {}]
    work = ((n, [Read((n,), 1, **kinds[n % 3])]) for n in range(30))  # type: ignore[arg-type]
    got = answers(replica, work)
    assert len(got) == 30
    for body in replica.posts:
        assert len({prompt[0] % 3 for prompt in body["prompt"]}) == 1  # type: ignore[attr-defined]
    constraints = Counter(
        ("vllm_xargs" in body and "burnish_choices" in body["vllm_xargs"], "structured_outputs" in body)  # type: ignore[operator]
        for body in replica.posts
    )
    assert set(constraints) == {(True, False), (False, True), (False, False)}


def test_a_closed_read_reports_the_mass_of_the_allowed_tokens(tmp_path: Path):
    replica = ScriptedReplica(tmp_path)
    made = ClosedSet.build(["a"], lambda label: [ord(label)], garbage=0, eos=2)
    made.write(replica.choices_dir)
    reply = answers(replica, reads(range(1), choices=made.name))[0]
    assert reply.masses == (pytest.approx(0.7788, abs=1e-4),)
    assert (reply.logprobs, reply.finish, reply.prompt_tokens, reply.cached_tokens) == ((-0.5,), "stop", 3, 1)


def test_an_item_of_several_reads_comes_back_whole_and_in_order(tmp_path: Path):
    work = [("many", [Read((n,), 1) for n in range(7)]), ("none", [])]
    got = dict(Client(ScriptedReplica(tmp_path), window=4, post_size=2).run(work))
    assert [reply.token_ids for reply in got["many"]] == [(n + 1,) for n in range(7)]
    assert got["none"] == []


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"Token id is out of vocabulary", "refused_request"), (b"This model's maximum context length is 9", "over_long")],
)
def test_a_refused_row_costs_its_neighbours_nothing(tmp_path: Path, message: bytes, code: str):
    replica = ScriptedReplica(tmp_path, on_post=lambda body: (400, message) if holds(body, 13) else None)
    got = answers(replica, reads(range(20)))
    assert {number: reply.error for number, reply in got.items() if reply.error} == {13: code}
    assert replica.restarts == 0


def test_a_garbled_response_is_asked_for_again_and_then_given_up(tmp_path: Path):
    seen = Counter[int]()

    def garble(body: dict[str, object]) -> tuple[int, bytes] | None:
        seen.update(prompt[0] for prompt in body["prompt"])  # type: ignore[attr-defined]
        if holds(body, 5) or (holds(body, 6) and seen[6] < 2):
            return 200, b'{"choices": [{"lo'
        return None

    got = answers(ScriptedReplica(tmp_path, on_post=garble), reads(range(8)))
    assert {number: reply.error for number, reply in got.items() if reply.error} == {5: "engine_unavailable"}


def test_a_row_that_kills_the_engine_is_found_and_the_others_are_answered(tmp_path: Path):
    def killed_by_poison(body: dict[str, object]) -> None:
        if holds(body, POISON):
            raise EngineDied

    replica = ScriptedReplica(tmp_path, on_post=killed_by_poison)
    work = ((n, [Read((POISON if n == 17 else n,), 1)]) for n in range(40))
    got = answers(replica, work)
    assert {number: reply.error for number, reply in got.items() if reply.error} == {17: "engine_fatal"}
    assert len(got) == 40
    assert replica.restarts == 2


def test_a_death_without_a_culprit_loses_no_row(tmp_path: Path):
    deaths = iter([EngineDied()])

    def die_once(body: dict[str, object]) -> None:
        if len(replica.posts) > 3 and (death := next(deaths, None)):
            raise death

    replica = ScriptedReplica(tmp_path, on_post=die_once)
    got = answers(replica, reads(range(60)))
    assert len(got) == 60
    assert not any(reply.error for reply in got.values())
    assert replica.restarts == 1


def test_a_request_that_fails_in_a_healthy_engine_restarts_nothing(tmp_path: Path):
    replica = ScriptedReplica(tmp_path, on_post=lambda body: (500, b"") if holds(body, 3) else None)
    got = answers(replica, reads(range(10)))
    assert {number: reply.error for number, reply in got.items() if reply.error} == {3: "engine_unavailable"}
    assert replica.restarts == 0


def test_a_row_that_hangs_alone_in_a_live_engine_times_out(tmp_path: Path):
    release = threading.Event()

    def hang(body: dict[str, object]) -> None:
        if holds(body, 7):
            release.wait(20)

    replica = ScriptedReplica(tmp_path, on_post=hang)
    got = answers(replica, reads(range(8)), timeout_sec=0.5)
    release.set()
    assert {number: reply.error for number, reply in got.items() if reply.error} == {7: "timeout"}


def test_an_engine_that_still_takes_steps_is_slow_and_not_stuck(tmp_path: Path):
    def decode_slowly(body: dict[str, object]) -> None:
        for _ in range(15):
            (replica.choices_dir / BEAT).touch()
            time.sleep(0.1)

    replica = ScriptedReplica(tmp_path, on_post=decode_slowly)
    got = answers(replica, reads(range(8)), timeout_sec=0.4)
    assert not any(reply.error for reply in got.values())
    assert (replica.restarts, len(replica.posts)) == (0, 2)


def test_an_engine_that_another_task_restarted_can_get_stuck_too(tmp_path: Path):
    release = threading.Event()

    def get_stuck(body: dict[str, object]) -> None:
        if replica.generation == 2 and holds(body, 20):
            release.wait(20)

    def work() -> Iterator[tuple[int, list[Read]]]:
        yield from reads(range(20))
        replica.generation = 2  # another task's restart
        yield from reads(range(20, 40))

    replica = ScriptedReplica(tmp_path, on_post=get_stuck)
    got = answers(replica, work(), timeout_sec=0.5)
    release.set()
    assert len(got) == 40
    assert not any(reply.error for reply in got.values())
    assert replica.restarts == 1


def test_a_second_row_in_a_row_that_hangs_alone_restarts_the_engine(tmp_path: Path):
    release = threading.Event()

    def get_stuck(body: dict[str, object]) -> None:
        if replica.generation < 3:
            release.wait(20)

    replica = ScriptedReplica(tmp_path, on_post=get_stuck)
    got = answers(replica, reads(range(8)), timeout_sec=0.4)
    release.set()
    assert sorted(reply.error for reply in got.values()) == [""] * 6 + ["timeout"] * 2
    assert replica.restarts == 2
    assert replica.progress == {3}


def test_while_one_task_has_the_engine_to_itself_others_wait(tmp_path: Path):
    replica = ScriptedReplica(tmp_path)
    got: dict[int, Reply] = {}
    other = threading.Thread(target=lambda: got.update(answers(replica, reads(range(8)), timeout_sec=0.2)))
    with quiet(replica.folder):
        other.start()
        time.sleep(0.8)
        assert not replica.posts
    other.join(10)
    assert len(got) == 8
    assert replica.restarts == 0


def aborted(body: dict[str, object]) -> tuple[int, bytes]:
    """What vLLM says of requests that it had in hand when it was told to end."""
    return 200, whole_response(body).replace(b'"stop"', b'"abort"')


def test_what_an_ending_engine_breaks_off_is_asked_again(tmp_path: Path):
    broken = iter(range(3))
    replica = ScriptedReplica(tmp_path, on_post=lambda body: aborted(body) if next(broken, None) is not None else None)
    got = answers(replica, reads(range(20)))
    assert {number: (reply.token_ids, reply.finish, reply.error) for number, reply in got.items()} == {
        number: ((number + 1,), "stop", "") for number in range(20)
    }


def test_lines_are_cut_before_the_engine_is_ended(tmp_path: Path):
    ending = threading.Event()

    class Ending(ScriptedReplica):
        def recover(self, seen_generation: int) -> int:
            ending.set()
            time.sleep(0.3)
            return super().recover(seen_generation)

    def flush_at_the_end(body: dict[str, object]) -> tuple[int, bytes] | None:
        if replica.generation > 1:
            return None
        if holds(body, 0):
            time.sleep(0.3)
            raise EngineDied
        ending.wait(10)
        return 200, whole_response(body).replace(b'"stop"', b'"length"')

    replica = Ending(tmp_path, on_post=flush_at_the_end)
    got = answers(replica, reads(range(16)))
    assert {reply.finish for reply in got.values()} == {"stop"}

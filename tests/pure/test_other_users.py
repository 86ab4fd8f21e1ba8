"""A second user on the machine, a real one: what they can do to a replica that is not theirs."""

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.errors import EnvironmentProblem
from tests.scripted_engine import install
from udfs import standing
from udfs.engine_command import ReplicaSpec
from udfs.replica import Replica, hold
from udfs.watchdog import read_json

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; CI's container is root")

Act = Callable[[], object]


def as_user(user: int, acts: dict[str, Act]) -> dict[str, str]:
    """Try some acts in a process that has become this user: whether each was let in or refused."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        os.write(writing, json.dumps({name: tried(act) for name, act in acts.items()}).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        found: dict[str, str] = json.load(told)
    return found


def tried(act: Act) -> str:
    try:
        act()
    except PermissionError:
        return "refused"
    except OSError as problem:
        return type(problem).__name__
    return "let in"


def post(address: Path) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(address))
        line.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")


def intrusions(replica: Replica) -> dict[str, Act]:
    folder, engine = replica.folder, Path("/proc") / str(read_json(replica.folder / "state.json")["engine"][0])
    return {
        "list": lambda: list(folder.iterdir()),
        "list all": lambda: list(folder.parents[1].iterdir()),
        "read the plan": (folder / "plan.json").read_text,
        "read the log": (folder / "engine.log").read_text,
        "read a label set": lambda: list(replica.choices_dir.iterdir()),
        "write": (folder / "note").touch,
        "take the socket's place": lambda: replica.socket.rename(replica.socket),
        "read its environment": (engine / "environ").read_bytes,
        "find its folder": (engine / "cwd").readlink,
        "signal it": lambda: os.kill(int(engine.name), 0),
        "post": lambda: post(replica.socket),
    }


@pytest.fixture
def replica(temporary: Path, tmp_path: Path) -> Iterator[Replica]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    python, _ = install(tmp_path / "engine")
    spec = ReplicaSpec("test-other-users", str(tmp_path / "model"), "d", python=python)
    with hold(spec, owner_pid=os.getpid()) as held:
        yield held
    standing.stop_all(spec.app_id)


def test_another_user_can_neither_read_nor_post(replica: Replica) -> None:
    acts = intrusions(replica)
    assert as_user(NOBODY, acts) == dict.fromkeys(acts, "refused")
    # the same acts of the owner get everywhere: the refusals are of the user
    assert as_user(os.getuid(), acts) == dict.fromkeys(acts, "let in")


def test_folders_are_the_owners_alone_and_so_is_the_socket(replica: Replica) -> None:
    places = (replica.folder, *replica.folder.parents[:2], replica.choices_dir, replica.folder / "ipc")
    assert {stat.S_IMODE(place.stat().st_mode) for place in places} == {0o700}
    assert stat.S_IMODE(replica.socket.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_folder_that_another_user_has_put_in_its_place_is_refused(temporary: Path, kind: str) -> None:
    place = temporary / f"burnish-{os.getuid()}"
    acts: dict[str, Act] = {"folder": place.mkdir, "link": lambda: place.symlink_to("/")}
    assert as_user(NOBODY, {kind: acts[kind]}) == {kind: "let in"}
    with pytest.raises(EnvironmentProblem, match="is not a folder of this user's own"):
        standing.root()

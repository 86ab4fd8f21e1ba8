import io
import os
import threading
from pathlib import Path

import pytest
from rich.console import Console

from jobs import jars, machine
from jobs.doctor import check_packages, report
from jobs.machine import Check, Gpu, check_disk, check_java, check_python, gpus
from jobs.session import driver_memory_gib, local_settings, new_log
from schemas.errors import EnvironmentProblem


def write_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("version", "ok", "said"),
    [
        ("17.0.15", True, "Java 17"),
        ("21.0.2", True, "Java 21"),
        ("11.0.1", False, "Java 11"),
        ("1.8.0_4", False, "Java 8"),
    ],
)
def test_java_is_the_one_that_java_home_names(tmp_path, monkeypatch, version, ok, said):
    write_program(tmp_path / "bin", "java", f"echo 'openjdk version \"{version}\" 2025' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    found = check_java()
    assert (found.ok, said in found.detail) == (ok, True)
    assert bool(found.hint) != ok


def test_no_java_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    found = check_java()
    assert not found.ok
    assert "openjdk-17" in found.hint


def test_this_python_and_these_packages_are_fine():
    assert check_python().ok
    assert check_packages().ok


def test_a_package_from_elsewhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.doctor._place_of", lambda name: tmp_path / name)
    found = check_packages()
    assert not found.ok
    assert str(tmp_path / "schemas") in found.detail
    assert "PYTHONSAFEPATH" in found.hint


def test_too_little_disk_names_the_variable_to_set(tmp_path):
    found = check_disk("cache", tmp_path / "not" / "yet", needed_gib=10**9)
    assert not found.ok
    assert "BURNISH_CACHE" in found.hint
    assert check_disk("temporary", tmp_path, needed_gib=0).ok


def test_gpus_are_read_from_the_drivers_tool(tmp_path, monkeypatch):
    write_program(tmp_path, "nvidia-smi", "echo 'NVIDIA H100 80GB HBM3, 81559'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus() == [Gpu("NVIDIA H100 80GB HBM3", 81559 * 1024**2)]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert gpus() == []


def test_an_engine_for_gpus_without_a_gpu_is_refused(tmp_path):
    write_program(tmp_path, "python", "echo vllm==0.32.0")
    assert not machine.check_engine(str(tmp_path / "python"), seen=[]).ok
    assert machine.check_engine(str(tmp_path / "python"), seen=[Gpu("H100", 1)]).ok


def test_an_interpreter_without_an_engine_is_refused(tmp_path):
    write_program(tmp_path, "python", "echo numpy")
    assert not machine.check_engine(str(tmp_path / "python"), seen=[]).ok


@pytest.mark.parametrize(
    ("spark", "delta", "coordinate"),
    [
        ("4.2.0", "4.4.0", "io.delta:delta-spark_4.2_2.13:4.4.0"),
        ("4.1.1", "4.4.0", "io.delta:delta-spark_4.1_2.13:4.4.0"),
        ("4.0.1", "4.2.0", "io.delta:delta-spark_4.0_2.13:4.2.0"),
        ("4.0.1", "4.0.1", "io.delta:delta-spark_2.13:4.0.1"),
    ],
)
def test_the_coordinate_follows_the_installed_pair(monkeypatch, spark, delta, coordinate):
    monkeypatch.setattr(jars, "version", {"pyspark": spark, "delta-spark": delta}.__getitem__)
    assert jars.delta_coordinate() == coordinate


@pytest.mark.parametrize(("spark", "delta"), [("4.2.0", "4.3.1"), ("4.3.0", "4.4.0"), ("4.1.0", "4.0.1")])
def test_a_pair_without_jars_is_refused_before_anything_is_fetched(monkeypatch, spark, delta):
    monkeypatch.setattr(jars, "version", {"pyspark": spark, "delta-spark": delta}.__getitem__)
    with pytest.raises(EnvironmentProblem, match="has no JARs"):
        jars.delta_coordinate()


def test_a_failed_resolution_is_one_sentence(tmp_path):
    log = tmp_path / "spark.log"
    log.write_text(":: UNRESOLVED DEPENDENCIES ::\nException in thread main [unresolved dependency: io.delta]\n")
    assert "not to be had" in str(jars.launch_problem(log))
    log.write_text("Error: LinkageError: wrong class file version\n")
    assert "LinkageError" in str(jars.launch_problem(log))
    log.write_text("spark-class: line 71: /none/bin/java: No such file or directory\n")
    assert "/none/bin/java" in str(jars.launch_problem(log))


def test_who_needs_jars_waits_for_who_fetches_them(tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    entered = threading.Event()

    def other():
        with jars.one_fetches():
            entered.set()

    thread = threading.Thread(target=other)
    monkeypatch.setattr(jars, "jars_at_hand", lambda: None)
    with jars.one_fetches():
        thread.start()
        assert not entered.wait(0.3)
        # whoever finds them does not wait
        monkeypatch.setattr(jars, "jars_at_hand", lambda: tmp_path)
        with jars.one_fetches():
            pass
    assert entered.wait(10)
    thread.join()


def test_a_local_session_is_quiet_in_utc_and_keeps_room_for_the_engine(tmp_path):
    settings = local_settings(cores=2, folder=tmp_path)
    assert settings["spark.master"] == "local[2]"
    assert settings["spark.sql.session.timeZone"] == "UTC"
    assert settings["spark.ui.showConsoleProgress"] == "false"
    assert settings["spark.sql.warehouse.dir"].startswith(str(tmp_path))
    assert 1 <= driver_memory_gib() <= 8


def test_old_logs_go_and_new_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    (tmp_path / "logs").mkdir()
    for number in range(30):
        (tmp_path / "logs" / f"spark-{number:02}.log").touch()
    log = new_log("spark")
    assert log.parent == tmp_path / "logs"
    left = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert (len(left), left[0]) == (20, "spark-10.log")


def test_a_report_shows_the_hint_of_what_failed_only():
    out = io.StringIO()
    checks = [Check("java", True, "Java 17", "unused"), Check("disk", False, "[1] GiB", "make room")]
    assert not report(checks, console=Console(file=out, width=80))
    assert "make room" in out.getvalue()
    assert "[1] GiB" in out.getvalue()
    assert "unused" not in out.getvalue()

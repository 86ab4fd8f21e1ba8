"""What README shows is what there is."""

import re
from pathlib import Path

from schemas.mix import MixFile
from schemas.suite import SuiteFile
from schemas.train import TrainFile
from schemas.yaml_file import parse_file, parse_job

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def test_the_tree_names_every_module() -> None:
    tree = README.rsplit("```", 2)[1]
    for room in ("schemas", "udfs", "jobs"):
        part = tree[tree.index(f"{room}/") :].split("\n")
        named = {line.split()[0] for line in part[1:] if line.startswith("  ")}
        there = {str(path.relative_to(ROOT / room)) for path in (ROOT / room).rglob("*.py")}
        missing = sorted(name for name in there - named if not name.endswith("__init__.py"))
        assert not missing, f"README's tree lacks {missing} of {room}/"


def test_the_files_of_all_kinds_are_such() -> None:
    job_file, levers, mix_file, train_file, suite_file, promise = blocks("yaml")
    job = parse_job(job_file)
    assert [task.name for task in job.columns] == ["intent"]
    # they are lines of a column
    assert parse_job(job_file.rstrip() + "\n" + levers).columns[0].think
    assert parse_job(job_file.replace("accept: 0.0", promise.partition("#")[0])).accept is not None
    mix = parse_file(mix_file, MixFile, file="mix.yaml")
    assert {source.kind for source in mix.sources} == set(MixFile.tags)
    assert len(parse_file(train_file, TrainFile, file="train.yaml").stages) == 2
    assert parse_file(suite_file, SuiteFile, file="suite.yaml").sets[0].train is not None


def test_the_python_compiles() -> None:
    for block in blocks("python"):
        compile(block, "README.md", "exec")


def test_the_tests_that_are_named_are_there() -> None:
    written = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", README))
    assert len(named) > 20
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []


def test_the_faults_are_those_of_the_campaigns() -> None:
    summary = (ROOT / "tests" / "faults" / "RESULTS.md").read_text(encoding="utf-8").split("\n\n")[2]
    assert summary.startswith("| faults |")
    assert summary in README

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jobs
import schemas
import udfs

ROOT = Path(schemas.__file__).parents[1]
FLOORS = {"schemas": 0, "udfs": 1, "jobs": 2}
HEAVY = ("pyspark", "torch", "vllm", "transformers")
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))

IMPORT_ALL = """
import importlib, pkgutil, sys, time
start = time.process_time()
import schemas
for module in pkgutil.walk_packages(schemas.__path__, "schemas."):
    importlib.import_module(module.name)
print(time.process_time() - start, *(name for name in {heavy!r} if name in sys.modules))
"""


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names.append(node.module or "")
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def test_the_three_packages_come_from_one_folder():
    assert {Path(package.__file__).parents[1] for package in (jobs, udfs, schemas)} == {ROOT}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_point_down(path):
    floor = FLOORS[path.relative_to(ROOT).parts[0]]
    up = [name for name in imported(path) if FLOORS.get(name.split(".")[0], -1) > floor]
    assert not up, f"{path.relative_to(ROOT)} imports {up}"


def test_schemas_need_neither_spark_nor_an_engine():
    roots = {name.split(".")[0] for path in (ROOT / "schemas").rglob("*.py") for name in imported(path)}
    assert not roots & set(HEAVY)


def test_executor_code_makes_no_session():
    for path in (ROOT / "udfs").rglob("*.py"):
        named = {
            node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)
        }
        assert "SparkSession" not in named, path


def test_all_of_schemas_imports_within_half_a_second():
    code = IMPORT_ALL.format(heavy=HEAVY)
    seconds = []
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        taken, *heavy = run.stdout.split()
        assert not heavy
        seconds.append(float(taken))
    assert min(seconds) < 0.5, seconds

import json
import multiprocessing
import struct
import time
from pathlib import Path

import pytest

from schemas.errors import EnvironmentProblem
from schemas.job import ModelRef
from udfs.cards import parameters_of
from udfs.fit import fits
from udfs.hub import download
from udfs.models import _build_once, cache_folder, digest_of, stage, staged_folder

CONFIG = {"num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 64, "num_hidden_layers": 4}


def write_weights(path: Path, values: bytes, *, dtype: str = "F32") -> None:
    width = {"F32": 4, "BF16": 2, "I8": 1}[dtype]
    header = json.dumps({"w": {"dtype": dtype, "shape": [len(values) // width], "data_offsets": [0, len(values)]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + values)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "toy"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "tokenizer.json").write_text("{}")
    write_weights(made / "model.safetensors", bytes(4096))
    return made


def test_a_local_folder_is_used_where_it_lies(folder, tmp_path):
    staged = stage(ModelRef(path=str(folder)), cache=tmp_path / "cache")
    assert (staged.folder, staged.name) == (folder, "toy")
    assert staged.revision == staged.digest[:40]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "a.pth", "a.pkl", "a.ckpt", "modeling.py", "deep/a.bin"])
def test_a_folder_with_pickles_or_code_is_refused(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    with pytest.raises(EnvironmentProblem, match="can run code"):
        stage(ModelRef(path=str(folder)))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_brings_its_own_code_is_refused(folder, name):
    (folder / name).write_text(json.dumps({**CONFIG, "auto_map": {"AutoModel": "modeling.Model"}}))
    with pytest.raises(EnvironmentProblem, match="auto_map"):
        stage(ModelRef(path=str(folder)))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(EnvironmentProblem, match=r"lacks|holds no"):
        stage(ModelRef(path=str(folder)))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EnvironmentProblem, match="is not there"):
        stage(ModelRef(path=str(tmp_path / "nowhere")))


def test_another_digest_than_the_drivers_is_refused(folder):
    model = ModelRef(path=str(folder))
    assert stage(model, expect_digest=digest_of(folder)).digest == digest_of(folder)
    with pytest.raises(EnvironmentProblem, match="differs from the driver's"):
        stage(model, expect_digest="0" * 64)


def test_the_digest_sees_weights_of_the_same_shape(folder):
    before = digest_of(folder)
    write_weights(folder / "model.safetensors", b"\1" + bytes(4095))
    assert digest_of(folder) != before


def test_the_digest_sees_the_chat_template_but_not_the_readme(folder):
    before = digest_of(folder)
    (folder / "README.md").write_text("hello")
    assert digest_of(folder) == before
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert digest_of(folder) != before


def test_an_endpoint_has_nothing_to_stage():
    with pytest.raises(ValueError, match="endpoint"):
        stage(ModelRef(endpoint="http://127.0.0.1:1/v1", model="m"))


def test_a_hub_out_of_reach_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = ModelRef(hub="someone/model", revision="a" * 40)
    with pytest.raises(EnvironmentProblem, match="could not be fetched") as caught:
        stage(model, cache=tmp_path)
    assert "path" in caught.value.hint
    assert not [path for path in (tmp_path / "models").iterdir() if path.is_dir()]
    assert staged_folder(model, cache=tmp_path) is None


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("BURNISH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "burnish"
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def build_slowly(target: Path, marks: Path) -> None:
    def build(folder: Path) -> None:
        (marks / f"{multiprocessing.current_process().pid}").touch()
        (folder / "half").touch()
        time.sleep(0.3)
        (folder / "whole").touch()

    assert (_build_once(target, build) / "whole").exists()


def test_two_processes_at_once_build_a_folder_once(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=build_slowly, args=(tmp_path / "models" / "m", marks)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list(marks.iterdir())) == 1


def test_what_a_killed_build_left_is_taken_away(tmp_path):
    left = tmp_path / ".m.building-abc"
    left.mkdir()
    _build_once(tmp_path / "m", lambda folder: (folder / "whole").touch())
    assert not left.exists()
    assert (tmp_path / "m" / "whole").exists()


def test_a_model_fits_when_weights_and_one_full_row_do(folder):
    fit = fits(folder, memory_bytes=2 * 1024**3, max_model_len=1024, max_num_seqs=8, dtype="float32")
    assert fit.weights_bytes == 4096
    assert fit.kv_bytes_per_token == 2 * 4 * 2 * 8 * 4
    assert fit.ok
    assert "8 rows of full length" in fit.sentence
    assert not fits(folder, memory_bytes=1024, max_model_len=1024, max_num_seqs=8).ok


@pytest.mark.parametrize(("stored", "served"), [("F32", 2048), ("BF16", 4096), ("I8", 4096)])
def test_weights_count_as_they_are_served(folder, stored, served):
    write_weights(folder / "model.safetensors", bytes(4096), dtype=stored)
    fit = fits(folder, memory_bytes=1024**3, max_model_len=64, max_num_seqs=1, dtype="bfloat16")
    assert fit.weights_bytes == served


def test_weights_that_lie_there_twice_count_once(folder):
    write_weights(folder / "consolidated.safetensors", bytes(4096))
    index = {"weight_map": {"w": "model.safetensors", "v": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert parameters_of(folder) == 1024
    fit = fits(folder, memory_bytes=1024**3, max_model_len=64, max_num_seqs=1, dtype="float32")
    assert fit.weights_bytes == 4096


def test_several_devices_share_weights_and_keys(folder):
    one = {"memory_bytes": 1024**3, "max_model_len": 64, "max_num_seqs": 1, "dtype": "float32"}

    def fit(devices):
        return fits(folder, tensor_parallel_size=devices, **one)

    assert (fit(2).weights_bytes, fit(2).kv_bytes_per_token) == (2048, fit(1).kv_bytes_per_token // 2)
    # two heads of keys: four devices hold each of them twice
    assert fit(4).kv_bytes_per_token == fit(2).kv_bytes_per_token


def test_a_download_leaves_the_second_copy_of_the_weights_behind(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = {}
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **settings: asked.update(settings))
    download("someone/model", "a" * 40, tmp_path)
    listed = ["model.safetensors", "consolidated.safetensors", "consolidated.00.pth", "tokenizer.json", "run.py"]
    wanted = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
    assert list(hub.utils.filter_repo_objects(listed, **wanted)) == ["model.safetensors", "tokenizer.json"]


def test_a_folder_that_lacks_a_file_of_its_index_is_refused(folder):
    index = {"weight_map": {"w": "model.safetensors", "v": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EnvironmentProblem, match=r"lacks model-2\.safetensors"):
        stage(ModelRef(path=str(folder)))

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.errors import UsageError
from redraft.train.run import check_output, remove_result, save
from tests.train.tiny import data, loop, prepared


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("part", ["out", "out/checkpoint-7", "model+out/checkpoint-7/", "a+b+./out+other"])
def test_what_a_run_begins_from_is_not_where_its_output_is(part: str) -> None:
    for folder in ("out/checkpoint-7", "a+b", "other", "out.2/checkpoint-1", "out/base"):
        Path(folder).mkdir(parents=True)
    check_output(Path("out"), "model", "a+b+out.2/checkpoint-1")
    check_output(Path("out"), "out/base", "org/name")
    with pytest.raises(UsageError, match=r"training starts from .+, which"):
        check_output(Path("out"), "model", part)


def test_what_a_name_stands_for_does_not_depend_on_the_output_being_there() -> None:
    Path("default").mkdir()
    check_output(Path("default"), "model", "default")  # the embedded model, whatever is here
    with pytest.raises(UsageError, match="training starts from org/name, which the output"):
        check_output(Path("org/name"), "org/name")


def test_a_result_is_removed_whole_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """`config.json` first: without it, what is left is no model."""
    removed: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path: removed.append(path.name))
    weights = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    result = ["config.json", "generation_config.json", "model.safetensors.index.json", *weights]
    for name in (*result, "tokenizer_config.json", "tokenizer.json", "log.jsonl"):
        Path(name).touch()
    remove_result(Path())
    assert removed[0] == "config.json"
    assert sorted(removed) == sorted(result)


def test_a_result_uses_its_cache_as_its_base_does(tmp_path: Path) -> None:
    made = loop(tmp_path, data(prepared(tmp_path / "data")), max_steps=1)
    made.run()
    save(made)
    assert json.loads((tmp_path / "config.json").read_bytes())["use_cache"] is True

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redraft.engines.base import Sampling
from redraft.engines.load import load_engine
from redraft.engines.openvino import models
from redraft.engines.openvino.engine import OpenVinoEngine
from redraft.errors import ModelError, OutputError
from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.gguf.reader import read_header
from tests.engines.talking import ONE, continued, run, said, tokens_of
from tests.gguf_files import lora, tiny_model
from tests.weights.tiny_folders import tiny_folder

pytest.importorskip("openvino_genai")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


def exported(tmp_path: Path, architecture: str, quant: str) -> Path:
    path = tmp_path / f"{architecture}.{quant}.gguf"
    export_gguf(tiny_folder(tmp_path / architecture, architecture), path, quant=quant)
    return path


def written(engine: Any) -> tuple[str, list[float]]:
    async def all_of_it() -> tuple[str, list[float]]:
        deltas = await continued(engine, "abc", Sampling(temperature=0.0, max_tokens=6, logprobs=True))
        await engine.aclose()
        return said(deltas), [number for delta in deltas for number in delta.logprobs]

    return run(all_of_it())


@pytest.mark.parametrize("architecture", ["Llama", "Mistral", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("quant", ["f16", "q4_1"])
def test_it_computes_what_llama_cpp_computes(tmp_path: Path, architecture: str, quant: str) -> None:
    pytest.importorskip("xllamacpp")
    model = exported(tmp_path, architecture, quant)
    ours = written(run(load_engine(str(model), engine="openvino", threads=1)))
    theirs = written(run(load_engine(str(model), engine="llamacpp", threads=1)))
    assert ours[1][0] == pytest.approx(theirs[1][0], abs=0.3)  # both have activations of 8 bits


def test_formats_that_it_reads_exactly_are_not_copied(tmp_path: Path, cache: Path) -> None:
    sizes = []
    for quant in ("f16", "q8_0", "q4_0", "q4_1", "bf16"):
        model = exported(tmp_path, "Llama", quant)
        sizes.append(models.prepare(model, [read_header(model)], []).file == model)
    assert sizes == [True, True, True, False, False]


def test_a_copy_is_made_once_and_old_ones_go(tmp_path: Path, cache: Path) -> None:
    model = exported(tmp_path, "Llama", "q4_1")
    first = models.prepare(model, [read_header(model)], []).file
    made = first.stat().st_mtime_ns
    assert models.prepare(model, [read_header(model)], []).file.stat().st_mtime_ns == made
    for number in range(models.COPIES + 1):
        models.prepare(model, [read_header(model)], [lora(tmp_path / f"{number}.gguf", size=(64, 64))])
    assert not first.exists()
    assert len([each for each in cache.iterdir() if each.is_dir()]) == models.COPIES


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    model = exported(tmp_path, "Llama", "f16")
    adapter = lora(tmp_path / "a.gguf", tensor="blk.1.attn_v.weight", size=(64, 32), scale=1.0)
    plain, ours, theirs = (
        written(run(load_engine(ref, engine=engine, threads=1)))[1][0]
        for ref, engine in (
            (f"{model}", "llamacpp"),
            (f"{model}+{adapter}", "openvino"),
            (f"{model}+{adapter}", "llamacpp"),
        )
    )
    assert abs(plain - theirs) > 0.3
    assert ours == pytest.approx(theirs, abs=0.15)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"general.architecture": "gemma"}, "its architecture is 'gemma', not llama or qwen2"),
        ({"llama.expert_count": 8}, "it is a mixture of experts"),
        ({"llama.rope.scaling.type": "yarn"}, "its rotary positions are scaled"),
        ({"split.count": 2}, "one part of several"),
    ],
)
def test_what_it_does_not_read_is_refused(tmp_path: Path, more: dict[str, Any], reason: str) -> None:
    model = tiny_model(tmp_path / "m.gguf", more)
    with pytest.raises(ModelError, match=reason) as caught:
        run(load_engine(str(model), engine="openvino"))
    assert caught.value.hint == "--engine llamacpp reads it."


def test_a_full_disk(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported(tmp_path, "Llama", "q4_1")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(models, "rewrite", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        run(OpenVinoEngine.start(model, machine=ONE))
    assert "--engine llamacpp" in str(caught.value.hint)
    assert not list(cache.glob("*/*.gguf*"))


def test_processes_that_start_at_once_share_a_copy(tmp_path: Path, cache: Path) -> None:
    model = exported(tmp_path, "Llama", "q4_1")

    async def both() -> list[list[int]]:
        engines = await asyncio.gather(*(OpenVinoEngine.start(model, machine=ONE) for _ in range(3)))
        found = [tokens_of(await continued(each, "abc")) for each in engines]
        await asyncio.gather(*(each.aclose() for each in engines))
        return found

    first, *others = run(both())
    assert others == [first, first]
    (home,) = (each for each in cache.iterdir() if each.is_dir())
    assert sorted(each.name for each in home.iterdir()) == [model.name, "tokenizer"]


def test_a_damaged_copy_is_made_again(tmp_path: Path, cache: Path) -> None:
    model = exported(tmp_path, "Llama", "q4_1")
    copy = models.prepare(model, [read_header(model)], []).file
    whole = copy.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nothing"):
        copy.write_bytes(damaged)
        assert models.prepare(model, [read_header(model)], []).file == copy
        assert copy.read_bytes() == whole


def test_a_damaged_tokenizer_is_made_again(tmp_path: Path, cache: Path) -> None:
    model = exported(tmp_path, "Llama", "f16")
    first = written(run(OpenVinoEngine.start(model, machine=ONE)))
    (folder,) = cache.glob("*/tokenizer")
    parts = sorted(each for each in folder.iterdir() if each.name.endswith("tokenizer.xml"))
    assert parts
    for part in parts:
        part.write_bytes(part.read_bytes()[:100])
    assert written(run(OpenVinoEngine.start(model, machine=ONE))) == first
    assert all(part.stat().st_size > 100 for part in parts)


@pytest.mark.parametrize("quant", [pytest.param("f16", marks=pytest.mark.slow), "q4_1"])
def test_a_disk_without_room(tmp_path: Path, cache: Path, quant: str) -> None:
    """No file grows over 4 kB. Without a copy, llama.cpp answers; without a tokenizer, OpenVINO does."""
    model = exported(tmp_path, "Llama", quant)
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from redraft.cli.commands import app\napp(sys.argv[1:])"
    )
    (tmp_path / "p.txt").write_text("abc")
    words = (
        "answer p.txt -o o.jsonl --max-revisions 0 --max-tokens 4 --threads 1 --chat-template vicuna -j 12"
    )
    command = [sys.executable, "-c", code, *words.split(), "--model", model]
    own = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # bytecode would be cut
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "o.jsonl").read_text())
    assert record["model"]["engine"] == ("openvino" if quant == "f16" else "llamacpp")
    assert ("cannot be written" in done.stderr) == (quant == "q4_1")
    assert not [each for each in cache.rglob("*") if each.is_file() and each.suffix != ".lock"]

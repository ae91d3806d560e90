"""Which engine a command takes for a GGUF file, and what it says of that."""

from __future__ import annotations

import asyncio
import errno
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from redraft.engines.base import EngineInfo
from redraft.engines.openvino import models
from redraft.evaluation.diagnosis.options import DiagnoseOptions
from redraft.evaluation.diagnosis.runs import StrategyRuns
from redraft.jobs.machine import instructions, many_streams
from redraft.options import Flags
from redraft.revision.runs.plan import RunPlan
from redraft.revision.settings import Settings
from redraft.serve.start import Opening
from redraft.weights.gguf.from_folder import export_gguf
from tests.weights.tiny_folders import tiny_folder

pytest.importorskip("openvino_genai")
pytest.importorskip("xllamacpp")

MANY = many_streams(instructions())
OPENVINO, LLAMACPP = ("openvino", "F16"), ("llamacpp", "F16")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export_gguf(tiny_folder(folder / "tiny"), folder / "tiny.gguf", quant="f16")
    return folder / "tiny.gguf"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("redraft.engines.load.has_gpu", lambda: False)


def settings_of(model: Path, told: list[str] | None = None, **given: Any) -> Settings:
    say = [].append if told is None else told.append
    return Settings.read(Flags, {"model": str(model), "threads": 1, **given}, tell=say)


def taken(settings: Settings, parallel: int) -> tuple[str, str]:
    async def info() -> EngineInfo:
        async with AsyncExitStack() as stack:
            return (await settings.load(stack, "model", settings.get("model"), parallel=parallel)).info

    found = asyncio.run(info())
    return found.engine, found.format


@pytest.mark.parametrize(
    ("parallel", "given", "engine", "said"),
    [
        (MANY, {}, OPENVINO, ["{} runs on OpenVINO, for speed. To use llama.cpp, add --engine llamacpp."]),
        (MANY - 1, {}, LLAMACPP, []),
        (MANY, {"engine": "llamacpp"}, LLAMACPP, []),
        (1, {"engine": "openvino"}, OPENVINO, []),
        (MANY, {"device": "cpu", "gpu_layers": 0}, OPENVINO, ["runs on OpenVINO"]),
        (
            MANY,
            {"check": ["words<=9"]},
            LLAMACPP,
            ["{} runs on llama.cpp: checks steer it. Faster, but unsteered: --engine openvino"],
        ),
        (MANY, {"check": ["auto"]}, LLAMACPP, ["checks steer it"]),
        (MANY, {"check": ["judge:Is it kind?", "words<=9"], "judge": "x.gguf"}, LLAMACPP, ["checks steer"]),
        (MANY, {"check": ["words<=9"], "steer": False}, OPENVINO, ["runs on OpenVINO"]),
        (MANY, {"check": ["json"]}, OPENVINO, ["runs on OpenVINO"]),
        (MANY, {"check": ["judge:Is it kind?"], "judge": "x.gguf"}, OPENVINO, ["runs on OpenVINO"]),
    ],
)
def test_many_streams_take_openvino_unless_checks_steer(
    model: Path, parallel: int, given: dict[str, Any], engine: tuple[str, str], said: list[str]
) -> None:
    told: list[str] = []
    assert taken(settings_of(model, told, **given), parallel) == engine
    assert len(told) == len(said)
    assert all(part.format(model) in line for part, line in zip(said, told, strict=True))


def test_a_gpu_keeps_llama_cpp(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.engines.load.has_gpu", lambda: True)
    told: list[str] = []
    assert taken(settings_of(model, told), MANY) == LLAMACPP
    assert taken(settings_of(model, told, device="cpu"), MANY) == OPENVINO
    assert len(told) == 1


def test_what_openvino_does_not_read_goes_to_llama_cpp_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stretched = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    folder = tiny_folder(tmp_path / "long", rope_parameters=stretched)
    export_gguf(folder, tmp_path / "long.gguf", quant="f16")
    told: list[str] = []
    assert (taken(settings_of(tmp_path / "long.gguf", told), MANY), told) == (LLAMACPP, [])
    assert "instead of OpenVINO: OpenVINO does not read" in caplog.text


def test_a_full_disk_goes_to_llama_cpp_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(models, "rewrite", full)
    export_gguf(tiny_folder(tmp_path / "tiny"), tmp_path / "tiny.gguf", quant="q4_1")
    assert taken(settings_of(tmp_path / "tiny.gguf"), MANY) == ("llamacpp", "Q4_1")
    assert "No space left on device" in caplog.text


def test_weights_that_do_not_fit_into_memory_go_to_llama_cpp(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("redraft.engines.openvino.engine.loaded_bytes", lambda _: 1 << 60)
    assert taken(settings_of(model), MANY) == LLAMACPP
    assert "0 GB are free after loading its weights" in caplog.text


@pytest.mark.parametrize(("steer", "engine"), [(None, "llamacpp"), (False, "openvino")])
def test_a_server_is_steered_by_its_requests(model: Path, steer: bool | None, engine: str) -> None:
    given = {} if steer is None else {"steer": steer}
    told: list[str] = []

    async def found() -> list[Any]:
        async with AsyncExitStack() as stack:
            models = [(None, each, settings_of(model, told, **given)) for each in ("", "-revise")]
            opening = Opening(stack, models, MANY)
            return [(await opening.open(*each)).options.model for each in models]

    first, second = asyncio.run(found())
    assert first is second
    assert (first.info.engine, len(told)) == (engine, 1)
    assert ("checks of requests may steer it" in told[0]) == (steer is None)


@pytest.mark.parametrize(
    ("record", "steer", "reason"),
    [
        ('{"prompt": "Say it.", "checks": ["words<=9"]}', None, "one way is steered"),
        ('{"prompt": "Say it.", "checks": ["words<=9"]}', False, "one way is steered"),
        ('{"prompt": "Say it.", "checks": ["language:en"]}', None, ""),
    ],
)
def test_all_ways_of_a_comparison_have_one_engine(
    tmp_path: Path, model: Path, record: str, steer: bool | None, reason: str
) -> None:
    (tmp_path / "asked.jsonl").write_text(record)
    given = {} if steer is None else {"steer": steer}
    told: list[str] = []
    options = {"model": str(model), "threads": 1, "max_revisions": 1, **given}
    settings = Settings.read(DiagnoseOptions, options, tell=cache(told.append))
    ways = ("plain", "revise", "steered")
    runs = StrategyRuns(settings, tmp_path / "asked.jsonl", RunPlan(tmp_path / "runs"), "checks", ways)
    found = [runs._run_of(each, 0, runs.plan.limits).settings for each in runs.strategies]
    assert {each.llamacpp_because for each in found} == {reason}
    assert {taken(each, MANY)[0] for each in found[:2]} == {"llamacpp" if reason else "openvino"}
    assert len(told) == 1

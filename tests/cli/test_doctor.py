"""`redraft doctor`: its report is true, shows no key, and never fails."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redraft import __version__
from redraft.cli import app
from redraft.engines import speed
from redraft.engines.config import config_path
from redraft.engines.installation import Finding, engine_for, extras, findings
from redraft.engines.llamacpp import default_model
from redraft.weights.gguf.from_folder import export_gguf
from tests.weights.tiny_folders import tiny_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("REDRAFT_KEY_")]:
        monkeypatch.delenv(name)
    return tmp_path


def found(what: str) -> Finding:
    return next(each for each in findings() if each.what == what)


def faults(what: str) -> list[Finding]:
    return [each for each in findings() if each.what == what and each.well is False]


def configure(text: str, mode: int = 0o600) -> Path:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_the_command() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    for words in (
        "redraft",
        __version__,
        "[local]",
        "default model",
        "config file",
        "Start with: redraft ask",
    ):
        assert words in result.stdout


def test_every_extra_is_told_with_what_installs_it() -> None:
    assert extras()["local"] == ["xllamacpp"]
    for extra in extras():
        finding = found(f"[{extra}]")
        assert finding.well or finding.type_next.startswith(f"pip install '.[{extra}]'")


def test_a_model_that_is_missing_and_one_that_is_damaged() -> None:
    missing = found("default model")
    assert (missing.well, missing.type_next) == (None, "redraft model get default")
    default_model.DEFAULT.path.parent.mkdir()
    default_model.DEFAULT.path.write_bytes(b"GGUF")
    damaged = found("default model")
    assert (damaged.well, damaged.type_next) == (False, "redraft model get default")
    assert "is damaged" in damaged.found


def test_the_processor_is_told_where_the_system_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    has = {"AVX2": True, "AVX-512": True, "VNNI": False, "AMX": False}
    monkeypatch.setattr("redraft.engines.installation.instructions", lambda: has)
    assert found("processor").found == "AVX2, AVX-512, no VNNI, no AMX"
    monkeypatch.setattr("redraft.engines.installation.instructions", lambda: None)
    assert found("processor").well is None
    assert "not known on" in found("processor").found


WIDE = {"AVX2": True, "AVX-512": True, "VNNI": True, "AMX": False}
PLAIN = dict.fromkeys(WIDE, False) | {"AVX2": True}


@pytest.mark.parametrize(
    ("has", "there", "well", "said", "type_next"),
    [
        (
            WIDE,
            "llamacpp openvino",
            True,
            "OpenVINO for 4 streams and more: it uses AVX-512 and VNNI",
            "--bench",
        ),
        (PLAIN, "llamacpp openvino", True, "8 streams and more: it computes them as one batch", "--bench"),
        (None, "llamacpp openvino", True, "4 streams and more: it computes them as one batch", "--bench"),
        (WIDE, "llamacpp", None, "llama.cpp; OpenVINO is faster for 4 streams", "'.[cpu]'"),
        (WIDE, "openvino", True, "OpenVINO", ""),
        (WIDE, "llamacpp openvino gpu", True, "llama.cpp, whose build may use the GPU", ""),
        (dict.fromkeys(WIDE, False), "llamacpp openvino", False, "the processor lacks AVX2", "http://host"),
        (WIDE, "", None, "none for GGUF files is installed", "'.[local]'"),
    ],
)
def test_the_best_engine_and_why(
    has: dict[str, bool] | None, there: str, well: bool | None, said: str, type_next: str
) -> None:
    names = ("llamacpp", "openvino", "gpu")
    finding = engine_for(has, **{name: name in there.split() for name in names})
    assert finding.well is well
    assert said in finding.found
    assert type_next in finding.type_next


@pytest.mark.slow
def test_engines_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino_genai")
    pytest.importorskip("xllamacpp")
    export_gguf(tiny_folder(tmp_path / "tiny"), tmp_path / "tiny.gguf", quant="f16")
    monkeypatch.setattr(speed, "SECONDS", 0.3)
    result = CliRunner().invoke(app, ["doctor", "--bench", "--model", str(tmp_path / "tiny.gguf")])
    assert result.exit_code == 0, result.output
    told = re.findall(r"(\w+) +(\d) at once +(\d+) tokens/s", result.stdout)
    assert [each[:2] for each in told] == [
        ("llamacpp", "1"),
        ("llamacpp", "8"),
        ("openvino", "1"),
        ("openvino", "8"),
    ]
    assert all(int(rate) for *_, rate in told)
    best = max(told[1], told[3], key=lambda each: int(each[2]))[0]
    assert f"best with 8: --engine {best}, " in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "default"], "--model is for --bench"),
        (["--bench", "--model", "http://127.0.0.1:9/v1#m"], "is computed elsewhere"),
        (["--bench", "--model", "none.gguf"], "there is no model file none.gguf"),
    ],
)
def test_what_cannot_be_measured(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["doctor", *words])
    assert result.exit_code in (2, 3)
    assert said in result.stderr


def test_keys_are_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_KEY_OTHER_EXAMPLE", "sk-environment")
    monkeypatch.setenv("EXAMPLE_KEY", "sk-named")
    configure("[keys]\n'api.example' = 'sk-literal'\n'b.example' = 'env:EXAMPLE_KEY'\n")
    finding = found("keys")
    assert finding == Finding(
        "keys", well=True, found="api.example, b.example (from $EXAMPLE_KEY), REDRAFT_KEY_OTHER_EXAMPLE"
    )
    assert "sk-" not in CliRunner().invoke(app, ["doctor"]).stdout


def test_a_fault_of_one_key_does_not_hide_the_others() -> None:
    path = configure("[keys]\n'a.example' = 'sk-literal'\n'b.example' = 'env:NOT_SET_HERE'\n", mode=0o644)
    assert found("keys") == Finding("keys", well=True, found="a.example")
    assert [each.type_next for each in faults("keys")] == ["export NOT_SET_HERE=…", f"chmod 600 {path}"]


def test_a_library_of_the_system_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "xllamacpp"
    package.mkdir()
    fault = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (package / "__init__.py").write_text(f"raise ImportError({fault!r})\n")
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert found("[local]") == Finding(
        "[local]", False, f"xllamacpp is installed and does not load: {fault}", "apt install libgomp1"
    )


def test_a_config_file_that_cannot_be_read_is_told_and_not_raised() -> None:
    configure("[default]\n")
    finding = found("config file")
    assert finding.well is False
    assert "Did you mean 'defaults'?" in finding.type_next
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0

"""`redraft doctor`: its report is true, shows no key, and ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from redraft import __version__
from redraft.engines.config import config_path
from redraft.engines.installation import Finding, engine_for, extras, findings
from redraft.engines.llamacpp import default_model
from tests.cli.verbs import redraft


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("REDRAFT_KEY_")]:
        monkeypatch.delenv(name)
    return tmp_path


def found(what: str) -> Finding:
    return next(each for each in findings() if each.what == what)


def configure(text: str, mode: int = 0o600) -> Path:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_the_command() -> None:
    result = redraft("doctor")
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
    assert "unknown on" in found("processor").found


WIDE = {"AVX2": True, "AVX-512": True, "VNNI": True, "AMX": False}
PLAIN = dict.fromkeys(WIDE, False) | {"AVX2": True}


@pytest.mark.parametrize(
    ("has", "there", "well", "said", "type_next"),
    [
        (WIDE, "llamacpp openvino", True, "OpenVINO for 4 or more streams: it uses AVX-512 and VNNI", ""),
        (PLAIN, "llamacpp openvino", True, "8 or more streams: it computes them as one batch", ""),
        (None, "llamacpp openvino", True, "4 or more streams: it computes them as one batch", ""),
        (WIDE, "llamacpp", None, "llama.cpp; OpenVINO is faster for 4 or more streams", "'.[cpu]'"),
        (WIDE, "openvino", True, "OpenVINO", ""),
        (WIDE, "llamacpp openvino gpu", True, "llama.cpp, which uses the GPU if it was built for it", ""),
        (dict.fromkeys(WIDE, False), "llamacpp openvino", False, "the processor lacks AVX2", "http://host"),
        (WIDE, "", None, "no engine for GGUF files is installed", "'.[local]'"),
    ],
)
def test_the_best_engine_and_why(
    has: dict[str, bool] | None, there: str, well: bool | None, said: str, type_next: str
) -> None:
    finding = engine_for(has, **{name: name in there.split() for name in ("llamacpp", "openvino", "gpu")})
    assert finding.well is well
    assert said in finding.found
    assert type_next in finding.type_next


def test_keys_are_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_KEY_OTHER_EXAMPLE", "sk-environment")
    monkeypatch.setenv("EXAMPLE_KEY", "sk-named")
    configure("[keys]\n'api.example' = 'sk-literal'\n'b.example' = 'env:EXAMPLE_KEY'\n")
    assert found("keys") == Finding(
        "keys", well=True, found="api.example, b.example (from $EXAMPLE_KEY), REDRAFT_KEY_OTHER_EXAMPLE"
    )
    assert "sk-" not in redraft("doctor").stdout


def test_a_fault_of_one_key_does_not_hide_the_others() -> None:
    path = configure("[keys]\n'a.example' = 'sk-literal'\n'b.example' = 'env:NOT_SET_HERE'\n", mode=0o644)
    assert found("keys") == Finding("keys", well=True, found="a.example")
    faults = [each for each in findings() if each.what == "keys" and each.well is False]
    assert [each.type_next for each in faults] == ["export NOT_SET_HERE=…", f"chmod 600 {path}"]


def test_a_library_of_the_system_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "xllamacpp"
    package.mkdir()
    fault = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (package / "__init__.py").write_text(f"raise ImportError({fault!r})\n")
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert found("[local]") == Finding(
        "[local]", False, f"xllamacpp is installed but does not load: {fault}", "apt install libgomp1"
    )


def test_a_config_file_that_cannot_be_read_is_told_and_not_raised() -> None:
    configure("[default]\n")
    finding = found("config file")
    assert finding.well is False
    assert "Did you mean 'defaults'?" in finding.type_next
    done = redraft("doctor")
    assert (done.exit_code, "\nbad config file" in done.stdout) == (2, True)

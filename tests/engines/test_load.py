from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import redraft
from redraft.engines.base import Sampling
from redraft.engines.config import Config, KeyEntry
from redraft.engines.llamacpp.default_model import ADAPTERS
from redraft.engines.load import (
    ModelReference,
    forms,
    identity_of,
    load_engine,
    local_file,
    model_of,
    parse_reference,
    references_of,
)
from redraft.engines.names import BY_NAME, RECOMMENDED, SERVERS, Recommended, memory_of
from redraft.errors import ModelError, RedraftError, UsageError
from redraft.jobs.plugins import PluginError, PluginWarning
from tests.cli.verbs import start, wait_until
from tests.engines.fake_hub import publish
from tests.engines.fake_server import FakeServer, Reply, chat_reply, models_reply
from tests.plugin_packages import install


@pytest.mark.parametrize(
    ("ref", "parsed"),
    [
        ("default", ModelReference("default", roles=ADAPTERS)),
        ("default-base", ModelReference("default")),
        ("default+a/b.gguf", ModelReference("default", adapters=(Path("a/b.gguf"),))),
        ("m.gguf", ModelReference("gguf", "m.gguf")),
        ("a/m.gguf", ModelReference("gguf", "a/m.gguf")),
        ("./m.GGUF", ModelReference("gguf", "m.GGUF")),
        ("/a/b/c/m.gguf+x.gguf+y.gguf",
         ModelReference("gguf", "/a/b/c/m.gguf", adapters=(Path("x.gguf"), Path("y.gguf")))),
        ("org/name", ModelReference("hub", "org/name")),
        ("org/na.me-1_2:Q4_K_M", ModelReference("hub", "org/na.me-1_2", "Q4_K_M")),
        ("org/name/m.gguf", ModelReference("hub", "org/name", "m.gguf")),
        ("org/name/sub/m.gguf", ModelReference("hub", "org/name", "sub/m.gguf")),
        ("org/name+x.gguf", ModelReference("hub", "org/name", adapters=(Path("x.gguf"),))),
        ("http://localhost:8000/v1#qwen", ModelReference("remote", "http://localhost:8000/v1", "qwen")),
        ("https://host/v1", ModelReference("remote", "https://host/v1")),
        ("https://host/v1#org/a+b:free", ModelReference("remote", "https://host/v1", "org/a+b:free")),
        ("script:replies.jsonl", ModelReference("script", "replies.jsonl")),
    ],
)  # fmt: skip
def test_forms(here: Path, ref: str, parsed: ModelReference) -> None:
    assert parse_reference(ref) == parsed


@pytest.mark.parametrize(
    ("ref", "shipped"),
    [
        ("default", True),
        ("default-base", True),
        ("default+a.gguf", False),
        ("default+a.gguf@answer+c.gguf@revise", False),
        ("m.gguf", False),
    ],
)
def test_what_redraft_ships_has_no_adapter_of_the_user(here: Path, ref: str, shipped: bool) -> None:
    assert parse_reference(ref).shipped == shipped


@pytest.mark.parametrize(
    ("ref", "parts"),
    [
        ("http://a/v1#m,http://b/v1#m", ["http://a/v1#m", "http://b/v1#m"]),
        ("http://a/v1#m, https://b/v1#m ,HTTP://c/v1#m", ["http://a/v1#m", "https://b/v1#m", "HTTP://c/v1#m"]),
        ("default,default", ["default", "default"]),
        ("default,default+a.gguf", ["default", "default+a.gguf"]),
        ("script:a.jsonl,script:b.jsonl", ["script:a.jsonl", "script:b.jsonl"]),
        ("one,two.gguf", ["one,two.gguf"]),
        ("http://a/x,y/v1#m,n", ["http://a/x,y/v1#m,n"]),
        ("missing.gguf,defaults", ["missing.gguf,defaults"]),
        ("here.gguf,", ["here.gguf,"]),
        ("", [""]),
    ],
)  # fmt: skip
def test_several_references_are_split_at_commas_before_a_reference(
    here: Path, ref: str, parts: list[str]
) -> None:
    for name in ("here.gguf", "one,two.gguf", "two.gguf"):
        (here / name).touch()
    assert list(references_of(ref)) == parts


def test_records_of_runs_leave_out_which_servers_there_were(here: Path) -> None:
    assert model_of("http://a/v1#m,http://b/v1#m") == model_of("http://c/v1#m,http://a/v1#m") == "#m"
    assert model_of("default,default") == "default"
    assert model_of("http://a/v1#m") == "http://a/v1#m"


def test_what_is_on_the_disk_comes_before_the_hub(here: Path) -> None:
    (here / "org" / "name").mkdir(parents=True)
    assert parse_reference("org/name") == ModelReference("folder", "org/name")
    assert parse_reference("org/name/missing.gguf") == ModelReference("gguf", "org/name/missing.gguf")
    (here / "a+b.gguf").touch()
    assert parse_reference("a+b.gguf") == ModelReference("gguf", "a+b.gguf")


def test_recommended_models_have_names(here: Path) -> None:
    small = ModelReference("hub", "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", "Q8_0")
    assert parse_reference("small") == small
    assert parse_reference("small+x.gguf") == ModelReference("hub", small.target, "Q8_0", (Path("x.gguf"),))
    assert references_of("small,large+x.gguf") == ("small", "large+x.gguf")
    assert model_of("small+x.gguf") == "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF:Q8_0+x.gguf"
    with pytest.raises(UsageError) as caught:
        parse_reference("smal")
    assert caught.value.hint == "Did you mean 'small'?"


def test_a_folder_goes_before_the_name_of_a_recommended_model(here: Path) -> None:
    (here / "small").mkdir()
    assert parse_reference("small") == ModelReference("folder", "small")
    assert model_of("small") == "small"
    (here / "medium").touch()
    with pytest.raises(UsageError, match="medium is not a model") as refused:
        parse_reference("medium")
    assert "existing" not in refused.value.message


@pytest.mark.parametrize("ref", ["", "nothing", "a/b/c/d", "model.bin", "ftp://host/m", "org/name:"])
def test_what_is_no_reference(here: Path, ref: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(ref)
    found = "is neither a known form nor an existing file" if ref else "is empty"
    assert caught.value.message == f"the model reference {ref!r} {found}."
    assert caught.value.hint == f"The forms: {forms()}"
    assert " openai:model " in forms()


@pytest.mark.parametrize(
    ("ref", "hint"),
    [
        ("gpt-4o", "Did you mean 'openai:gpt-4o'? Put its key into $OPENAI_API_KEY."),
        ("o3-mini", "Did you mean 'openai:o3-mini'? Put its key into $OPENAI_API_KEY."),
        ("claude-x", "Did you mean 'openrouter:anthropic/claude-x'? Put its key into $OPENROUTER_API_KEY."),
        ("qwen3:4b", "Did you mean 'ollama:qwen3:4b'?"),
        ("qwen,llama", "redraft serve --models FILE"),
        ("opnai:gpt-4o", "Did you mean 'openai:gpt-4o'?"),
        ("localhost:8000/v1#qwen", "Did you mean http://localhost:8000/v1#qwen?"),
        ("defalt", "Did you mean 'default'?"),
        ("Default", "Did you mean 'default'?"),
    ],
)
def test_the_name_of_a_model_of_a_server_is_told_which(here: Path, ref: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(ref)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("ref", "address", "model"),
    [
        ("openai:gpt-5-mini", "https://api.openai.com/v1", "gpt-5-mini"),
        ("ollama:qwen3:4b", "http://localhost:11434/v1", "qwen3:4b"),
        ("openrouter:qwen/qwen3-8b", "https://openrouter.ai/api/v1", "qwen/qwen3-8b"),
        ("vllm:", "http://localhost:8000/v1", None),
        ("lab:m", "http://10.0.0.5:8000/v1", "m"),
        ("groq:m", "http://localhost:9/v1", "m"),
    ],
)
def test_short_names_of_servers(
    here: Path, monkeypatch: pytest.MonkeyPatch, ref: str, address: str, model: str | None
) -> None:
    (here / "c.toml").write_text(
        '[servers]\nlab = "http://10.0.0.5:8000/v1"\ngroq = "http://localhost:9/v1"\n'
    )
    monkeypatch.setenv("REDRAFT_CONFIG", str(here / "c.toml"))
    assert parse_reference(ref) == ModelReference("remote", address, model)
    assert references_of(f"default,{ref}") == ("default", f"{address}#{model}" if model else address)
    assert model_of(ref) == references_of(ref)[0], "records have the address"


def test_the_page_has_the_table_of_servers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text("utf-8")
    for name, server in SERVERS.items():
        key = f" `{server.variable}`" if server.variable else ""
        assert f"| `{name}` | `{server.url}` |{key} |\n" in page


def test_a_server_of_the_table_needs_its_key(here: Path) -> None:
    with pytest.raises(UsageError, match=r"needs a key, but \$OPENAI_API_KEY is not set") as caught:
        asyncio.run(load_engine("openai:gpt-5-mini"))
    assert caught.value.hint == "export OPENAI_API_KEY=…"


def test_a_folder_of_an_adapter_for_llamacpp(here: Path) -> None:
    adapter_of(here / "lora", "default")
    error, made = refused("default+lora/"), "--model default-base+lora.gguf"
    assert error.message == "the adapter 'lora/' is not a .gguf file."
    assert error.hint == f"redraft weights lora-gguf lora/ -o lora.gguf, and then: {made}"
    (here / "lora.gguf").touch()
    assert refused("default+lora/").hint == made
    (here / "lora/adapter_config.json").rename("lora/config.json")
    assert refused("default+lora/").hint == "It is a whole model: --model lora/"


def adapter_of(folder: Path, base: str | None) -> None:
    folder.mkdir()
    said = json.dumps({"base_model_name_or_path": base})
    (folder / "adapter_config.json").write_text(said, encoding="utf-8")


@pytest.mark.parametrize(
    ("ref", "adapters"),
    [("m+a", ["a"]), ("m+a+b", ["a", "b"]), ("m+b+c", ["b+c"]), ("m+d+a", ["a"]), ("./m+a", ["a"])],
)
def test_a_folder_with_adapter_folders(here: Path, ref: str, adapters: list[str]) -> None:
    for name in ("m", "a", "b", "b+c", "m+d"):
        (here / name).mkdir()
    base = "m+d" if "d" in ref else "m"
    assert parse_reference(ref) == ModelReference("folder", base, adapters=tuple(map(Path, adapters)))


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("m+a.gguf", "a.gguf is an adapter for llama.cpp, but m is a transformers folder."),
        ("m+none", "there is no adapter folder 'none'."),
        ("m+", "there is no adapter folder ''."),
        ("m.gguf+x.bin", "the adapter 'x.bin' is not a .gguf file."),
        ("default+x.bin", "the adapter 'x.bin' is not a .gguf file."),
        ("default,default", "'default,default' names several engines, but one is needed."),
        ("a" * 300, f"the model reference '{'a' * 79} cannot be looked up: File name too long."),
    ],
)
def test_a_reference_that_names_no_model_or_an_adapter_that_does_not_fit(
    here: Path, ref: str, message: str
) -> None:
    (here / "m").mkdir()
    with pytest.raises(UsageError) as caught:
        parse_reference(ref)
    assert caught.value.message == message
    assert caught.value.hint


@given(st.text(max_size=30))
@example("~nobody/m.gguf")
@example("~\0")
def test_any_text_is_a_reference_or_a_usage_error(ref: str) -> None:
    try:
        assert isinstance(parse_reference(ref), ModelReference)
    except UsageError as error:
        assert error.hint  # noqa: PT017


def refused(ref: str) -> RedraftError:
    with pytest.raises(RedraftError) as caught:
        asyncio.run(load_engine(ref))
    return caught.value


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        (["m.gguf"], "models is a folder of GGUF files: m.gguf.", "--model models/m.gguf"),
        (
            [f"checkpoint-{step}/config.json" for step in (2, 10, 9)],
            "models contains checkpoints, but no model.",
            "--model models/checkpoint-10",
        ),
        ([], "the folder models has no model: no .gguf file and no config.json.", "The forms: "),
    ],
)
def test_a_folder_that_is_no_model(here: Path, files: list[str], message: str, hint: str) -> None:
    (here / "models").mkdir()
    for file in files:
        (here / "models" / file).parent.mkdir(exist_ok=True)
        (here / "models" / file).touch()
    error = refused("models")
    assert error.message == message
    assert str(error.hint).startswith(hint)


def test_a_folder_of_transformers_without_what_runs_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "models").mkdir()
    (here / "models" / "config.json").touch()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "transformers" else find(name)
    )
    error = refused("models")
    assert error.message == ("a transformers folder needs the extra 'train', which is not installed.")


@pytest.mark.parametrize(
    ("base", "named", "hint"),
    [
        (None, "", "--model path/folder+lora"),
        ("org/name", ": org/name", "--model path/folder+lora"),
        ("models", ": models", "--model models+lora"),
        (
            "default",
            ": default",
            "redraft weights lora-gguf lora -o lora.gguf, and then: --model default-base+lora.gguf",
        ),
    ],
)
def test_a_folder_of_an_adapter(here: Path, base: str | None, named: str, hint: str) -> None:
    (here / "models").mkdir()
    adapter_of(here / "lora", base)
    error = refused("lora")
    assert error.message == f"lora is an adapter, which needs the model that it was trained on{named}."
    assert error.hint == hint


def test_a_server_with_the_key_of_the_config(here: Path) -> None:
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("qwen"))
        server.on("POST /v1/chat/completions", chat_reply("Hello."))

        async def ask() -> str:
            config = Config(here / "config.toml", keys={server.host: KeyEntry(key="the-key-of-this-host")})
            engine = await load_engine(server.url, config=config)
            text = "".join([delta.text async for delta in engine.chat([], Sampling())])
            await engine.aclose()
            return text

        assert asyncio.run(ask()) == "Hello."
        sent = {request.headers["authorization"] for request in server.requests}
        assert sent == {"Bearer the-key-of-this-host"}


@pytest.mark.parametrize(
    "address", ["http://localhost:abc/v1", "http://localhost:99999/v1", "http://[::1/v1"]
)
def test_a_server_with_an_address_that_is_none(address: str) -> None:
    error = refused(f"{address}#m")
    assert isinstance(error, UsageError)
    assert error.message.startswith(f"{address!r} is not the address of a server: ")
    assert error.hint == "http://host:port/v1#model"


@pytest.mark.parametrize("verb", ["ask Hi", "answer prompts.txt -o out.jsonl --cache paid.db"])
def test_ctrl_c_ends_a_download(
    here: Path, hub: FakeServer, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.setenv("HF_HOME", str(here))
    Path("prompts.txt").write_text("Hi")
    publish(hub, "org/tiny", {"a.gguf": b"GGUF"})
    file = "GET /org/tiny/resolve/main/a.gguf"
    hub.on(file, Reply(200, {}, [b"GG", 60.0, b"UF"]))
    with start(*verb.split(), "--model", "org/tiny") as process:
        wait_until(lambda: hub.asked(file))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130  # the reply would take 60 s


def test_without_a_terminal_no_default_is_fetched(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_CACHE", str(here))
    assert not sys.stderr.isatty()
    with pytest.raises(ModelError) as caught:
        local_file(ModelReference("default"))
    assert caught.value.message == "the default model has not been fetched yet."
    assert caught.value.hint == "redraft model get default"


def test_a_script_that_is_not_there_is_a_missing_model() -> None:
    with pytest.raises(ModelError, match=r"there is no script none\.jsonl\.\n  Check the path"):
        asyncio.run(load_engine("script:none.jsonl"))


@pytest.mark.parametrize(
    ("ref", "settings", "said"),
    [
        ("http://localhost:1/v1#m", {"chat_template": "vicuna"}, "a server does not use it"),
        ("script:replies.jsonl", {"chat_template": "vicuna"}, "a script does not use it"),
        ("m.gguf", {"device": "cpu", "gpu_layers": 4}, "device is cpu, but gpu_layers is 4"),
        ("m.gguf", {"device": "tpu"}, "device is 'tpu'"),
        ("m.gguf", {"chat_template": "vicunia"}, "chat_template is 'vicunia'"),
        ("script:none.jsonl", {"parallel": 0}, "parallel is 0"),
        (12, {}, "the model reference is 12"),
    ],
)
def test_settings_that_the_model_does_not_have(ref: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        asyncio.run(load_engine(ref, **settings))
    assert caught.value.hint


ECHO = """
from redraft import ScriptedEngine
from redraft.engines.load import EngineKind

async def opened(reference, opening):
    return ScriptedEngine([f"An answer of {reference.target}."], name=reference.target)

ECHO = EngineKind("echo:NAME", opened)
"""


def test_an_engine_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"redraft.engines": {"echo": "redraft_echo:ECHO", "broken": "redraft_echo:NONE"}}
    install(tmp_path, "redraft-echo", points, ECHO)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert references_of("echo:a,echo:b") == ("echo:a", "echo:b")
    assert redraft.revise("Go.", model="echo:one", max_revisions=0).answer == "An answer of one."
    assert identity_of("echo:one") == {"kind": "echo", "target": "one"}
    with pytest.warns(PluginWarning, match="NONE"):
        assert "echo:NAME" in forms()
    with pytest.raises(PluginError, match=r"the engine 'broken' of the package redraft-echo 1\.0"):
        asyncio.run(load_engine("broken:x"))
    with pytest.raises(UsageError, match="the engine 'echo' does not use it"):
        asyncio.run(load_engine("echo:x", chat_template="vicuna"))


@pytest.mark.parametrize("model", RECOMMENDED, ids=lambda model: str(model.ref))
def test_each_can_be_fetched_by_its_reference(model: Recommended) -> None:
    repo, _, selects = model.ref.partition(":")
    assert parse_reference(model.ref) == ModelReference("hub", repo, selects)
    assert (memory_of(repo, selects), memory_of("org/name", None)) == (model.memory, 0)
    assert model.licence in ("Apache-2.0", "MIT")
    assert 4 < 8 * model.size / (1e9 * model.billions) < 9
    assert model.size < model.memory < 3 * model.size


def test_larger_ones_come_later() -> None:
    assert list(RECOMMENDED) == sorted(RECOMMENDED, key=lambda model: model.size)
    assert list(BY_NAME) == ["small", "medium", "large"]

"""Model folders are untrusted: no verb follows a link out of one, or writes through a link."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from redraft.engines.hf.engine import HfEngine
from redraft.errors import ModelError, OutputError, RedraftError
from redraft.options import MachineOptions
from redraft.train.load import load_tokenizer
from redraft.weights.convert import convert
from redraft.weights.delta import apply, diff
from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.info import describe
from redraft.weights.lora.gguf import lora_gguf
from redraft.weights.lora.merge import merge_lora
from redraft.weights.output import Run
from redraft.weights.verify import verify
from tests.weights.model_files import save_bin
from tests.weights.tiny_folders import load, lora, tiny_folder

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----"
SAFE = Path("safe")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("made")
    tiny_folder(here / "model")
    diff(here / "model", here / "model", here / "delta")
    lora(here / "model", here / "adapter")
    save_bin(here / "pickled", load(here / "model").state_dict())
    shutil.copy(here / "model" / "config.json", here / "pickled")
    return here


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "work")
    shutil.copytree(made, tmp_path / "work" / SAFE)
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "id_rsa").write_text(KEY)
    return tmp_path / "work"


def engine(folder: Path, *adapters: Path) -> None:
    async def start() -> None:
        machine = MachineOptions(ctx=64, threads=1, device="cpu")
        await (await HfEngine.start(folder, adapters, machine=machine, parallel=1)).aclose()

    asyncio.run(start())


def sound(path: Path, *, allow_pickle: bool = False) -> None:
    report = verify(path, allow_pickle=allow_pickle)
    if not report.sound:
        raise ModelError("\n".join(report.lines()))


VERBS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "convert": ("model", lambda p: convert(p / "model", p / "out")),
    "convert pickled": ("pickled", lambda p: convert(p / "pickled", p / "out", Run(allow_pickle=True))),
    "gguf": ("model", lambda p: export_gguf(p / "model", p / "out.gguf")),
    "diff": ("model", lambda p: diff(p / SAFE / "model", p / "model", p / "out")),
    "apply": ("delta", lambda p: apply(p / SAFE / "model", p / "delta", p / "out")),
    "apply, base": ("model", lambda p: apply(p / "model", p / SAFE / "delta", p / "out")),
    "merge-lora": ("adapter", lambda p: merge_lora(p / SAFE / "model", p / "adapter", p / "out")),
    "merge-lora, base": ("model", lambda p: merge_lora(p / "model", p / SAFE / "adapter", p / "out")),
    "lora-gguf": ("adapter", lambda p: lora_gguf(p / "adapter", p / "out", base=p / SAFE / "model")),
    "info": ("model", lambda p: describe(p / "model")),
    "info of pickles": ("pickled", lambda p: describe(p / "pickled")),
    "verify": ("model", lambda p: sound(p / "model")),
    "verify pickled": ("pickled", lambda p: sound(p / "pickled", allow_pickle=True)),
    "train": ("model", lambda p: load_tokenizer(str(p / "model"), pad_token=None, say=print)),
    "engine": ("model", lambda p: engine(p / "model")),
    "engine with an adapter": ("adapter", lambda p: engine(p / SAFE / "model", p / "adapter")),
}


def link_file(folder: Path, secret: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.jinja").symlink_to(secret)


def link_chain(folder: Path, secret: Path) -> None:
    (folder / "notes.jinja").symlink_to(secret)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.jinja").symlink_to("notes.jinja")


def link_relative(folder: Path, secret: Path) -> None:
    (folder / "added_tokens.json").symlink_to(f"../../{secret.parent.name}/{secret.name}")


def link_folder(folder: Path, secret: Path) -> None:
    (folder / "additional_chat_templates").symlink_to(secret.parent)


def link_weights(folder: Path, secret: Path) -> None:
    weights = next(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    weights.rename(secret.parent / weights.name)
    weights.symlink_to(secret.parent / weights.name)


@pytest.mark.parametrize(
    ("verb", "link"),
    [
        *((verb, link) for verb in VERBS for link in (link_file, link_folder, link_weights)),
        *(("convert", link) for link in (link_chain, link_relative)),
    ],
)
def test_no_verb_follows_a_link_out(here: Path, verb: str, link: Callable[[Path, Path], None]) -> None:
    folder, run = VERBS[verb]
    link(here / folder, here.parent / "ssh" / "id_rsa")
    with pytest.raises(ModelError, match=r"is a link to .*, outside of its folder"):
        run(here)
    written = [path for path in here.glob("out*") if path.is_file()] + list(here.glob("out*/**/*"))
    assert [path for path in written if path.is_file() and KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("verb", [name for name in VERBS if "engine" not in name])
def test_without_links_they_all_run(here: Path, verb: str) -> None:
    VERBS[verb][1](here)


@pytest.mark.parametrize("verb", ["convert", "gguf", "diff", "info", "verify", "engine"])
def test_an_index_names_files_of_its_folder_alone(here: Path, verb: str) -> None:
    folder = here / "model"
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"t": "../ssh/id_rsa.safetensors"}})
    )
    (here / "ssh").mkdir()
    shutil.copy(folder / "model.safetensors", here / "ssh" / "id_rsa.safetensors")
    with pytest.raises(RedraftError):
        VERBS[verb][1](here)


def test_the_base_that_an_adapter_names_is_not_written_anywhere(here: Path) -> None:
    config = here / "adapter" / "adapter_config.json"
    said = json.loads(config.read_text()) | {"base_model_name_or_path": str(here.parent / "ssh" / "id_rsa")}
    config.write_text(json.dumps(said))
    with pytest.raises(ModelError):
        lora_gguf(here / "adapter", here / "out.gguf")
    assert not (here / "out.gguf").exists()


def test_a_file_that_the_user_names_may_be_a_link(here: Path) -> None:
    (here / "named.safetensors").symlink_to(here / "model" / "model.safetensors")
    assert describe(here / "named.safetensors").parameters
    assert verify(here / "named.safetensors").tensors


# Writing.


@pytest.mark.parametrize("name", ["out.gguf.redraft-partial", "out.gguf.redraft-lock", "out.gguf"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_file_is_not_written_through_a_planted_link(here: Path, name: str, hard: bool) -> None:
    victim = here.parent / "ssh" / "id_rsa"
    (here / name).hardlink_to(victim) if hard else (here / name).symlink_to(victim)
    with pytest.raises(OutputError):
        export_gguf(here / "model", here / "out.gguf")
    assert victim.read_text() == KEY
    assert (here / name).samefile(victim)


@pytest.mark.parametrize("name", ["out.partial", "out.redraft-lock", "out"])
def test_a_folder_is_not_written_through_a_planted_link(here: Path, name: str) -> None:
    victim = here.parent / "ssh"
    (here / name).symlink_to(victim if name != "out.redraft-lock" else victim / "id_rsa")
    with pytest.raises(OutputError):
        convert(here / "model", here / "out")
    assert [path.name for path in victim.iterdir()] == ["id_rsa"]
    assert (victim / "id_rsa").read_text() == KEY


def test_a_manifest_is_not_written_through_a_planted_link(here: Path) -> None:
    victim = here.parent / "ssh" / "id_rsa"
    (here / "out.gguf.redraft.json").symlink_to(victim)
    export_gguf(here / "model", here / "out.gguf")
    assert victim.read_text() == KEY

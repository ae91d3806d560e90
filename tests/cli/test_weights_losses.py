"""`redraft weights`: nothing is lost in silence. Licences, inputs and numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader

from redraft.errors import OutputError
from redraft.weights.replace import check_room
from redraft.weights.vocabulary import mean_row
from tests.cli.weights_verb import base_and_target, weights
from tests.weights.model_files import WIDTH, llama, load, save
from tests.weights.tiny_folders import tiny_folder

CARD = """---
license: other
license_name: llama-own
license_link: https://example.org/license
base_model:
- org/base
language: en
---
# A model
"""
TEXTS = {"README.md": CARD, "LICENSE.txt": "Terms.", "USE_POLICY.md": "Do no harm.", "NOTICE": "Made by us."}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return base_and_target(tmp_path)


def write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)


def texts_in(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in TEXTS if (folder / name).exists()}


# Cards and licences


def test_cards_and_licences_go_along(here: Path) -> None:
    write(here / "target", TEXTS)
    assert weights("convert", "target", "-o", "copy").exit_code == 0
    assert weights("diff", "base", "target", "-o", "delta").exit_code == 0
    assert weights("apply", "base", "delta", "-o", "again").exit_code == 0
    for folder in ("copy", "delta", "again"):
        assert texts_in(here / folder) == TEXTS


def test_a_gguf_file_names_licence_and_base_and_gives_them_back(here: Path) -> None:
    tiny_folder(here / "model")
    write(here / "model", TEXTS)
    assert weights("gguf", "model", "-o", "m.gguf").exit_code == 0
    fields = GGUFReader(here / "m.gguf").fields
    said = {name: each.contents() for name, each in fields.items() if name.startswith("general.")}
    assert said["general.license"] == "other"
    assert said["general.license.name"] == "llama-own"
    assert said["general.license.link"] == "https://example.org/license"
    assert (said["general.base_model.count"], said["general.base_model.0.name"]) == (1, "Base")
    assert said["general.base_model.0.repo_url"] == "https://huggingface.co/org/base"
    assert weights("from-gguf", "m.gguf", "-o", "back").exit_code == 0
    card = (here / "back" / "README.md").read_text()
    front = CARD.partition("language")[0].removeprefix("---\n")
    assert card.startswith("---\n")
    assert set(front.splitlines()) <= set(card.splitlines())


@pytest.mark.parametrize("card", ["", "no front", "---\nlicense:\n---\n", "---\nlicense: [\n" * 50])
def test_a_card_that_says_nothing(here: Path, card: str) -> None:
    tiny_folder(here / "model")
    (here / "model" / "README.md").write_text(card)
    assert weights("gguf", "model", "-o", "m.gguf").exit_code == 0
    assert "general.license" not in GGUFReader(here / "m.gguf").fields


# Inputs


@pytest.mark.parametrize(
    "args",
    [
        ["apply", "base", "delta", "-o", "delta", "--force"],
        ["apply", "base", "delta", "-o", "base", "--force"],
        ["apply", "base", "delta", "-o", "./base/../delta", "--force"],
        ["apply", "base", "delta", "-o", "link", "--force"],
        ["apply", "base", "link", "-o", "delta", "--force"],
        ["apply", "base", "delta", "-o", "delta/within"],
        ["diff", "base", "target", "-o", "target", "--force"],
        ["convert", "delta", "-o", "delta", "--force"],
        ["convert", "delta/model-00001-of-00002.safetensors", "-o", "delta", "--force"],
    ],
)
def test_an_input_is_not_an_output(here: Path, args: list[str]) -> None:
    weights("diff", "base", "target", "-o", "delta")
    (here / "link").symlink_to("delta")
    before = {path: path.read_bytes() for path in sorted(here.glob("*/*")) if path.is_file()}
    result = weights(*args)
    assert result.exit_code == 2
    assert "which is an input of this command" in result.stderr
    assert {path: path.read_bytes() for path in sorted(here.glob("*/*")) if path.is_file()} == before


def test_a_gguf_file_is_not_its_own_input(here: Path) -> None:
    tiny_folder(here / "model")
    assert weights("gguf", "model", "-o", "model/m.gguf").exit_code == 0, "beside the weights it may lie"
    assert weights("from-gguf", "model/m.gguf", "-o", "model", "--force").exit_code == 2
    assert (here / "model" / "model.safetensors").exists()


# Numbers


def test_the_mean_row_is_not_rounded_to_the_bases_dtype(here: Path) -> None:
    """Alpaca's weight_diff.py loads both models in 32 bits, and takes the mean there."""
    from redraft.weights.checkpoint import open_checkpoint

    base = llama(dtype=torch.float16)
    save(here / "half", base)
    table = base["model.embed_tokens.weight"].float()
    mean = mean_row(open_checkpoint(here / "half"), "model.embed_tokens.weight")
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, table.mean(dim=0), rtol=1e-5, atol=1e-9)
    assert not torch.equal(mean, mean.half().float())


def test_a_delta_of_alpacas_gives_the_row_of_the_released_script(here: Path) -> None:
    base = llama(dtype=torch.float16)
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    change = {name: torch.zeros_like(each, dtype=torch.float32) for name, each in base.items()}
    for name in tables:
        change[name] = torch.cat((change[name], torch.full((1, WIDTH), 1e-4)))
    save(here / "half", base)
    save(here / "diff", change)
    assert weights("apply", "half", "diff", "-o", "again", "--vocab", "mean").exit_code == 0
    for name in tables:
        expected = base[name].float().mean(dim=0) + 1e-4
        torch.testing.assert_close(load(here / "again")[name][-1], expected, rtol=1e-6, atol=1e-9)


def test_the_room_that_is_missing_is_in_digits_that_differ(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 300_000_000
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(OutputError, match=r"needs 0\.302 GB, and the disk has 0\.300 GB free"):
        check_room(here / "out", free + 2_000_000)
    with pytest.raises(OutputError, match=r"needs 0\.300000001 GB, and the disk has 0\.300000000 GB free"):
        check_room(here / "out", free + 1)


# info


def test_info_as_json(here: Path) -> None:
    result = weights("info", "base", "--json")
    said = json.loads(result.stdout)
    assert (result.exit_code, said["kind"]) == (0, "model")
    assert said["parameters"] == sum(each.numel() for each in llama().values())
    assert said["facts"]["architecture"] == "LlamaForCausalLM"
    count = said["parameters"]
    assert said["dtypes"] == [
        {"dtype": "BF16", "tensors": len(llama()), "elements": count, "size": 2 * count}
    ]
    assert [each["name"] for each in said["files"]] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]

"""Licences on their way: from records through training, merging and conversion, to a file for llama.cpp."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import Result

from redraft.weights.gguf.reader import read_header
from tests.cli import verbs
from tests.train.tiny import chains, model_folder

TRAIN = (
    "train sft --model_name_or_path base --output_dir out --model_max_length 128 --max_steps 2 "
    "--cache_dir cache --bf16 False --quiet --data_path"
)
CLASH = (
    "the sources have different licences: apache-2.0 (base base); cc-by-nc-4.0 (data alpaca). "
    "So the result's licence is 'other'. Commercial use is forbidden by cc-by-nc-4.0."
)


def redraft(*words: str) -> Result:
    done = verbs.redraft(*" ".join(words).split())
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = model_folder(tmp_path_factory.mktemp("licences") / "base")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: org/older\n---\n# Base\n")
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path) -> None:
    Path("model").rename("base")
    data("CC BY-NC 4.0")


def data(licence: str) -> None:
    origin = {"dataset": "alpaca", "licence": licence}
    records = verbs.lines(chains(Path("plain.jsonl")))
    verbs.write("data.jsonl", [each | {"meta": {"origin": origin}} for each in records])


def card(folder: str) -> list[str]:
    return Path(folder, "README.md").read_text().split("\n---\n")[0].splitlines()[1:]


MIXED = [
    "license: other",
    "license_name: apache-2.0-and-cc-by-nc-4.0",
    "base_model:", "- org/older", "redraft_sources:", '- "base base: apache-2.0"',
    '- "data alpaca: cc-by-nc-4.0"',
]  # fmt: skip


def test_an_adapter_of_data_for_study_stays_so_in_every_file_that_is_made_of_it() -> None:
    assert redraft(TRAIN, "data.jsonl --lora True").stderr == ""
    loud = TRAIN.replace("--quiet", "--overwrite_output_dir")
    said = [redraft(loud, "data.jsonl --lora True --gguf adapter.gguf").stderr]
    assert card("out") == card("out/checkpoint-2") == MIXED
    session = json.loads(Path("out.run.json").read_text())["sessions"][0]
    assert session["sources"][1] == {"kind": "data", "name": "alpaca", "licence": "CC BY-NC 4.0"}
    said.append(redraft("weights merge-lora base out -o merged").stderr)
    said.append(redraft("weights gguf merged -o merged.gguf").stderr)
    assert [text.count(f"redraft: {CLASH}\n") for text in said] == [1, 1, 1]
    assert "`redraft train sft` trained it: 2 steps of " in Path("out/README.md").read_text()
    shutil.move("base", "copy")  # whose folder is known under another name
    assert redraft("weights merge-lora copy out -o another --quiet").stderr == ""
    assert card("another") == MIXED
    assert card("merged") == MIXED
    again = verbs.redraft("weights", "lora-gguf", "out", "-o", "adapter.gguf", "--base", "copy")
    assert again.stderr.startswith("redraft: adapter.gguf exists.")
    for name in ("merged.gguf", "adapter.gguf"):
        keys = read_header(Path(name)).metadata
        assert keys["general.license"] == "other"
        assert keys["general.license.name"] == "apache-2.0, cc-by-nc-4.0"
        assert keys["redraft.sources"] == ("base base: apache-2.0", "data alpaca: cc-by-nc-4.0")
    redraft("weights from-gguf merged.gguf -o again")
    assert card("again") == MIXED


def test_a_model_trained_further_keeps_what_its_adapter_was_made_of() -> None:
    redraft(TRAIN, "data.jsonl --lora True")
    data("MIT")
    further = (
        TRAIN.replace(" --quiet", "").replace("_path base", "_path base+out").replace("dir out", "dir two")
    )
    said = redraft(further, "data.jsonl --lora False").stderr
    assert "(data alpaca); mit (data alpaca). So the result's licence is 'other'. Commercial use is" in said
    assert card("two")[1] == "license_name: apache-2.0-and-cc-by-nc-4.0-and-mit"
    assert Path("two/config.json").is_file()


def test_one_licence_of_all_stays_and_is_no_news() -> None:
    data("Apache 2.0")
    assert redraft(TRAIN, "data.jsonl --lora True").stderr == ""
    assert card("out")[0] == "license: apache-2.0"
    assert redraft("weights merge-lora base out -o merged --quiet").stderr == ""
    assert (card("merged")[0], card("merged")[-1]) == ("license: apache-2.0", '- "data alpaca: apache-2.0"')


def test_data_without_a_licence_are_told_and_the_bases_is_not_claimed() -> None:
    said = redraft(TRAIN.replace("--quiet", ""), "plain.jsonl --lora True").stderr
    assert "(data plain). So the result's licence is 'other'. Before you publish the result, " in said
    assert card("out")[:2] == ["license: other", "license_name: apache-2.0-and-unknown"]


@pytest.mark.slow
def test_a_format_without_a_place_for_licences_does_not_lose_them() -> None:
    redraft("data export data.jsonl --to alpaca -o plain.json -q")
    assert json.loads(Path("plain.json.run.json").read_text())["licences"] == {"CC BY-NC 4.0": 24}
    assert (
        "cc-by-nc-4.0 (data plain)" in redraft(TRAIN.replace(" --quiet", ""), "plain.json --lora True").stderr
    )
    redraft("data clean plain.json -o clean.jsonl -q")
    assert json.loads(Path("clean.jsonl.run.json").read_text())["licences"] == {"CC BY-NC 4.0": 0}
    redraft("data import clean.jsonl -o imported.jsonl -q")
    assert verbs.lines("imported.jsonl")[0]["meta"]["origin"]["licence"] == "CC BY-NC 4.0"


def test_a_card_of_the_users_is_left_alone() -> None:
    Path("out").mkdir()
    Path("out/README.md").write_text("my notes")
    redraft(TRAIN, "data.jsonl --lora True")
    assert Path("out/README.md").read_text() == "my notes"

"""The card of an output: what it says, and what of the user's it leaves alone."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from redraft.chain import Chain, Feedback, Prompt, Step, Usage
from redraft.errors import OutputError, RecordError
from redraft.generate.card import MARK, write_card
from redraft.generate.chains import ChainCounts
from redraft.jobs.ledger import Ledger
from redraft.jobs.provenance import Provenance, RunFile

CONFIG: dict[str, Any] = {
    "model": "http://localhost:8000/v1#big",
    "critic": "small|er`",
    "prompts": {"name": "teacher", "sha256": "ab12"},
    "seed": 7,
    "temperature": 1.0,
    "max_tokens": 99,
    "gold": True,
    "system": "Be\nbrief. " * 100,
}


def chain(usd: float | None) -> Chain:
    steps = (
        Step(answer="a", feedback=Feedback(text="No.", verdict="revise")),
        Step(answer="b", feedback=Feedback(text="Yes.", verdict="accept")),
    )
    usage = Usage(prompt_tokens=1500, completion_tokens=250, cost_usd=usd)
    meta = {"generated": {"cleaned": {"remarks": 2}, "leaks": [{"step": 0, "part": "feedback"}]}}
    return Chain(prompt=Prompt(instruction="?"), steps=steps, best=1, stop="accepted", usage=usage, meta=meta)


def made(
    folder: Path,
    usd: float | None = 0.25,
    recipe: str = "",
    **config: Any,
) -> dict[str, str]:
    """Make an output of one chain in two runs, with one failure. Return the rows of its card."""
    out, source, counts = folder / "out.jsonl", folder / "records.jsonl", ChainCounts()
    source.write_text("{}\n")
    provenance = Provenance("generate chains", CONFIG | config, source)
    for ids in (["a/1"], ["a/2"]):
        with Ledger(out, provenance) as ledger:
            ledger.figures = lambda: {"tokens": 300, "usd": usd or 0.0}
            for item_id in ids:
                ledger.append(item_id, chain(usd).model_copy(update={"id": item_id}).to_json())
            ledger.fail("a/3", RecordError("a/3 has no gold answer."))
    for _ in range(2):
        counts.add(chain(usd))
    write_card(out, counts, recipe)
    text = (folder / "out.jsonl.card.md").read_text()
    rows = [line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| ")]
    return {"text": text, **{row[0]: row[1] for row in rows if len(row) == 2}}


def test_it_says_how_the_chains_were_made(tmp_path: Path) -> None:
    card = made(tmp_path)
    assert card["records"].startswith(f"`{tmp_path}/records.jsonl`, SHA-256 `ca3d163b")
    assert card["writer"] == "`http://localhost:8000/v1#big`"
    assert card["wording"] == "`teacher`, SHA-256 `ab12`"
    assert card["seed"] == "7"
    assert card["settings"].startswith("max_tokens `99`, gold `true`, system `Be brief. Be brief.")
    assert card["settings"].endswith("…`")
    assert card["redraft"].startswith("0.")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"gold": True, "first": True}, "gold `true`, first `true`"),
        ({"gold": None, "critic": None, "verify": "code"}, "verify `code`"),
        ({"gold": False, "keep": ["apologies"]}, 'keep `["apologies"]`'),
        ({"gold": None, "temperature": 0.0, "max_revisions": 0}, "temperature `0.0`, max_revisions `0`"),
        ({"gold": None, "tell_checks": False}, "tell_checks `false`"),
        ({"gold": None, "min_revisions": 0, "top_p": None, "keep": []}, "the defaults"),
    ],
)
def test_every_setting_that_is_not_the_default_is_named(
    tmp_path: Path, config: dict[str, Any], told: str
) -> None:
    assert made(tmp_path, max_tokens=None, system=None, **config)["settings"] == told


@pytest.mark.parametrize(
    ("config", "judge"),
    [
        ({"gold": None, "critic": None}, "critic `http://localhost:8000/v1#big`"),
        ({}, "critic `small\\|er'`, which saw the record's gold answer"),
        ({"gold": None, "verify": "code"}, "a check with the record's unit tests"),
        ({"verify": "number", "check": ["json"]}, "a check that knows the right number; checks: `json`"),
        ({"gold": None, "check": ["json"], "critic": None}, "checks: `json`"),
        (
            {"gold": None, "check": ["json"], "mode": "prompted"},
            "checks: `json`; critic `small\\|er'`",
        ),
        ({"gold": None, "mode": "native"}, "the model itself"),
    ],
)
def test_it_says_who_judged(tmp_path: Path, config: dict[str, Any], judge: str) -> None:
    text = made(tmp_path, recipe="mine.yaml", **config)["text"]
    assert f"| verdicts | {judge} |" in text
    assert "recipe `mine.yaml`" in text


def test_it_counts_what_is_there_and_what_it_cost(tmp_path: Path) -> None:
    card = made(tmp_path)
    assert card["chains"] == "2"
    assert card["corrections"] == "2, 1.00 a chain"
    assert "| verdicts | revise 2, accept 2 |" in card["text"]
    assert card["stopped"] == "accepted 2"
    assert card["cleaned"] == "remarks 4"
    assert card["leaks"] == "2 chains with a quote of the gold answer"
    assert card["failed"] == "1 record: bad prompt 1"
    assert card["these chains"] == "500 new tokens, 3,000 in prompts, 0.5000 USD"
    assert card["paid in all"] == "600 new tokens, 0.5000 USD, with failures"
    assert card["runs"].startswith("2, 0:00:0")


def test_without_a_price_no_money_is_named(tmp_path: Path) -> None:
    card = made(tmp_path, None, gold=None, verify="number", first=True)
    assert "USD" not in card["text"]
    assert card["first answer"] == "the record's own"


def test_chains_that_were_made_before_a_price_was_given_are_told(tmp_path: Path) -> None:
    made(tmp_path)
    counts = ChainCounts()
    for usd in (0.5, None, None):
        counts.add(chain(usd))
    write_card(tmp_path / "out.jsonl", counts, "")
    text = (tmp_path / "out.jsonl.card.md").read_text()
    said = "0.5000 USD; 2 chains were made without a price"
    assert f"| these chains | 750 new tokens, 4,500 in prompts, {said} |" in text
    assert "| paid in all | at least 750 new tokens, 0.5000 USD, with failures |" in text
    assert ("cost", said) in counts.rows()


def test_a_run_that_was_killed_is_told(tmp_path: Path) -> None:
    made(tmp_path)
    run = RunFile(tmp_path / "out.jsonl")
    record = json.loads(run.path.read_text())
    del record["sessions"][0]["ended"]
    run.path.write_text(json.dumps(record))
    write_card(tmp_path / "out.jsonl", ChainCounts(), "")
    text = (tmp_path / "out.jsonl.card.md").read_text()
    assert "1 more run ended without saying what it took" in text
    assert "| chains | 0 |" in text
    assert "| paid in all | at least 300 new tokens, 0.2500 USD, with failures |" in text


def test_what_the_user_wrote_below_licence_stays(tmp_path: Path) -> None:
    made(tmp_path)
    card, out = tmp_path / "out.jsonl.card.md", tmp_path / "out.jsonl"
    assert "Not stated: fill it in." in card.read_text()
    head = card.read_text().partition("Not stated")[0]
    card.write_text(f"{head}CC0 1.0.\n\n## Thanks\n\nTo Ann.\n")
    write_card(out, ChainCounts(), "")
    assert card.read_text().startswith(MARK)
    assert card.read_text().endswith("## Licence\n\nCC0 1.0.\n\n## Thanks\n\nTo Ann.\n")


@pytest.mark.parametrize("kind", ["notes", "link", "folder"])
def test_something_else_of_that_name_is_left_alone(tmp_path: Path, kind: str) -> None:
    card, other = tmp_path / "out.jsonl.card.md", tmp_path / "other.md"
    other.write_text(f"{MARK}\nmine")
    if kind == "notes":
        card.write_text("# My notes")
    elif kind == "link":
        card.symlink_to(other)
    else:
        card.mkdir()
    with pytest.raises(OutputError, match="is not a card of redraft's"):
        write_card(tmp_path / "out.jsonl", ChainCounts(), "")
    assert other.read_text() == f"{MARK}\nmine"
    assert kind != "notes" or card.read_text() == "# My notes"


def test_a_run_that_finished_nothing_has_paid_all_the_same(tmp_path: Path) -> None:
    out, provenance = tmp_path / "out.jsonl", Provenance("generate chains", CONFIG)
    for _ in range(2):
        with Ledger(out, provenance) as ledger:
            ledger.figures = lambda: {"tokens": 300, "usd": 0.5}
    write_card(out, ChainCounts(), "")
    text = (tmp_path / "out.jsonl.card.md").read_text()
    assert "| these chains | 0 new tokens," in text
    assert "| paid in all | 600 new tokens, 1.0000 USD," in text


def test_a_card_that_cannot_be_written_says_nothing_of_chains_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("redraft.files.replace_file", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        write_card(tmp_path / "out.jsonl", ChainCounts(), "")
    assert "complete" not in str(caught.value.hint)
    assert "out.jsonl is safe" in str(caught.value.hint)

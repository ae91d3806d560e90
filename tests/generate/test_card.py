"""The card of an output: what it says, and what of the user's it leaves alone."""

from __future__ import annotations

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
    "drop_leaks": None,
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


def made(folder: Path, usd: float | None = 0.25, *, dropped: bool = False, **config: Any) -> dict[str, str]:
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
    write_card(out, counts, 3 if dropped else 0, {"temperature": 1.0})
    text = (folder / "out.jsonl.card.md").read_text()
    rows = [line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| ")]
    return {"text": text, **{row[0]: row[1] for row in rows if len(row) == 2}}


def test_it_says_how_the_chains_were_made(tmp_path: Path) -> None:
    card = made(tmp_path)
    assert "which saw the record's gold answer" in card["text"]
    assert card["records"].startswith(f"`{tmp_path}/records.jsonl`, 3 bytes, SHA-256 `ca3d163b")
    assert card["writer"] == "`http://localhost:8000/v1#big`"
    assert card["critic"] == "`small\\|er'`"
    assert card["wording"] == "`teacher`, SHA-256 `ab12`"
    assert card["seed"] == "7"
    assert card["settings"].startswith("max_tokens `99`, system `Be brief. Be brief.")
    assert card["settings"].endswith("…`")
    assert card["redraft"].startswith("0.")


def test_it_counts_what_is_there_and_what_it_cost(tmp_path: Path) -> None:
    card = made(tmp_path)
    assert card["chains"] == "2"
    assert card["corrections"] == "2, 1.00 a chain"
    assert card["verdicts"] == "revise 2, accept 2"
    assert card["stopped"] == "accepted 2"
    assert card["cleaned"] == "remarks 4"
    assert card["leaks"] == "2 chains with a quote of the gold answer"
    assert card["failed"] == "1 record: bad prompt 1"
    assert card["these chains"] == "500 new tokens, 3,000 in prompts, 0.5000 USD"
    assert card["paid in all"].startswith("600 new tokens, 0.5000 USD")
    assert card["runs"].startswith("2, 0:00:0")


def test_without_a_price_no_money_is_named(tmp_path: Path) -> None:
    card = made(tmp_path, None, dropped=True, critic=None, gold=None, verify="number", first=True)
    assert "USD" not in card["text"]
    assert card["leaks"] == "2 chains with a quote of the gold answer; 3 more chains dropped for one"
    assert "critic" not in card
    assert (
        "The first answer is the record's own. A check that knows the right number judged it" in card["text"]
    )


def test_a_run_that_was_killed_is_told(tmp_path: Path) -> None:
    made(tmp_path)
    run = RunFile(tmp_path / "out.jsonl")
    record = json.loads(run.path.read_text())
    del record["sessions"][0]["ended"]
    run.path.write_text(json.dumps(record))
    write_card(tmp_path / "out.jsonl", ChainCounts(), 0, {})
    text = (tmp_path / "out.jsonl.card.md").read_text()
    assert "1 more run ended without saying what it took" in text
    assert "| chains | 0 |" in text


def test_what_the_user_wrote_below_licence_stays(tmp_path: Path) -> None:
    made(tmp_path)
    card, out = tmp_path / "out.jsonl.card.md", tmp_path / "out.jsonl"
    assert "Not stated: fill it in." in card.read_text()
    head = card.read_text().partition("Not stated")[0]
    card.write_text(f"{head}CC0 1.0.\n\n## Thanks\n\nTo Ann.\n")
    write_card(out, ChainCounts(), 0, {})
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
        write_card(tmp_path / "out.jsonl", ChainCounts(), 0, {})
    assert other.read_text() == f"{MARK}\nmine"
    assert kind != "notes" or card.read_text() == "# My notes"


def test_a_run_that_finished_nothing_has_paid_all_the_same(tmp_path: Path) -> None:
    out, provenance = tmp_path / "out.jsonl", Provenance("generate chains", CONFIG)
    for _ in range(2):
        with Ledger(out, provenance) as ledger:
            ledger.figures = lambda: {"tokens": 300, "usd": 0.5}
    write_card(out, ChainCounts(), 0, {})
    assert "| paid in all | 600 new tokens, 1.0000 USD;" in (tmp_path / "out.jsonl.card.md").read_text()
    with Ledger(out, Provenance("generate chains", CONFIG | {"seed": 8})):
        assert len((RunFile(out).read() or {})["sessions"]) == 1

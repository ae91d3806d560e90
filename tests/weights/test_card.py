from __future__ import annotations

from pathlib import Path

import pytest

from redraft.jobs.licences import Source
from redraft.weights.card import bases_of, card_metadata, card_of, card_text, model_name, sources_of

MIX = (Source("base", "org/one", "apache-2.0"), Source("data", "alpaca", "cc-by-nc-4.0"))


def card(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(text)
    return folder


def test_a_card_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = card(tmp_path / "m", card_text("m", MIX, ["org/one"]))
    assert (sources_of(folder, "model"), bases_of(folder)) == (MIX, ["org/one"])
    assert "datasets:\n- org/set\nredraft" in card_text("m", [*MIX, Source("data", "org/set", "mit")])
    assert "| base | org/one | apache-2.0 |" in (folder / "README.md").read_text()
    kept = card_metadata(folder).items()
    again = card_of({key: tuple(each) if isinstance(each, list) else each for key, each in kept})
    assert again is not None
    assert sources_of(card(tmp_path / "n", again), "model") == MIX


def test_any_name_can_be_written_and_read_again(tmp_path: Path) -> None:
    odd = (Source("data", 'a "b": c|d\n---', "terms, of | a site"), Source("data", "🦆" * 99, "x" * 300))
    first, second = sources_of(card(tmp_path / "m", card_text("m", odd)), "model")
    assert first == Source("data", "a b c d ---", "of-a-site AND terms")
    assert second.name == "without a name"


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: mit", "mit"),
        ("license: cc-by-nc-4.0  # not for sale\ntags: a", "cc-by-nc-4.0"),
        ("license: other\nlicense_name: yi-license", "yi-license"),
        ("license: [mit, apache-2.0]", "mit AND apache-2.0"),
        ("license: other", "other"),
        ("tags: a", "unknown"),
    ],
)
def test_the_licence_of_a_card_without_sources(tmp_path: Path, front: str, licence: str) -> None:
    assert sources_of(card(tmp_path / "m", f"---\n{front}\n---\n"), "base") == (Source("base", "m", licence),)


def test_a_licence_that_the_user_wrote_into_our_card_counts(tmp_path: Path) -> None:
    ours = "license: other\nlicense_name: apache-2.0-and-cc-by-nc-4.0"
    text = card_text("m", MIX).replace(ours, "license: mit")
    assert sources_of(card(tmp_path / "m", text), "model") == (Source("model", "m", "mit"),)


def test_licences_that_the_hub_does_not_know_are_other(tmp_path: Path) -> None:
    text = card_text("m", [Source("data", "d", "terms of the site")])
    assert "license: other\nlicense_name: terms-of-the-site\n" in text
    assert "license: cc-by-nc-4.0\n" in card_text("m", [Source("data", "d", "CC BY-NC 4.0")])
    assert sources_of(card(tmp_path / "m", text), "model")[0].licence == "terms-of-the-site"


def test_a_model_of_the_hub_has_its_name_there(tmp_path: Path) -> None:
    assert model_name(tmp_path / "models--org--one-b" / "snapshots" / "0123") == "org/one-b"
    assert model_name(tmp_path / "tiny-0123456789abcdef") == "tiny"

"""Token counts by chunks equal those of whole texts, for every accepted tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

import redraft.chain
from redraft.cli.data.common import token_count
from redraft.weights.tokenizers import count as module
from redraft.weights.tokenizers.count import RULES, Chunks, blank_of, tokenizer_json
from redraft.weights.tokenizers.pretokenizers import PRE_TOKENIZERS, pre_tokenizer_json

END, UNKNOWN = "<|end|>", "<unk>"
_WORDS = "the The word words. don't 's 'LL 1 12 12345 3.14 \u00b2 \u2167 . ... !? $ / = ``` ** e\u0301"
_WORDS += " \u0301 \u0344 \u00b4 \ud55c\uad6d\uc5b4 \u1100 \u1161 \u65e5\u672c\u8a9e \u0e20\u0e32\u0e29\u0e32"
_WORDS += (
    f" \U0001f44d\U0001f3fd \U0001f469\u200d\U0001f467 \u0120 \u010a \u2581 \u2581a {END} <|end |> {UNKNOWN}"
)
_BLANKS = ("  ", "   ", "\n", "\n\n", "\n  ", "\t", "\r\n", *"\xa0\u3000\u2028\x1c\x85\u180e\u200b\x00\ufeff")
_ODD = (" ", " ", " ", *_BLANKS, "def f(x):", *_WORDS.split(" "))
TEXTS = st.lists(st.sampled_from(_ODD) | st.text(max_size=5), max_size=30).map("".join)


def trained(pre_tokenizer: Any, normalizer: Any = None, **model: Any) -> Tokenizer:
    """Train a tokenizer of these parts on redraft's own source and some odd texts."""
    written = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "model": {"type": "BPE", "vocab": {}, "merges": []} | model,
    }
    tokenizer = Tokenizer.from_str(json.dumps(written))
    source = Path(redraft.chain.__file__).read_text("utf-8")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1200, initial_alphabet=[*alphabet, "▁"], show_progress=False, special_tokens=[UNKNOWN]
    )
    tokenizer.train_from_iterator([*source.split("\n\n"), *_ODD, *(2 * source.split("\n"))], trainer)
    tokenizer.add_special_tokens([AddedToken(END, normalized=False)])
    return tokenizer


REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE]}


def metaspace(scheme: str, *, split: bool) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


@cache
def tokenizer_named(name: str) -> Tokenizer:
    """Recognised by the rule of byte-level tokenizers, or by how blanks are marked."""
    match name:
        case "prepend":  # trained without marks between words, as Llama 2 has none
            learned = trained(metaspace("always", split=True), unk_token=UNKNOWN, fuse_unk=True)
            written = json.loads(learned.to_str()) | {"normalizer": PREPEND, "pre_tokenizer": None}
            written["added_tokens"] = [each | {"normalized": False} for each in written["added_tokens"]]
            return Tokenizer.from_str(json.dumps(written))
        case "always" | "first":
            return trained(metaspace(name, split=True), unk_token=UNKNOWN)
    rule = PRE_TOKENIZERS[name]
    normalizer = {"type": "NFC"} if rule.nfc else None
    tokenizer = trained(pre_tokenizer_json(rule), normalizer, ignore_merges=rule.ignore_merges)
    return _not_normalized(tokenizer) if rule.nfc else tokenizer


def _not_normalized(tokenizer: Tokenizer) -> Tokenizer:
    written = json.loads(tokenizer.to_str())
    written["added_tokens"] = [each | {"normalized": False} for each in written["added_tokens"]]
    return Tokenizer.from_str(json.dumps(written))


@cache
def chunks_of(name: str) -> Chunks:
    """One counter for all texts: what it caches from one text must be right in the others."""
    tokenizer = tokenizer_named(name)
    blank = blank_of(tokenizer)
    assert blank
    return Chunks(tokenizer, blank)


@pytest.mark.parametrize("name", [*sorted(RULES), "prepend", "always", "first"])
@given(text=TEXTS)
def test_chunks_have_the_tokens_of_the_text(name: str, text: str) -> None:
    whole = len(tokenizer_named(name).encode(text, add_special_tokens=False))
    assert chunks_of(name).count(text) == whole
    assert chunks_of(name).count(text) == whole  # as it is remembered


@given(texts=st.lists(TEXTS, max_size=5))
def test_counts_are_right_when_some_are_forgotten(texts: list[str]) -> None:
    tokenizer = tokenizer_named("gpt-2")
    blank = blank_of(tokenizer)
    assert blank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT", 3)
        chunks = Chunks(tokenizer, blank)
        for text in texts:
            assert chunks.count(text) == len(tokenizer.encode(text, add_special_tokens=False))


def reaching_over_blanks() -> Tokenizer:
    """Merges across words, for a metaspace tokenizer that does not split between them."""
    return trained(metaspace("first", split=False))


def with_added(**how: bool) -> Tokenizer:
    tokenizer = trained(pre_tokenizer_json(PRE_TOKENIZERS["gpt-2"]))
    tokenizer.add_tokens([AddedToken("<mask>", **how)])
    return tokenizer


def by(normalizer: Any, pre_tokenizer: Any = None) -> Tokenizer:
    tokenizer = trained(pre_tokenizer_json(PRE_TOKENIZERS["gpt-2"]))
    tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def with_suffixes() -> Tokenizer:
    tokenizer = by(None)
    tokenizer.model.end_of_word_suffix = "</w>"
    return tokenizer


def of_two_words() -> Tokenizer:
    tokenizer = by(None)
    tokenizer.add_tokens(["two words"])
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        lambda: Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN)),
        lambda: Tokenizer(models.Unigram()),
        lambda: trained(pre_tokenizer_json(PRE_TOKENIZERS["deepseek-coder"])),
        lambda: trained(None),
        lambda: trained(pre_tokenizer_json(PRE_TOKENIZERS["gpt-2"]), dropout=0.1),
        with_suffixes,
        lambda: by(normalizers.NFKC()),
        lambda: by(None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda: with_added(lstrip=True),
        lambda: with_added(rstrip=True),
        lambda: with_added(single_word=True),
        of_two_words,
        reaching_over_blanks,
    ],
)
def test_a_tokenizer_that_may_reach_over_blanks_is_not_taken(tokenizer: Callable[[], Tokenizer]) -> None:
    assert blank_of(tokenizer()) is None


@pytest.mark.model
@given(text=TEXTS)
def test_the_default_models_tokens_are_counted_by_chunks(default_model: Path, text: str) -> None:
    tokenizer = tokenizer_in(default_model)
    assert blank_of(tokenizer)
    assert token_count(str(default_model))(text) == len(tokenizer.encode(text, add_special_tokens=False))


@cache
def tokenizer_in(model: Path) -> Any:
    return Tokenizer.from_str(tokenizer_json(model))

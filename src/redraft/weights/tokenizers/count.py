"""Count tokens with a tokenizer.json, or with the tokenizer of a GGUF file, rebuilt from its vocabulary.

Only texts are counted, without chat template or special tokens.

Caching the counts of words gives exact counts in a third of the time: a text is cut at each single blank
between other characters. If no token crosses such a blank, the counts of the chunks add up to the text's
count, and a chunk has the same count in every text. `blank_of` recognises the tokenizers for which this
holds. All others count whole texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from redraft.errors import MissingExtra, ModelError
from redraft.weights.gguf.reader import read_header
from redraft.weights.tokenizers.from_gguf import tokenizer_files
from redraft.weights.tokenizers.pretokenizers import pre_tokenizer_of

_PART = 1 << 16  # characters per call: a record of 50 MB would take gigabytes
KEPT = 1 << 17  # most chunks in the cache, about 20 MB. A full cache is emptied.
LONGEST = 64  # most characters of a cached chunk: longer ones seldom come again

_CUT = re.compile(r" (?<=\S )(?=\S)")
_WORD = re.compile(rf"(?: |(?=\S))[^ ]{{0,{LONGEST - 1}}}(?<=\S)")
"""A chunk without blanks, except the leading one that marks a text's first chunk."""

_BYTES, _META = "Ġ", "▁"
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _META}

RULES = frozenset(("gpt-2", "smollm", "llama-bpe", "smaug-bpe", "qwen2", "seed-coder", "tekken"))
"""Pre-tokenizers by which a blank after another character begins a new piece.

Their expressions match a blank only as the first character or among other blanks. With deepseek-coder's,
`$ $` is one piece.
"""


@dataclass(frozen=True)
class TokenCount:
    """Count tokens by a tokenizer.json or a GGUF file. Each process loads the tokenizer at its first count.

    A text over 65,536 characters is counted in parts, which may add a token at each cut.
    """

    path: Path

    def __call__(self, text: str) -> int:
        """Return the number of tokens in a text."""
        count = _loaded(self.path)
        return sum(count(text[i : i + _PART]) for i in range(0, len(text), _PART))


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Callable[[str], int]:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise MissingExtra("counting tokens", "data") from None
    written = None if path.name == "tokenizer.json" else tokenizer_json(path)
    try:
        kind = tokenizers.Tokenizer
        tokenizer: Any = kind.from_str(written) if written else kind.from_file(str(path))
    except Exception as error:  # noqa: BLE001  (the library raises no other)
        raise ModelError(f"{path}: its tokenizer cannot be loaded: {error}.") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    blank = blank_of(tokenizer)
    if blank:
        return Chunks(tokenizer, blank).count
    # This batch call skips token offsets, a sixth of the work.
    return lambda text: len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])


def tokenizer_json(path: Path) -> str:
    """Return a GGUF file's tokenizer as tokenizer.json."""
    files = tokenizer_files(read_header(path, whole=True).metadata)
    return json.dumps(files["tokenizer.json"], ensure_ascii=False, indent=2) + "\n"


class Blank(NamedTuple):
    """How a tokenizer treats the blank between two chunks."""

    mark: str  # the prefix of a chunk's first token
    before: str  # the text to put before a chunk that is counted alone


class Chunks:
    """Count tokens by cached chunks, with a tokenizer of the `tokenizers` library."""

    def __init__(self, tokenizer: Any, blank: Blank) -> None:
        self._tokenizer, self._blank = tokenizer, blank
        apart = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        # A text with one of these is counted as a whole: added tokens cut it first, and a mark is a blank.
        apart += [_META] if blank.mark == _META else []
        self._apart = re.compile("|".join(map(re.escape, apart)) or r"(?!)")
        # The first chunk of a text, which has no blank before it, is known with one, as no other chunk is.
        self._known: dict[str, int] = {}
        self._marked = cache(lambda number: tokenizer.id_to_token(number).startswith(blank.mark))

    def count(self, text: str) -> int:
        """Return the number of tokens in a text."""
        known = self._known
        chunks = text.split(" ")
        chunks[0] = " " + chunks[0]
        try:
            return sum(map(known.__getitem__, chunks))
        except KeyError:
            new = set(chunks).difference(known)
        if not all(map(_WORD.fullmatch, new)):  # blanks at its ends, beside others, or beside line feeds
            chunks = _CUT.split(text)
            chunks[0] = " " + chunks[0]
            new = set(chunks).difference(known)
        if self._apart.search(" ".join(new)):
            return self._counts([text])[0]
        if len(known) > KEPT:
            known.clear()
            new = set(chunks)
        known.update(self._learned(new))
        total = sum(map(known.__getitem__, chunks))
        for chunk in new:
            if len(chunk) > LONGEST or chunk[-1].isspace():  # it only ends a text
                del known[chunk]
        return total

    def _learned(self, chunks: Iterable[str]) -> Iterator[tuple[str, int]]:
        words: list[str] = []
        others: list[str] = []
        for chunk in chunks:
            (others if chunk[0] == " " or not _WORD.fullmatch(chunk) else words).append(chunk)
        if words:
            yield from zip(words, self._of_words(words), strict=True)
        if not others:
            return
        texts = [chunk[1:] if chunk[0] == " " else self._blank.before + chunk for chunk in others]
        yield from zip(others, self._counts(texts), strict=True)

    def _of_words(self, words: Sequence[str]) -> Sequence[int]:
        """Count chunks without blanks in one call: each begins at a marked token."""
        text = self._blank.before + " ".join(words)
        ids = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        starts = [place for place, token in enumerate(ids) if self._marked(token)]
        if len(starts) != len(words) or starts[0]:
            return self._counts([self._blank.before + word for word in words])
        return [end - start for start, end in pairwise((*starts, len(ids)))]

    def _counts(self, texts: Sequence[str]) -> list[int]:
        return [len(each) for each in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def blank_of(tokenizer: Any) -> Blank | None:
    """Return how to cut a tokenizer's texts at blanks, or None if that may change counts."""
    from tokenizers.models import BPE

    model = tokenizer.model
    if not isinstance(model, BPE) or model.dropout:
        return None
    if model.continuing_subword_prefix or model.end_of_word_suffix:
        return None
    normalizer, cuts = _config(tokenizer.normalizer), _config(tokenizer.pre_tokenizer)
    if any(_reaches(token, normalizer) for token in tokenizer.get_added_tokens_decoder().values()):
        return None
    if normalizer in (None, {"type": "NFC"}) and _known_rule(cuts, ignore_merges=model.ignore_merges):
        return Blank(_BYTES, " ")
    if _is_metaspace(normalizer, cuts) and not model.ignore_merges:
        tokens = tokenizer.get_vocab(with_added_tokens=False)
        return None if any(_META in token.lstrip(_META) for token in tokens) else Blank(_META, "")
    return None


def _config(part: Any) -> Any:
    """Return a part of a tokenizer as in tokenizer.json."""
    return None if part is None else json.loads(part.__getstate__())


def _reaches(token: Any, normalizer: Any) -> bool:
    """Whether an added token may match more than its own characters, or contains blanks."""
    if token.lstrip or token.rstrip or token.single_word or (token.normalized and normalizer is not None):
        return True
    return not token.content or any(map(str.isspace, token.content))


def _known_rule(cuts: Any, *, ignore_merges: bool) -> bool:
    try:
        rule = pre_tokenizer_of({"pre_tokenizer": cuts, "model": {"ignore_merges": ignore_merges}})
    except ModelError:
        return False
    return rule.name in RULES


def _is_metaspace(normalizer: Any, cuts: Any) -> bool:
    """Whether blanks become `▁`, and every text starts with one."""
    match normalizer, cuts:
        case {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}, None:
            return bool(replace == _REPLACE)
        case None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" | "first"}:
            return True
    return False

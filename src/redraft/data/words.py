"""Split texts into words, and hash runs of words, to compare texts.

A word is a run of letters, digits and combining marks. Case is ignored, and texts are normalised to NFKC, so
that full-width and composed forms are equal. In scripts without spaces between words (Chinese, Japanese,
Thai…) each character is a word. ASCII text is split as in `rouge_score` 0.1.2 without stemming.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_Digits = NDArray[np.unsignedinteger[Any]]

_SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = regex.compile(
    rf"(?V1){_SPACELESS}\p{{M}}*|[[\p{{L}}\p{{N}}]--{_SPACELESS}][\p{{L}}\p{{N}}\p{{M}}--{_SPACELESS}]*"
)
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_SIGN = re.compile("[\u2010-\u205e]")  # punctuation and spaces, often a text's only non-ASCII characters

_CACHED = 1 << 16  # most word hashes in a cache (about 10 MB, nearly all words of a text), and most powers
_LONGEST = 64  # most characters of a cached word: a hostile text may be one word of megabytes

_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
_MIX = np.uint64(0xBF58476D1CE4E5B9)  # odd constants of SplitMix64 (Steele, Lea, Flood 2014)


def words(text: str) -> list[str]:
    """Return the words of a text in any script."""
    if not text.isascii():
        text = _SIGN.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    return _ASCII_WORD.findall(text.lower()) if text.isascii() else _WORD.findall(text)


def normalised(text: str) -> str:
    """Return a text case-folded, in NFKC, and with single spaces, for exact comparison."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def digest(text: str) -> bytes:
    """Return a 16-byte digest of a text."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def word_hashes(parts: Sequence[str]) -> Hashes:
    """Hash words to numbers that are the same in every process. Shape: (words,)."""
    hash_of = _kept_hash if max(map(len, parts), default=0) <= _LONGEST else _hash
    return np.fromiter(map(hash_of, parts), np.uint64, len(parts))


def window_hashes(hashes: Hashes, size: int) -> Hashes:
    """Hash all n-grams of `size` words. `hashes` are the hashes of the words. Shape: (n-grams,)."""
    ends = np.arange(size, len(hashes) + 1)
    return span_hashes(hashes, ends - size, ends)


def run_hashes(text: bytes, first: NDArray[np.int64], last: NDArray[np.int64]) -> Hashes:
    """Hash runs of words in a text whose words are separated by single spaces. Shape: (runs,).

    `first` and `last` are the indices of each run's first and last words.
    """
    data = np.frombuffer(text, np.uint8)
    spaces = np.flatnonzero(data == ord(" "))
    return span_hashes(data, np.append(0, spaces + 1)[first], np.append(spaces, len(data))[last])


def span_hashes(digits: _Digits, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """Hash the numbers `digits[begin:end]` of each span, such as word hashes or bytes. Shape: (spans,)."""
    count = len(digits) + 1
    # Powers are cached for short texts only: powers of long texts would take much memory.
    powers, inverses = _powers(1 << count.bit_length()) if count < _CACHED else _powers.__wrapped__(count)
    sums = np.zeros(count, np.uint64)
    np.add.accumulate(digits * powers[: count - 1], out=sums[1:])
    total = (sums[ends] - sums[begins]) * inverses[begins]
    # Spread every bit over all bits, because callers use the smallest numbers or the first bits.
    total ^= total >> np.uint64(30)
    total *= _MIX
    return total ^ (total >> np.uint64(31))


@cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    found = [np.full(count, base, np.uint64) for base in (_BASE, _INVERSE)]
    for each in found:
        each[0] = 1
        np.multiply.accumulate(each, out=each)
    return found[0], found[1]


def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


_kept_hash = lru_cache(_CACHED)(_hash)

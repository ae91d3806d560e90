"""A gap is filled with another word, or number, that is likely where it stands."""

from __future__ import annotations

import asyncio

import pytest

from redraft.engines.base import Likeliest, Tokens
from redraft.engines.steering.form import Form, Gap
from redraft.engines.steering.gap import filling
from tests.engines.steering.test_writer import Says, write

BOAT = " boat is red."
FITS = {" small": " boat", " small boat": " is", " old boat": " is"}
SUM = " cups."
DIGITS: dict[str, Likeliest] = {
    " ": ((" x", -0.1), ("5", -0.2), ("1", -1.0), ("7", -2.0), ("9", -6.0)),
    " 5": (("2", -0.1), (SUM[:5], -3.0)),
    " 1": (("2", -0.5), ("5", -1.0), (".", -1.1)),
    " 7": (("0", -0.3),),
}


@pytest.mark.parametrize(
    ("begins", "behind", "lacks", "text"),
    [
        ({}, {" small": " boat"}, (), f" small{BOAT}"),
        ({" boat": -1.2}, {" small": " boat"}, (), BOAT),  # without a word
        ({}, {" big": " boat", " small": " boat"}, (), f" big{BOAT}"),
        ({}, {" big": " boat", " small": " boat"}, ("big",), f" small{BOAT}"),
        ({" Near": -0.5}, {" Near": " boat", " small": " boat"}, (), f" small{BOAT}"),  # it is said there
        ({}, {" big": " boat", **FITS}, (), f" small{BOAT}"),
        ({" b": -1.0}, {}, (), " is red."),  # it may begin another word
        ({}, {" ol": " boat"}, (), " is red."),  # this is of "old"
    ],
)
def test_a_gap_is_filled_with_what_is_likely_there(
    begins: dict[str, float], behind: dict[str, str], lacks: tuple[str, ...], text: str
) -> None:
    first = tuple({" big": -1.0, " small": -1.5, " ol": -1.6, "ly": -1.7, ".": -1.8, **begins}.items())
    tops = {"": first, **{said: ((word, -1.0),) for said, word in behind.items()}}
    model = Says(" is", " red.", likeliest=lambda said: tops.get(said, (("?", -1.0),)))
    form = Form(one=True, lacks=lacks, gap=Gap(" old", BOAT, BOAT, near=frozenset({"near"})))
    found, last = write(form, model.source)
    assert (found, last.completion_tokens) == (text, len(model.asked))
    assert not Gap(" 40", BOAT, BOAT).takes(" x")  # as in 6 × 15 = x


def test_a_word_as_likely_as_the_old_one_fits_too() -> None:
    def found(**then: float) -> list[str]:
        tops: dict[str, Likeliest] = {
            "": ((" small", -5.0), (" old", -6.0), ("?", -9.0)),
            **{f" {word}": ((" boat", chance), ("?", -9.0)) for word, chance in then.items()},
        }

        async def look(said: str) -> Likeliest:
            return tops.get(said, ((" is", -1.0),))

        return asyncio.run(filling(Gap(" old", BOAT, BOAT), look, whole_words, lambda _: None))

    assert found(old=-4.0, small=-5.0) == [f" small{BOAT}"]
    assert found(old=-2.0, small=-5.0) == [f" small{BOAT}"]  # rather than another sentence
    assert found(old=-2.0, small=-8.5) == []
    assert found(old=-8.0, small=-9.0) == [f" small{BOAT}"]


@pytest.mark.parametrize(
    ("gap", "left_out"),
    [
        (Gap(" nice", BOAT, BOAT, determined=True), True),
        (Gap(" shout", BOAT, BOAT), True),
        (Gap(" could", BOAT, BOAT), False),
        (Gap(" praises", " from here.", " from here.", determined=True), False),
    ],
)
def test_a_sentence_keeps_its_auxiliaries_and_nouns(gap: Gap, left_out: bool) -> None:
    async def look(said: str) -> Likeliest:
        return ((f" {gap.rest.split()[0]}", -1.0),)

    assert (asyncio.run(filling(gap, look, whole_words, lambda _: None)) == [gap.closed]) is left_out


def test_any_modal_verb_may_replace_another() -> None:
    async def look(said: str) -> Likeliest:
        return ((" old", -0.1), (" should", -0.5)) if not said else (("?", -0.1),)

    gaps = (Gap(" must", " boat.", " boat."), Gap(" paint", " boat.", " boat."))
    found = [asyncio.run(filling(gap, look, encode, lambda text: None)) for gap in gaps]
    assert found == [[" should boat."], []]
    assert not gaps[0].takes(" cannot")


async def whole_words(said: str) -> Tokens:
    return tuple(map(hash, said.split()[:1]))


async def encode(said: str) -> Tokens:
    return tuple(map(ord, said[:1]))


@pytest.mark.parametrize(
    ("gap", "found"),
    [
        (Gap(" nearly", BOAT, BOAT), [BOAT]),
        (Gap("Sadly", ", it is red.", "It is red."), ["It is red."]),
        (Gap(" say", ", it is red.", " it is red."), [" it is red."]),  # between commas
        *[
            (Gap(f" {word}", BOAT, BOAT), [])
            for word in ("paint", "apply", "family", "Sally", "lovely", "so")
        ],
        (Gap(" really", "", " "), []),
    ],
)
def test_an_adverb_is_left_out_where_nothing_is_likely(gap: Gap, found: list[str]) -> None:
    async def look(said: str) -> Likeliest:
        return (("?", -0.1),)

    assert asyncio.run(filling(gap, look, encode, lambda text: None)) == found
    assert not gap.takes(" not")  # it would invert what is said


def test_a_number_becomes_another_the_likeliest_first() -> None:
    async def look(said: str) -> Likeliest:
        return DIGITS.get(said, ())

    def found(lacks: str = "x") -> list[str]:
        forbidden = lambda text: True if lacks in text else None  # noqa: E731
        texts = asyncio.run(filling(Gap(" 52", SUM, SUM), look, encode, forbidden))
        return [text.removesuffix(SUM).strip() for text in texts]

    assert found() == ["12", "15", "5", "1", "7"]
    assert found("12")[0] == "15"


@pytest.mark.parametrize(
    ("old", "number"), [(" 1,200.50", "1,200.50"), ("7", "7"), (" 3 cups", ""), (" x", "")]
)
def test_what_is_a_number(old: str, number: str) -> None:
    assert Gap(old, "", "").number == number

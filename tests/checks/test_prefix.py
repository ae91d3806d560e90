"""A beginning is called lost only where every continuation fails, and as soon as that is certain."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.chain import Prompt
from redraft.checks.base import Check, prefix_of, run_checks
from redraft.checks.ifeval import TYPES
from redraft.checks.parse import parse_checks

FIRST_WORD = "length_constraints:nth_paragraph_first_word"
IFEVAL = [
    'keywords:frequency {"keyword": "light", "relation": "less than", "frequency": 2}',
    'keywords:forbidden_words {"forbidden_words": ["light", "e.g"]}',
    'keywords:letter_frequency {"letter": "t", "let_relation": "less than", "let_frequency": 3}',
    'keywords:letter_frequency {"letter": "ς", "let_relation": "less than", "let_frequency": 1}',
    'length_constraints:number_sentences {"relation": "less than", "num_sentences": 2}',
    'length_constraints:number_paragraphs {"num_paragraphs": 2}',
    'length_constraints:number_words {"relation": "less than", "num_words": 4}',
    f'{FIRST_WORD} {{"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "the"}}',
    f'{FIRST_WORD} {{"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "light"}}',
    'detectable_format:number_bullet_lists {"num_bullets": 1}',
    "combination:two_responses",
    'combination:repeat_prompt {"prompt_to_repeat": "The light. One"}',
    "startend:quotation",
    'change_case:capital_word_frequency {"capital_relation": "less than", "capital_frequency": 2}',
    "punctuation:no_comma",
]
CHECKS = [
    "words<=2", "words==0", "sentences<=1", "sentences<=2", "sentences==3", "characters<=3", "paragraphs<=1",
    "lacks:light", "lacks:the light", "lacks:,", "lacks:é", "lacks:。", "starts:The light", "starts:1.",
    "starts:光", "lines<=2", "bullets<=1", "items==1", "headings<=1", "unique",
    "uppercase", "lowercase",
    "any(words<=2; lacks:light)", "all(sentences<=2; lacks:the)",
    *(f"ifeval:{written}" for written in IFEVAL),
]  # fmt: skip
WORDS = "light Light house the The t A Dr etc no e.g One two 3 14 光 明 é e Σ ς ß א ก ำ 한 ᄒ ᅡ 🇦 🇧 👩"
SIGNS = "tru true NaN ' ’ \" _ ** * *** - # 1. ( ) ! ? … . , 。 ！ ｡ ``` ` json { } [ ] : 1 .5 e5 = < \\"
PIECES = st.sampled_from(
    [
        *WORDS.split(),
        *SIGNS.split(),
        *["\u200d", "\u0301", "\u0308", "\u0338", "\u200b", " ", " ", " ", "  ", "- ", "# ", "\n", "\n\n"],
        *["\r", "\r\n", "\t", "\x0b", "\x1c", "\u2028", "\xa0", "```json\n", "\n```\n", '"a"'],
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)


def passes(check: Check, answer: str) -> bool:
    (result,) = asyncio.run(run_checks([check], answer.strip(), Prompt(instruction="Say.")))
    return result.passed


@pytest.mark.parametrize("written", CHECKS)
@settings(max_examples=settings().max_examples // 2)
@given(begins=TEXTS, goes_on=TEXTS)
def test_no_continuation_of_a_lost_text_passes(written: str, begins: str, goes_on: str) -> None:
    (check,) = parse_checks([written])
    if prefix_of(check, begins.lstrip()) == "lost":
        assert not passes(check, begins)
        assert not passes(check, begins + goes_on)


def rate(written: str) -> Check:
    (check,) = parse_checks([written])
    return check


SOON = [
    ("words<=3", "One two three fou", "One two three"),
    ("words=2..3", "One two three fou", "One two three"),
    ("sentences<=1", "It rains. We sing ", "It rains. W"),
    ("sentences<=1", "雨。雪。", "雨。雪"),
    ("characters<=5", "Rain is", "Rain "),
    ("paragraphs<=1", "One.\n\nT", "One.\n\n"),
    ("lines<=1", "One\n\nT", "One\n\n"),
    ("bullets==1", "- one\n- t", "- one\n- "),
    ("bullets==1", "- one\n* * *\n* t", "- one\n* * *\n```\n- t"),
    ("items<=1", "1. one\n2) t", "1. one\n2)"),
    ("headings<=1", "# One\n## T", "# One\n##"),
    ("unique", "- It rains.\nSo.\n* it  rains.\n", "- It rains.\nSo.\n* it  rains."),
    ("uppercase", "THE l", "THE L"),
    ("lacks:light", "The light ", "The light"),
    ("starts:Dear friend", "Dear Ann, ", "Dear Ann,"),
    ("any(words<=1; lacks:light)", "The light ", "The light"),
    ("all(words<=9; lacks:light)", "The light ", "The light"),
    ("ifeval:" + IFEVAL[0], "Light light", "Light ligh"),
    ("ifeval:" + IFEVAL[1], "The light ", "The light"),
    ("ifeval:" + IFEVAL[2], "To the tower ", "To the t"),
    ("ifeval:" + IFEVAL[4], "It rains. We sing ", "It rains. W"),
    ("ifeval:" + IFEVAL[5], "a *** b *** c", "a *** b ***"),
    ("ifeval:" + IFEVAL[6], "One two three f", "One two three"),
    ("ifeval:" + IFEVAL[7], "a\n\nthat b", "a\n\nthe"),
    ("ifeval:" + IFEVAL[9], "* a\n* b", "* a\n*"),
    ("ifeval:" + IFEVAL[10], "a ****** b ****** c", "a ****** b ******"),
    ("ifeval:" + IFEVAL[11], "The lamp ", "The lig"),
    ("ifeval:" + IFEVAL[12], "Here", '"Here'),
    ("ifeval:change_case:english_capital", "RAIN i", "RAIN I"),
    ("ifeval:change_case:english_lowercase", "rain I", "rain i"),
    ("ifeval:" + IFEVAL[13], "NASA and ESA ", "NASA and E"),
    ("ifeval:punctuation:no_comma", "Well,", "Well"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "lost", "still_open"), SOON)
def test_a_text_is_lost_as_soon_as_that_is_certain(written: str, lost: str, still_open: str) -> None:
    check = rate(written)
    assert (prefix_of(check, lost), prefix_of(check, still_open)) == ("lost", "open")


def test_every_rule_is_tried_here() -> None:
    kinds = {written.removeprefix("ifeval:").split(" ")[0] for written, _, _ in SOON}
    assert {name for name, type_ in TYPES.items() if type_.lost} <= kinds


@pytest.mark.parametrize(
    "written", ["json", "contains:rain", "ends:Bye.", "matches:^x", "number=4", "words>=9", "language:en"]
)
def test_what_can_still_come_is_open(written: str) -> None:
    assert prefix_of(rate(written), "One two three four. Five! ") == "open"

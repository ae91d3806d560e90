"""Grammars are held against llguidance itself: it draws random texts by them, and the checks judge these."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

import redraft
from redraft.chain import Prompt
from redraft.checks.base import Check, form_of, run_checks
from redraft.checks.parse import parse_check
from redraft.checks.text import Lacks
from redraft.engines.steering.form import LONGEST_LACKED, MOST_HAS, MOST_LACKS, Form, joined
from redraft.engines.steering.lark import CLOSE, lark, stopped
from redraft.engines.steering.phrase import around

TOKENIZER = LLTokenizer("byte")
LIKELY = b"      \n.!?etaoinshrdlu" + bytes(range(97, 123)) + b"ABCDEFGHIJ019,;:'\"()-*"
TOKENS = 40


def form_for(checks: Sequence[Check]) -> tuple[Form, tuple[str, ...]]:
    return joined((check.name, form) for check in checks if (form := form_of(check)))


def matcher(grammar: str) -> LLMatcher:
    found = LLMatcher(TOKENIZER, grammar)
    assert not found.is_error(), f"{found.get_error()}\n{grammar}"
    return found


def accepts(grammar: str, text: str) -> bool:
    found = matcher(grammar)
    tokens = TOKENIZER.tokenize_str(text)
    return found.try_consume_tokens(tokens) == len(tokens) and found.is_accepting()


def drawn(grammar: str, seed: int) -> str:
    """Draw a text by a grammar, as a model without any idea would: it ends where it may, sooner or later."""
    chance, found, text = random.Random(seed), matcher(grammar), bytearray()
    while len(text) < 4_000:
        allowed = [token for token, bias in enumerate(found.compute_logit_bias()) if bias]
        likely = [byte for byte in LIKELY if byte in allowed]
        if TOKENIZER.eos_token in allowed and (not likely or chance.random() < 0.1):
            return text.decode(errors="replace")
        byte = chance.choice(likely or [token for token in allowed if token < 256])
        text.append(byte)
        assert found.consume_token(byte), f"{found.get_error()}: {bytes(text)!r}"
    pytest.fail(f"the text does not end: {text[:200]!r}\n{grammar}")


WORD = st.sampled_from(["rain", "the town", "Snow", "a", "U.S.", "well-known", "c++"])
NUMBER = st.integers(1, 12)
FORMS = st.one_of(
    st.builds("words<={}".format, st.integers(8, 60)),
    st.builds("words>={}".format, NUMBER),
    st.builds("sentences=={}".format, st.integers(1, 4)),
    st.builds("sentences<={}".format, st.integers(1, 4)),
    st.builds("contains:{}".format, WORD),
    st.builds("lacks:{}".format, st.sampled_from(["sun", "e", ",", "moon", "d"])),
    st.builds("starts:{}".format, st.sampled_from(["Dear", "Once upon"])),
    st.builds("ends:{}".format, st.sampled_from(["The end.", "Bye"])),
)


IFEVAL = {
    "keywords:letter_frequency": '{"letter": "q", "let_relation": "at least", "let_frequency": 3}',
    "change_case:capital_word_frequency": '{"capital_relation": "at least", "capital_frequency": 2}',
    "length_constraints:number_paragraphs": '{"num_paragraphs": 3}',
    "length_constraints:nth_paragraph_first_word": (
        '{"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "soon"}'
    ),
    "detectable_content:number_placeholders": '{"num_placeholders": 2}',
    "detectable_format:number_bullet_lists": '{"num_bullets": 3}',
    "detectable_format:constrained_response": "{}",
    "detectable_format:number_highlighted_sections": '{"num_highlights": 2}',
    "detectable_format:multiple_sections": '{"section_spliter": "SECTION", "num_sections": 3}',
    "detectable_format:title": "{}",
    "combination:two_responses": "{}",
}
LAYOUTS = st.sampled_from([f"ifeval:{kind} {values}" for kind, values in IFEVAL.items()])


@settings(max_examples=15, deadline=None)
@given(LAYOUTS, st.lists(FORMS, max_size=2, unique=True), st.integers(0, 2**16))
def test_what_a_layout_allows_passes_the_checks_that_steered(
    layout: str, texts: list[str], seed: int
) -> None:
    assert form_for([parse_check(layout)])[1]
    drawn_answers_pass([layout, *texts], seed)


@settings(max_examples=15, deadline=None)
@given(st.lists(FORMS, min_size=1, max_size=3, unique=True), st.integers(0, 2**16))
def test_what_a_grammar_allows_passes_the_checks_that_steered(texts: list[str], seed: int) -> None:
    drawn_answers_pass(texts, seed)


def drawn_answers_pass(texts: list[str], seed: int) -> None:
    checks = [parse_check(text) for text in texts]
    form, steered = form_for(checks)
    grammar = lark(form, TOKENS)
    if not grammar:
        return
    answer = drawn(grammar, seed)
    results = asyncio.run(run_checks(checks, answer, Prompt(instruction="?")))
    failed = [result.message for result in results if result.name in steered and not result.passed]
    assert not failed, f"{answer!r}\n{grammar}"


TEXT = "Hello there my friend, how are you? It will rain in the town tomorrow, I think."


@pytest.mark.parametrize(
    ("checks", "good", "bad"),
    [
        (["words<=10"], "All is well here in the town.", TEXT),
        (["words>=9"], TEXT, "All is well."),
        (["sentences==2"], TEXT, "All is well."),
        (["sentences<2"], "All is well.", TEXT),
        (["contains:rain", "contains:friend"], TEXT, "All is well."),
        (["contains:in the town"], TEXT, "All is well in town."),
        (["lacks:rain", "lacks:snow"], "It is raining.", TEXT),
        (["lacks:the town"], "The towns are small.", TEXT),
        (["lacks:,"], "All is well.", TEXT),
        (["starts:Hello there"], TEXT, "All is well."),
        (["ends:It is."], f"{TEXT} It is.", TEXT),
        (["ends:tomorrow, I think."], TEXT, "All is well."),
        (["ifeval:startend:quotation"], f'"{TEXT}"', TEXT),
        (["ifeval:change_case:english_lowercase"], TEXT.lower(), TEXT),
        (["ifeval:change_case:english_capital"], TEXT.upper(), TEXT),
        (
            ['ifeval:detectable_content:postscript {"postscript_marker": "P.S."}'],
            f"{TEXT}\n\nP.S. Write soon.",
            TEXT,
        ),
        (["ifeval:detectable_format:json_format"], '{"rain": ["now", "later"], "at": 5}', TEXT),
        (["ifeval:detectable_format:json_format", "lacks:rain"], '{"sun": 1}', '{"at": "rain"}'),
        (
            ["ifeval:detectable_format:json_format", 'contains:the "big" rain'],
            '{"sun": 1, "at": "all the \\"big\\" rain here"}',
            '{"sun": 1, "at": "all the rain here"}',
        ),
        (["all(lacks:rain; words<=9)"], "All is well in the town.", TEXT),
        (["2*contains:rain"], TEXT, "All is well."),
        (["any(json; contains:rain; words>=90)"], TEXT, "All is well."),
        ([r"matches:\d{4}-\d\d"], "It rains on 2024-05, I think.", TEXT),
        ([r"matches:^(Yes|No)\.", "words<=9"], "Yes. It will rain.", "I think so."),
        ([r"matches:^[a-z]+@x\.com$"], "me@x.com", "me@y.com"),
        ([r"matches:Answer: \d+$", "contains:rain"], "All the rain is well. Answer: 12", "The rain is well."),
        (["bullets==2"], "- All is well.\n- It rains", "- All is well."),
        (["items==2", "contains:rain"], "- All the rain is well.\n- It falls", "- All is well.\n- It falls"),
        (["paragraphs==2"], "All is well.\n\nIt will rain.", "All is well. It will rain."),
        (["lines>=2", "ends:Bye."], "All is well.\nIt will rain. Bye.", "All is well. Bye."),
        (["ifeval:detectable_format:title {}"], "<<The Rain>>\nAll is well.", "The Rain: all is well."),
        (
            ['ifeval:detectable_format:multiple_sections {"section_spliter": "Day", "num_sections": 2}'],
            "Day 1\nAll is well.\n\nDay 2\nIt will rain.",
            "Day 1\nAll is well.",
        ),
        (
            ['ifeval:detectable_content:number_placeholders {"num_placeholders": 2}', "contains:rain"],
            "Dear [your name], the [cold and wet] days of rain are here.",
            "Dear [your name], the days of rain are here.",
        ),
        (["ifeval:detectable_format:constrained_response"], "My answer is no.", "No."),
        (
            [
                (
                    "ifeval:length_constraints:nth_paragraph_first_word "
                    '{"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "rain"}'
                )
            ],
            "All is well.\n\nRain falls.",
            "All is well.\n\nThe rain falls.",
        ),
    ],
)
def test_a_grammar_takes_answers_that_pass_and_no_others(checks: list[str], good: str, bad: str) -> None:
    form, steered = form_for([parse_check(check) for check in checks])
    grammar = lark(form, 200)
    assert len(steered) == len(checks)
    assert accepts(grammar, good)
    assert not accepts(grammar, bad)


@pytest.mark.parametrize("more", [{}, {"sentences": (1, 3)}, {"words": (2, 30)}, {"has": ("house",)}])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Tom", "a house of Tom{}s and Ann"),
        ("Tom", "the house has tom,Ann"),
        ("Tom", "the house is on tom{}s.com"),
        ("Tom", "the house at:Tom is old"),
        ("Tom", "the house Tom{0}{0}Ann is old"),
        ("Tom", "the house l{}Tom is old"),
        ("Tom", "the house Tom™ is old"),
        ("Tom", "the house Tom은 is old"),
        ("Tom", "the house_Tom_a is old"),
        ("Tom Baker", "the house of Tom Baker{}s dog"),
        ("Tom-Baker", "the house of Tom-Baker is old"),
        ("don't", "in the house I don{}t go"),
        ("天気", "house 天気が is old"),
    ],
)
def test_a_joined_form_of_a_name_does_not_come(name: str, text: str, more: dict[str, Any]) -> None:
    grammar = lark(Form(lacks=(name,), **more), 200)
    for quote in "'’":
        assert not accepts(grammar, f"I am {text.format(quote)}.")
    assert accepts(grammar, "I am in the old house and it is well.")


def test_a_character_that_joins_nothing_to_a_word_for_the_grammar_joins_nothing_for_the_check() -> None:
    before, after = (
        re.sub(r"\\u\{(\w+)\}", lambda code: chr(int(code[1], 16)), part) for part in around("rain")
    )
    check = Lacks("rain")
    for char in map(chr, (*range(0xD800), *range(0xE000, 0x10000))):
        if char not in "'’":
            assert not (re.fullmatch(before, char) and check.check(f"{char}rain", Prompt()).passed), char
            assert not (re.fullmatch(after, char) and check.check(f"rain{char}", Prompt()).passed), char
    for char in " ™×،।!\U0001f3fc\ue000":
        assert re.fullmatch(after, char)


NAMES = [
    ("Write two sentences about Tom and his dog.", ["lacks:Tom"]),
    ("Whose book is this? It is Tom's. Say it in one sentence.", ["lacks:Tom"]),
    ("Tell me about the sun's light.", ["lacks:sun"]),
    ("Write about Anna's garden.", ["lacks:Anna", "words<=30"]),
    ("Is Istanbul's airport large?", ["lacks:Istanbul"]),
    ("Describe Acme's new product.", ["lacks:Acme", "sentences<=2"]),
    ("Write a review of Mary's cafe.", ["lacks:Mary", "words<=40"]),
    ("Introduce Dr. Smith, a teacher.", ["lacks:Dr. Smith"]),
    ("Write about Paris's museums.", ["lacks:Paris", "contains:art"]),
    ("Write a story of John and John's brother.", ["lacks:John", "sentences==2"]),
    ("Explain Newton's laws.", ["lacks:Newton"]),
    ("Write about the king's horse.", ["lacks:king", "words>=10"]),
]


@pytest.mark.slow
@pytest.mark.model
def test_no_form_of_a_name_gets_into_a_steered_text() -> None:
    for prompt, checks in NAMES:
        options = {"max_revisions": 0, "max_tokens": 48, "seed": 1, "temperature": 0.8}
        step = redraft.revise(prompt, checks=checks, **options).steps[0]
        name = checks[0].removeprefix("lacks:")
        assert checks[0] in step.steered
        assert not re.search(rf"(?i)(?<![^\W_]){name}(?![^\W_])", step.answer), step.answer


@pytest.mark.parametrize("text", ["rain", "tea", "the town", "c++ is", "naïve", "don't"])
def test_a_text_that_is_cut_within_what_it_lacks_does_not_go_on_with_it(text: str) -> None:
    grammar = lark(Form(lacks=(text,)), 40)
    limit = int(40 * CLOSE)  # bytes here
    for cut in range(1, len(text)):
        before = "a " * limit + text[:cut]
        assert not accepts(
            grammar, before[-limit:].replace(" ", "", 1).rjust(limit, "a") + text[cut:] + "."
        ), cut


NEAR = st.text(
    st.sampled_from("rainsRAINß ςΣσİıéüµſ'’.:,_-²™½天気של\u0301\u00ad\n2") | st.characters(codec="utf-8"),
    max_size=6,
)
LACKED = [
    "rain",
    "s",
    "ς",
    "straße",
    "İ",
    "i",
    "été",
    "天",
    "c++",
    "a b",
    "don't",
    "שלום",
    "_x_",
    "µ",
    "½",
    "e\u0301",
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LACKED), NEAR, NEAR)
def test_what_a_text_lacks_forbids_no_text_that_passes(word: str, before: str, after: str) -> None:
    text = (before + word + after).lstrip()
    check = parse_check(f"lacks:{word}")
    form, _ = form_for([check])
    passes = asyncio.run(run_checks([check], text, Prompt(instruction="?")))[0].passed
    negated = re.search("(?i)n['’]t", text)  # "can't" may not come either where "can" may not
    if text and passes and not negated:
        assert accepts(lark(form, 10_000), text)


def test_both_cases_of_a_letter_are_forbidden_only_where_the_check_has_them_as_one() -> None:
    for letter in filter(str.isalpha, map(chr, range(0x3000))):
        both = {letter.lower(), letter.upper()}
        if len(both) == 2 and all(len(each) == 1 for each in both):
            found = parse_check(f"lacks:{letter}")
            assert not any(found.check(each, Prompt(instruction="?")).passed for each in both), letter  # type: ignore[union-attr]


def test_a_text_without_a_form_has_no_grammar() -> None:
    assert lark(Form(), 100) == ""


@pytest.mark.parametrize(
    "word", ["c++", 'say "so"', "a/b", "naïve", "日本", "שלום", "back\\slash", "[x]", "e\u0301t\u0301"]
)
def test_a_demanded_text_may_have_any_characters(word: str) -> None:
    grammar = lark(Form(has=(word,)), 100)
    assert accepts(grammar, f"Here {word} stands.")
    assert not accepts(grammar, "Here nothing stands.")


PATTERNS = [r"\d{2,3}", r"^\w+: [^,]*", "(?:ab|c)+$", r"[A-Z]{3}-\d+", "^a.?b*$", r"x\s\S", r"\(\w+\)"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_a_pattern_allows_is_found_by_it(pattern: str) -> None:
    for seed in range(5):
        drawn_answers_pass([f"matches:{pattern}"], seed)


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", r"(a)\1", r"\bword", "(?i)a", "a|b$", r"\p{L}", "^$", "[[a]]", "(?>a)", "a++"]
)
def test_what_no_grammar_has_is_only_checked(pattern: str) -> None:
    assert form_for([parse_check(f"matches:{pattern}"), parse_check("lacks:x")])[1] == ("lacks:x",)


def test_all_marks_may_be_forbidden() -> None:
    assert accepts(lark(Form(without=frozenset(".,;:-–—!?'\"*()"), has=("rain",)), 100), "It will rain today")


def test_the_largest_forms_are_written() -> None:
    matcher(lark(Form(has=tuple(f"word{number}" for number in range(MOST_HAS))), 1_000))
    lacks = (*(f"word{number}" for number in range(MOST_LACKS - 1)), "x" * LONGEST_LACKED)
    matcher(lark(Form(lacks=lacks), 1_000))
    matcher(lark(Form(lacks=lacks, sentences=(3, None)), 1_000))


@pytest.mark.parametrize(
    ("checks", "good"),
    [
        (["contains:rain", "words<=20"], "Rain falls."),
        (["sentences==2"], "Rain falls here. It rains."),
        (["contains:rain", "ends:Good night."], "The rain falls. Good night."),
        (["lacks:snow"], "Rain falls."),
        (["ifeval:startend:quotation"], '"Rain falls."'),
    ],
)
def test_a_string_that_ends_a_text_may_follow_it(checks: list[str], good: str) -> None:
    form, _ = form_for([parse_check(check) for check in checks])
    grammar = stopped(lark(form, 200), ["### Feedback 1:", "Done"])
    assert accepts(grammar, good)
    for space in ("\n\n", " ", ""):
        assert accepts(grammar, f"{good}{space}### Feedback 1:")
    assert stopped("x", ()) == "x"

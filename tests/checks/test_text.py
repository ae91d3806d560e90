from __future__ import annotations

import random
from typing import Any

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from redraft.chain import Prompt
from redraft.checks.base import Outcome
from redraft.checks.parse import parse_check
from redraft.checks.text import COUNTERS, Contains, Count, Ends, Lacks, Matches, Starts
from redraft.errors import CheckError, CheckSyntaxError

TEXT = "The Light went out.\nA lighthouse stood there, and the light’s keeper slept."

URL = "https://velobits.example/track/VB-20417"


def say(check: Any, answer: str) -> Outcome:
    return check.check(answer, Prompt())  # type: ignore[no-any-return]


class TestCount:
    @given(
        st.text(),
        st.sampled_from(sorted(COUNTERS)),
        st.one_of(st.none(), st.integers(0, 30)),
        st.one_of(st.none(), st.integers(0, 30)),
    )
    def test_agrees_with_its_own_message(
        self, answer: str, unit: str, low: int | None, high: int | None
    ) -> None:
        assume(not answer.strip() or regex.search(r"[^\s\p{P}]", answer))
        outcome = say(Count(unit, low, high), answer)
        count = COUNTERS[unit](answer)
        assert outcome.passed == ((low is None or low <= count) and (high is None or count <= high))
        assert str(count) in outcome.message
        assert outcome.score == 1 if outcome.passed else 0 <= outcome.score < 1

    @pytest.mark.parametrize(
        ("check", "message"),
        [
            (Count("words", high=2), "The answer has 3 words, and at most 2 are allowed: 1 too many."),
            (Count("words", low=5), "The answer has 3 words, and at least 5 are needed: 2 too few."),
            (Count("words", 4, 4), "The answer has 3 words, and exactly 4 are wanted: 1 too few."),
            (Count("words", 4, 6), "The answer has 3 words, and 4 to 6 are wanted: 1 too few."),
            (Count("sentences", 2, 2), "The answer has 1 sentence, and exactly 2 are wanted: 1 too few."),
            (Count("words", high=3), "The answer has 3 words."),
        ],
    )
    def test_says_what_is_wrong_and_by_how_much(self, check: Count, message: str) -> None:
        assert say(check, "one two three").message == message

    @pytest.mark.parametrize("check", ["words<=3", "sentences<=1", "uppercase", "lowercase"])
    def test_punctuation_alone_meets_no_limit_and_no_case(self, check: str) -> None:
        for answer in ("...", "…", " — ", "***"):
            assert say(parse_check(check), answer).message == "The answer has no word.", answer
        for answer in ("42", "雨", "👍", "+"):
            assert say(parse_check(check), answer).passed, answer
        assert say(parse_check("words<=0"), "...").passed
        assert say(parse_check("characters<=3"), "...").passed

    @pytest.mark.parametrize(
        ("unit", "count"),
        [("words", 5), ("sentences", 3), ("paragraphs", 3), ("lines", 1), ("bullets", 1), ("characters", 29)],
    )
    def test_in_json_only_the_text_of_its_strings_counts(self, unit: str, count: int) -> None:
        answer = '{"subject": "Grüße", "n": 5, "body": ["Hi Maren,\\n\\n- it comes. \\u20ac"]}'
        assert say(Count(unit, count, count), answer).passed, say(Count(unit, 0, 0), answer).message
        assert say(Count("words", 2, 2), '{"a": 1}').passed  # it has no string
        assert Count(unit, high=0).prefix(answer) == "open"

    def test_nearer_misses_score_higher(self) -> None:
        scores = [say(Count("words", high=3), "a " * count).score for count in (4, 5, 50)]
        assert scores == sorted(scores, reverse=True)
        scores = [say(Count("words", low=9), "a " * count).score for count in (0, 4, 8)]
        assert scores == sorted(scores)


class TestPhrases:
    def test_lacks_names_the_first_lines_and_the_count(self) -> None:
        assert (
            say(Lacks("a b"), "a  b\nA B\n" * 3).message
            == 'The answer contains "a b" 6 times, on lines 1, 2, 3, 4, 5, and more after that. It must not.'
        )

    @given(st.integers(1, 6), st.integers(1, 6))
    def test_fewer_places_score_higher(self, few: int, many: int) -> None:
        scores = [say(Lacks("x"), "x y " * count).score for count in (few, few + many)]
        assert 1 > scores[0] > scores[1] > 0

    @pytest.mark.parametrize(
        ("phrase", "answer"),
        [
            ("the keeper", "THE\n  Keeper"), ("don't", "I don’t know"), ("C++", "in c++, say"),
            ("$5", "for $5."), ("straße", "die STRASSE"), ("猫", "私は猫です"), ("ライト", "赤いライト。"),
            ("!", "Hey!"), ("light", "light-hearted"),
            ("light", "a _light_, __light__ touch"),
            ("light", "a li\u00adght li\u200bne"),
            ("light", "\u202blight\u202c"), ("light", "ｌｉｇｈｔ"), ("light", "light² light™ light®"),
            ("H2O", "H₂O"), ("light rain", "**light** _rain_"), ("Tom", "Tom's bill"), ("Tom", "Tomʼs"),
            ("amour", "C'est l'amour."), ("C'est", "C’est l’amour."), ("Istanbul", "Istanbul'da"),
            ("secret", "secret_key"), ("refund", "refund:no"), ("example.com", "api.example.com"),
            ("Acme", "Acme's Acme는"), ("we", "we'll"), ("well-known", "a well‑known man"),
            ("5", "It costs 5. Or 5,"), ("11", "at 11:30"), ("5", "5月"), ("비", "비가 온다"),
            ("서울", "서울에서 만나요"), ("서울", "서울까지는 멀다"), ("부산", "부산으로 간다"),
            ("กรุงเทพ", "ฉันอยู่กรุงเทพมหานคร"), ("東京", "私は東京に住む"), ("café", "cafe\u0301"),
            ("cafe\u0301", "Café"), ("file", "\ufb01le"), ("_light_", "a _light_ touch"), ("m²", "9 m²"),
        ],
    )  # fmt: skip
    def test_contains(self, phrase: str, answer: str) -> None:
        assert say(Contains(phrase), answer).passed
        assert not say(Lacks(phrase), answer).passed

    @pytest.mark.parametrize(
        ("phrase", "answer"),
        [
            ("can", "I can't"), ("ライト", "ライトハウス"), ("s", "Tom's"), ("re", "we’re"),
            ("비", "비밀이다"), ("서울", "남서울"), ("나", "나라"), ("3", "3.14"), ("light", "light2"),
            ("light", "A lighthouse is lit; delight!"),
            ("_private", "a private name"), ("café", "cafe"), ("a.c", "abc"), ("5", "15"),
        ],
    )  # fmt: skip
    def test_does_not_contain(self, phrase: str, answer: str) -> None:
        outcome = say(Contains(phrase), answer)
        assert outcome.message == f'The answer does not contain "{phrase}".'
        assert not outcome.passed
        assert say(Lacks(phrase), answer).passed
        assert ("the word" in say(Lacks(phrase), answer).message) == phrase.isalpha()

    @pytest.mark.parametrize(
        ("answer", "has"),
        [(f"See [it]({URL}).", True), (f"**{URL}**, or", True), (f"Is it {URL}?", True), (f"{URL}/", True)]
        + [
            (answer, False) for answer in (f"{URL}/foo", f"{URL}-x", f"{URL}?x=1", f"H{URL[1:]}", URL.lower())
        ],
    )
    def test_a_wanted_link_is_whole_and_keeps_its_case(self, answer: str, has: bool) -> None:
        assert say(Contains(URL), answer).passed == has
        assert not say(Lacks(URL), answer).passed

    @given(st.text(), st.text(min_size=1).map(str.strip).filter(bool))
    def test_lacks_is_the_opposite_of_contains(self, answer: str, phrase: str) -> None:
        assert say(Contains(phrase), answer).passed != say(Lacks(phrase), answer).passed

    def test_the_texts_of_json_count_as_they_read(self) -> None:
        answer = r'{"a": "Hi.\nPassword: w\u0061ter", "b": ["caf\u00e9", "say \"yes\""]}'
        for phrase in ("password", "water", "café", 'say "yes"'):
            assert say(Contains(phrase), answer).passed
            assert not say(Lacks(phrase), answer).passed
        assert say(Contains("nu"), r"[\nu]: no JSON").passed

    def test_contains_says_where(self) -> None:
        assert say(Contains("keeper"), TEXT).message == 'The answer contains "keeper" on line 2.'

    def test_a_part_of_a_word_has_a_form_of_its_own(self) -> None:
        part = parse_check("lacks[part]:light")
        assert (part, parse_check(part.name)) == (Lacks("light", part=True), part)
        assert part.demand == 'Do not use "light" in the answer, alone or within a word.'
        assert part.form is None
        assert not say(part, "A lighthouse.").passed
        assert say(Contains("light", part=True), "A lighthouse.").passed
        assert say(parse_check("lacks:light"), "A lighthouse.").passed

    @pytest.mark.parametrize("written", ['"sorry"', "'sorry'", "“sorry”", "„sorry“", "«sorry»", "sorry"])
    @pytest.mark.parametrize("kind", ["contains", "lacks", "starts", "ends"])
    def test_quotation_marks_around_a_phrase_are_taken_off(self, kind: str, written: str) -> None:
        assert parse_check(f"{kind}:{written}").name == f"{kind}:sorry"

    @pytest.mark.parametrize(
        "text", ["a,b", "a;b", "a|b", "猫、犬", "red, white, blue", "Tom, Ann", '"a", "b c"', "'a','b'"]
    )
    def test_a_list_is_refused_and_the_text_itself_is_written_in_quotes(self, text: str) -> None:
        with pytest.raises(CheckSyntaxError, match="looks like a list") as caught:
            parse_check(f"lacks:{text}")
        assert f'lacks:"{text}"' in (caught.value.hint or "")
        assert parse_check(f'lacks:"{text}"') == Lacks(text)

    @pytest.mark.parametrize(
        "text",
        ["Hello, world", "1,000", "3,14", "Thank you, Tom, and goodbye", ",", "a,", '"', "a | b", '""'],
    )
    def test_a_phrase_with_a_comma_is_none(self, text: str) -> None:
        assert parse_check(f"contains:{text}") == Contains(text)

    @given(st.text("ab,;'\"“” ", min_size=1).map(str.strip).filter(bool))
    def test_the_name_of_a_check_is_its_short_form(self, text: str) -> None:
        assert parse_check(Lacks(text).name) == Lacks(text)

    def test_another_option_is_refused(self) -> None:
        with pytest.raises(CheckSyntaxError, match=r"write lacks\[part\]:TEXT for a part of a word"):
            parse_check("lacks[word]:a")


class TestEdges:
    def test_starts(self) -> None:
        assert say(Starts("dear sir"), "\n Dear Sir, hello").passed
        assert say(Starts("Dear"), "Dearest,").message == (
            'The answer begins with "Dearest," and not with "Dear".'
        )
        assert not say(Starts("x"), "").passed
        assert say(Starts("Dear Sir"), "**Dear** Sir's").passed

    def test_ends(self) -> None:
        assert say(Ends("thank you."), "So thank\nYOU. \n").passed
        assert say(Ends("you"), "I thank you.").message == (
            'The answer ends with "I thank you." and not with "you".'
        )
        assert not say(Ends("you"), "I like bayou").passed
        assert say(Ends("thank you"), "I _thank **you**").passed


class TestMatches:
    def test_searches_anywhere_and_says_where(self) -> None:
        assert say(Matches.of(r"light\w+"), TEXT).message == r"The pattern light\w+ is found on line 2."
        outcome = say(Matches.of(r"\d"), TEXT)
        assert not outcome.passed
        assert outcome.message == r"Nothing in the answer matches the pattern \d"

    @pytest.mark.parametrize(
        ("pattern", "problem"),
        [
            ("a(b", "missing ) at character 4"),
            ("[a-", "unterminated character set at character 4"),
            ("(((a{1000}){1000}){1000})", "more than 100,000 characters with counts expanded"),
            ("(" * 5000 + ")" * 5000, "it is nested too deeply"),
        ],
    )
    def test_a_wrong_pattern_is_known_at_once(self, pattern: str, problem: str) -> None:
        with pytest.raises(CheckSyntaxError, match="is not usable") as caught:
            Matches.of(pattern)
        assert problem in caught.value.message

    def test_counts_that_are_not_nested_are_fine(self) -> None:
        assert say(Matches.of(r"[({]{2}(\d{1000},){0,9}x{3}"), "{(xxx").passed

    def test_endless_backtracking_is_a_fault_of_the_check(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("redraft.checks.pattern.REGEX_SECONDS", 0.05)
        with pytest.raises(
            CheckError, match=r"'matches:\(a\+\)\+\$' was stopped after 0.05 s on an answer of 5001"
        ):
            say(Matches.of("(a+)+$"), "a" * 5000 + "b")


def test_no_number_of_patterns_draws_from_random() -> None:
    before = random.getstate()
    for number in range(1001):
        assert say(Matches.of(f"a{number}"), f"a{number}").passed
        assert say(Contains(f"b{number}"), f"b{number}").passed
    assert random.getstate() == before

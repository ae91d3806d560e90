"""A text in a form, written by a model that has words and no idea: it passes, and no word is made up."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.chain import Prompt
from redraft.checks.base import form_of, run_checks
from redraft.checks.parse import parse_check
from redraft.engines.base import Delta, Likeliest, Replies, Sampling, Tokens
from redraft.engines.steering.draft import ends_of
from redraft.engines.steering.form import Form, joined
from redraft.engines.steering.writer import Source, written
from tests.engines.talking import collect

WORDS = re.findall(
    r"\w+", "the rain town sea falls old house light far and I it is in a storm walks quiet green boat"
)
TOKENS = [*(f" {word}" for word in WORDS), *".,!", "\n", "\n\n"]
ENDS = len(TOKENS)  # the token that ends an answer
GIVEN = ["Dear", "Once upon", "The end.", "Bye", "stars", "Tom"]


def _weight(piece: str, words: int) -> float:
    if piece in ".!":
        return words * words / 8
    if piece.isspace():
        return 0.0 if words else 0.4
    return 1.0 if words or piece != "," else 0.0


class Words:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.asked: list[tuple[str, Sampling]] = []

    @property
    def source(self) -> Source:
        return Source(self.go_on, self.encode, 5)

    async def encode(self, text: str) -> Tokens:
        return (TOKENS.index(text),) if text in TOKENS else tuple(map(ord, text))

    def _next(self, text: str, sampling: Sampling) -> int:
        never = sampling.form.without if sampling.form else frozenset[str]()
        words = len(re.split(r"[.!?\n]", text)[-1].split())
        weights = [
            0.0 if number in sampling.banned or never & {*piece} else _weight(piece, words)
            for number, piece in enumerate(TOKENS)
        ]
        for number, more in sampling.likelier:
            weights[number] *= exp(more) if number < ENDS else 1.0
        weights.append(0.0 if sampling.unending or words else 2.0)
        return self._random.choices(range(len(weights)), weights)[0]

    async def go_on(self, text: str, sampling: Sampling) -> Replies:
        self.asked.append((text, sampling))
        for count in range(1, sampling.max_tokens + 1):
            await asyncio.sleep(0)
            token = self._next(text, sampling)
            if token == ENDS:
                yield Delta(finish="stop", completion_tokens=count)
                return
            top = tuple((each, log(1 / len(TOKENS))) for each in TOKENS) if sampling.top_logprobs else ()
            text += TOKENS[token]
            yield Delta(TOKENS[token], (token,), likeliest=(top,) if top else ())
        yield Delta(finish="max_tokens", completion_tokens=sampling.max_tokens, cached_tokens=9)


class Says:
    def __init__(self, *texts: str, likeliest: Callable[[str], Likeliest] | None = None) -> None:
        self._texts, self._likeliest = [*texts], likeliest
        self.asked: list[tuple[str, Sampling]] = []
        self.source = Source(self.go_on, None, 5)

    async def go_on(self, text: str, sampling: Sampling) -> Replies:
        self.asked.append((text, sampling))
        if sampling.top_logprobs and self._likeliest:
            yield Delta(" x", likeliest=(self._likeliest(text),))
            return
        for piece in re.findall(r"\s*\S+", self._texts.pop(0) if self._texts else ""):
            yield Delta(piece)
        yield Delta(finish="stop", cached_tokens=len(self.asked))


class Slow(Says):
    async def go_on(self, text: str, sampling: Sampling) -> Replies:
        async for delta in super().go_on(text, sampling):
            if "far" in delta.text:
                await asyncio.sleep(3600)
            yield delta


class Cut(Says):
    async def go_on(self, text: str, sampling: Sampling) -> Replies:
        async for delta in super().go_on(text, sampling):
            yield replace(delta, finish="max_tokens") if delta.finish else delta


def form_for(checks: Sequence[str]) -> tuple[Form, tuple[str, ...]]:
    found = [(text, form_of(parse_check(text))) for text in checks]
    return joined((name, form) for name, form in found if form)


def write(form: Form, source: Source, tokens: int = 400, **more: Any) -> tuple[str, Delta]:
    sampling = Sampling(max_tokens=tokens, seed=1, **more)
    deltas = asyncio.run(collect(written(form, sampling, "max_tokens", source)))
    assert [delta for delta in deltas if delta.finish] == deltas[-1:]
    assert (deltas[-1].cached_tokens or 0) <= source.prompt_tokens
    return "".join(delta.text for delta in deltas), deltas[-1]


CHECKS = st.one_of(
    st.builds("words<={}".format, st.integers(6, 60)),
    st.builds("words>={}".format, st.integers(1, 40)),
    st.builds("characters<={}".format, st.integers(80, 300)),
    st.builds("sentences=={}".format, st.integers(1, 4)),
    st.builds("sentences<={}".format, st.integers(1, 4)),
    st.builds("paragraphs=={}".format, st.integers(1, 4)),
    st.builds("bullets=={}".format, st.integers(1, 4)),
    st.builds("lines>={}".format, st.integers(1, 4)),
    st.builds("contains:{}".format, st.sampled_from([*WORDS[:6], "Tom", "the town"])),
    st.builds("lacks:{}".format, st.sampled_from([*WORDS[:6], ",", "!", "the town"])),
    st.builds("starts:{}".format, st.sampled_from(GIVEN[:2])),
    st.builds("ends:{}".format, st.sampled_from(GIVEN[2:5])),
    st.sampled_from(["uppercase", "lowercase"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHECKS, min_size=1, max_size=3, unique=True), st.integers(0, 2**16))
def test_no_word_is_made_up_and_no_sentence_cut(checks: list[str], seed: int) -> None:
    form, _ = form_for(checks)
    text, last = write(form, Words(seed).source)
    known = {word.lower() for word in (*WORDS, *" ".join(GIVEN).split())}
    assert {word.lower() for word in re.findall(r"\w+", text)} <= {word.strip(".") for word in known}
    assert last.finish == "stop"
    if len(checks) == 1 and form.limits and not form.layout.parts:
        assert re.search(r"[.!]\Z", text), text


@settings(max_examples=100, deadline=None)
@given(CHECKS, st.integers(0, 2**16))
def test_a_text_passes_the_check_that_steered_it(check: str, seed: int) -> None:
    form, steered = form_for([check])
    text, _ = write(form, Words(seed).source)
    (result,) = asyncio.run(run_checks([parse_check(check)], text, Prompt(instruction="?")))
    assert steered == (check,)
    assert result.passed, f"{text!r}: {result.message}"


def test_the_tokens_of_an_earlier_draft_do_not_count_as_cached() -> None:
    model = Says("Rain falls on the old town and then the sea and the boat.", "Rain falls.")
    assert write(form_for(["words<=8"])[0], model.source)[1].cached_tokens == 0
    assert write(form_for(["words<=8"])[0], Says("Rain falls.").source)[1].cached_tokens == 1


def test_a_text_ends_with_the_last_sentence_that_fits() -> None:
    model = Says("Rain falls on the town. It is old, and it is far from the sea.")
    assert write(form_for(["words<=8"])[0], model.source)[0] == "Rain falls on the town."


@pytest.mark.parametrize(
    ("check", "said", "text"),
    [
        ("words<=9", '"Rain falls.', '"Rain falls."'),
        ("words<=9", 'He says: "It rains. It is far.', 'He says: "It rains. It is far."'),
        ("words<=9", '"Rain," he says.', '"Rain," he says.'),
        ("words<=9", '"Rain” falls.', '"Rain” falls.'),
    ],
)
def test_a_quotation_has_an_end(check: str, said: str, text: str) -> None:
    assert write(form_for([check])[0], Says(said).source)[0] == text


def test_a_sentence_that_is_too_long_ends_where_the_model_might_end_it() -> None:
    model = Says(
        "Rain falls on the old town and then the sea and the boat.",
        likeliest=lambda text: ((".", log(0.4 if text.endswith("town") else 0.001)),),
    )
    assert write(form_for(["words<=8"])[0], model.source)[0] == "Rain falls on the old town."


def test_a_forbidden_word_is_taken_back_and_its_beginning_banned_there() -> None:
    model = Words(5)
    text, _ = write(Form(lacks=("the town", "rain")), model.source)
    assert "rain" not in text
    assert not re.search(r"the\s+town", text)
    assert all(TOKENS.index(" rain") in sampling.banned for _, sampling in model.asked)
    town = [asked for asked in model.asked if TOKENS.index(" town") in asked[1].banned]
    assert town
    assert all(asked[0].endswith(" the") and asked[1].max_tokens == 1 for asked in town)


def test_forms_of_a_forbidden_word_do_not_take_turns_at_a_place() -> None:
    async def encode(text: str) -> Tokens:
        return (1,) if text == "The" else (8, 9)

    async def go_on(text: str, sampling: Sampling) -> Replies:
        if not text:
            token = min({1, 2, 3} - sampling.banned)
            yield Delta({1: "The", 2: "the", 3: "My"}[token], (token,))
        if sampling.max_tokens > 1:
            yield Delta(" sea.", (4,))
        yield Delta(finish="stop")

    assert write(Form(lacks=("the",)), Source(go_on, encode, 1))[0] == "My sea."


def test_what_is_put_in_the_place_of_a_forbidden_word_is_none_itself() -> None:
    likeliest = ((" the", -1.0), (" I", -1.1), (" my", -1.2))
    model = Says("It is the town.", " boat.", likeliest=lambda _: likeliest)
    assert write(Form(lacks=("the", "I")), model.source)[0] == "It is my boat."


def test_a_text_that_finds_no_end_is_not_empty() -> None:
    model = Says(*[" a red boat sails far away"] * 9, likeliest=lambda _: ((" x", -9.0),))
    text, last = write(form_for(["characters<=20"])[0], model.source, 8)
    assert (text, last.finish) == (" a red boat sails far away", "max_tokens")
    assert ends_of("```html\nA boat.\n```\nMore") == [15, 19]  # a block of code has only begun


def test_the_ends_of_texts_of_json_take_no_more_tokens_than_there_are() -> None:
    schema = {"type": "object", "properties": {name: {"maxLength": 12} for name in "abcdef"}}
    said = str({name: f"theoldseaab{name}" for name in "abcdef"}).replace("'", '"')
    text, last = write(Form(), Says(said, likeliest=lambda _: ((" x", -0.1),)).source, 13, schema=schema)
    assert (text, last.completion_tokens) == (said, 13)


def test_json_is_written_anew_where_a_forbidden_word_comes_in_a_name_or_a_text() -> None:
    source = Says('{"flea": 1}', '{"a": "the flea market"}', '{"a": "fleas"}')
    assert write(Form(lacks=("flea",)), source.source, 60, schema={"type": "object"})[0] == '{"a": "fleas"}'
    assert all(sampling.schema for _, sampling in source.asked)


SUMMARY = {
    "type": "object",
    "properties": {
        "of": {"enum": ["a rainy, old town"]},
        "says": {"minLength": 1, "maxLength": 25},
        "on": {"format": "date-time"},
    },
}


@pytest.mark.parametrize(
    ("said", "ends", "text"),
    [
        ("It rains on the town of t", {"town": ".", "rains": "."}, "It rains on the town."),
        ("It rains. The old town of", {}, "It rains. The old town."),
        ("Rain on a town in the sou", {"town": '"'}, "Rain on a town"),
        ("Rain on a town in the sea", {"sea": '"'}, "Rain on a town in the sea"),
        ("Rain on the town", {}, "Rain on the town"),  # it is shorter than its bound
        (
            "The boat sails with a ",
            {"sails": "."},
            "The boat sails.",
        ),  # cut by the mark of a quotation
    ],
)
def test_a_text_of_json_that_its_bound_cut_ends_where_it_might(
    said: str, ends: dict[str, str], text: str
) -> None:
    def likeliest(before: str) -> Likeliest:
        return ((next((end for word, end in ends.items() if before.endswith(word)), " x"), -0.5),)

    whole = '{"of": "a rainy, old town", "on": "2024-03-12T10:15:04+00:00", "says": "%s", "n": 1}'
    assert write(Form(), Says(whole % said, likeliest=likeliest).source, schema=SUMMARY)[0] == whole % text


@pytest.mark.parametrize(
    "said",
    ["Hello, ", "12 March 2024", "शहर समुद्र के पास एक बहुत पुराना नगर है।", 'He says this: \\"It rains.\\"'],
)
def test_texts_of_json_stay_if_they_are_no_prose_or_end_with_a_sentence(said: str) -> None:
    whole = f'{{"a": "{said}", "b": "Ann"}}'
    source = Says(whole, likeliest=lambda _: ((" x", log(0.95)), ('"', log(0.05)))).source
    schema = {"type": "object", "properties": {"a": {"maxLength": len(said)}, "b": {"maxLength": 90}}}
    found, last = write(Form(), source, 2048, schema=schema)
    assert (found, last.finish) == (whole, "stop")


def test_json_says_that_a_text_was_cut_whose_end_was_sent_already() -> None:
    schema = {"type": "object", "properties": {"a": {"maxLength": 99}, "b": {"maxLength": 99}}}
    whole = '{"a": "The boat sails far with a ", "b": "Ann and Tom."}'
    found, last = write(Form(), Says(whole).source, 2048, schema=schema)
    assert (found, last.finish) == (whole, "max_tokens")


@pytest.mark.parametrize(
    ("said", "text", "finish"),
    [
        ('{"a": [1, {"b": ["x", "y"], "c', '{"a": [1, {"b": ["x", "y"]}]}', "stop"),
        ('{"a": "x [", "b": 12', '{"a": "x ["}', "stop"),
        ('{"a": "🌱🌱🌱🌱🌱🌱🌱🌱🌱🌱', '{"a": "🌱"}', "stop"),
        ('{"a": "The old sea. It is wi', '{"a": "The old sea."}', "stop"),
        ('{"a": "x", "b": "the old sea', '{"a": "x", "b": "the old"}', "max_tokens"),
        ('{"a', '{"a', "max_tokens"),  # nothing is whole
    ],
)
def test_json_of_any_names_that_was_cut_is_closed(said: str, text: str, finish: str) -> None:
    found, last = write(Form(), Cut(said).source, schema={"type": "object"})
    assert (found, last.finish) == (text, finish)
    assert write(Form(), Cut(said).source, schema=SUMMARY)[0] == said  # half of what it asks for is no answer


@pytest.mark.parametrize("said", ['{"b": "the old sea', '{"b": "It rains on the tow'])
def test_json_that_was_cut_gets_its_required_words_and_still_says_that_it_was_cut(said: str) -> None:
    source = Says(said, " She", " likes boats.").source

    async def cut(text: str, sampling: Sampling) -> Replies:
        async for delta in source.go_on(text, sampling):
            yield replace(delta, finish="max_tokens") if delta.finish and not text else delta

    found, last = write(Form(has=("boats",)), replace(source, go_on=cut), schema={"type": "object"})
    assert found.endswith('. She likes boats."}')
    assert last.finish == "max_tokens"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (['{"says": "The old sea. It is', '"a",', '"Ann",'], '{"says": "The old sea.","of":"a","to":"Ann"}'),
        (['{"says": "The old sea is wide', '"a",', '"Ann",'], '{"says": "The old","of":"a","to":"Ann"}'),
        (['{"says": "123', '"a"\n}', '"A town'], '{"says": "123","of":"a","to":"A town"}'),
        (['{"says": "The old', '"a', '"Ann",'], '{"says": "The old'),  # half a value is none
    ],
)
def test_json_that_was_cut_in_a_text_gets_the_other_values_that_it_needs(said: list[str], text: str) -> None:
    parts = {"says": {"type": "string"}, "of": {"enum": ["a", "b"]}, "to": {"type": "string"}}
    source = Cut(*said)
    found, last = write(Form(), source.source, 14, schema={"properties": parts, "required": [*parts]})
    assert (found, last.finish) == (text, "stop" if '."' in text else "max_tokens")
    assert all(sampling.begun == before for before, sampling in source.asked)


@pytest.mark.parametrize("again", [" It rains.", " 12345 67890"])
def test_a_text_of_json_that_repeats_a_phrase_ends_there(again: str) -> None:
    schema = {"properties": {"says": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "to": {}}}
    source = Says('{"says": "The boat sails.' + again * 99, '"Ann",').source
    found, _ = write(Form(), source, schema={**schema, "required": ["says", "to"]})
    assert found.endswith('","to":"Ann"}')
    assert len(found) < 300


@pytest.mark.parametrize("schema", [{"type": "object"}, {}])
def test_a_word_that_json_lacks_comes_in_a_sentence_at_the_end_of_its_last_text(schema: Any) -> None:
    source = Says('{"name": "Ann", "town": "Rome", "age": 3}', " She", " likes rain a lot. And more.")
    said, _ = write(Form(has=("rain",)), source.source, schema=schema)
    assert said == '{"name": "Ann", "town": "Rome. She likes rain a lot.", "age": 3}'
    assert [sampling.schema is None for _, sampling in source.asked] == [False, True, True]


def test_a_word_that_is_missing_comes_in_the_likeliest_of_a_few_sentences() -> None:
    said = iter(
        [("It falls.", -1.0), (" Rain", -0.1), (" rain.", -0.1), (" The", -1.0), (" rain is very old.", -1.0)]
    )

    async def go_on(text: str, sampling: Sampling) -> Replies:
        piece, chance = next(said)
        yield Delta(piece, (1,), logprobs=(chance,) if sampling.logprobs else ())
        yield Delta(finish="stop")

    assert write(Form(has=("rain",)), Source(go_on, None, 1))[0] == "It falls. The rain is very old."


@pytest.mark.parametrize("seed", range(5))
def test_a_word_that_must_come_is_made_likelier_until_it_is_there(seed: int) -> None:
    model = Words(seed)
    text, last = write(Form(has=("boat",)), model.source)
    assert "boat" in text.lower()
    assert last.completion_tokens is not None
    assert last.completion_tokens <= len(re.findall(r"\w+|[.!,]|\n+", text)) + 4  # nothing is written twice
    stretches = [asked for asked in model.asked if asked[1].max_tokens > 1]
    assert all(bool(sampling.likelier) != ("boat" in text.lower()) for text, sampling in stretches)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "limits", ["sentences==1", "words<=20", "words==10", "words<=8 starts:Dear", "starts:Dear bullets==2"]
)
def test_several_words_come_in_one_sentence_where_no_more_fit(limits: str, seed: int) -> None:
    checks = [*limits.split(), "contains:boat", "contains:stars", "contains:Tom"]
    text, _ = write(form_for(checks)[0], Words(seed).source, 200)
    results = asyncio.run(run_checks(map(parse_check, checks), text, Prompt(instruction="?")))
    assert not [result.message for result in results if not result.passed], text


def test_a_word_that_must_come_twice_in_a_sentence_does() -> None:
    form = replace(form_for(["sentences<=1"])[0], has=("boat", "boat"))
    assert write(form, Says(" It is.").source)[0].lower().count("boat") == 2


def test_a_text_of_several_tokens_that_has_begun_is_written_whole() -> None:
    async def encode(text: str) -> Tokens:
        return (1, 2) if text == " Hyrule" else (0,)

    async def zelda(text: str, sampling: Sampling) -> Replies:
        if not sampling.likelier:
            yield Delta(" is far.", (5,))
        else:
            for token, piece in ((3, "I see"), (1, " Hy"), (4, "drogen.")):
                yield Delta(piece, (token,))
        yield Delta(finish="stop")

    assert write(Form(has=("Hyrule",)), Source(zelda, encode, 1))[0] == "I see Hyrule is far."


def test_a_sentence_that_a_model_says_twice_at_its_end_is_said_once() -> None:
    said = "Use the system of the old town.\n\n"
    assert write(Form(lacks=("zebra",)), Says(said * 2).source)[0] == said.strip()


def test_too_short_a_text_goes_on() -> None:
    model = Says("Rain falls.", " It", " falls on the town.")
    assert write(form_for(["words>=6"])[0], model.source)[0] == "Rain falls. It falls on the town."
    assert model.asked[1][1].unending


def test_a_case_is_put_on_what_the_model_writes() -> None:
    text, _ = write(Form(case="upper", opening="Dear Tom"), Says(", the straße is far.").source)
    assert text == "DEAR TOM, THE STRASSE IS FAR."


def test_an_empty_item_is_written_again_and_no_bare_mark_follows_the_last_token() -> None:
    class Empty(Words):
        def _next(self, text: str, sampling: Sampling) -> int:
            newline = TOKENS.index("\n")
            bare = text.endswith("-") and newline not in sampling.banned
            return newline if bare else super()._next(text, sampling)

    text, _ = write(form_for(["bullets==3"])[0], Empty(3).source)
    assert len(re.findall(r"^- \w", text, re.MULTILINE)) == 3
    cut, last = write(form_for(["bullets==20"])[0], Words(3).source, tokens=30)
    assert not cut.endswith("-")
    assert last.finish == "max_tokens"
    cut, _ = write(form_for(["items==2"])[0], Words(1139).source, tokens=12)
    assert re.fullmatch(r"1\. \w.*\.", cut)


@pytest.mark.parametrize(
    ("form", "said", "text"),
    [
        (form_for(["bullets==2"])[0], [" Tea", "\n", ".", "", "Tea", "\n", "Coffee"], "- Tea\n- Coffee"),
        (Form(opening="Dear", lacks=("the",)), [" the", " is far."], "Dear is far."),
    ],
)
def test_what_is_written_again_is_not_glued_to_what_was_given(form: Form, said: list[str], text: str) -> None:
    assert write(form, Says(*said, likeliest=lambda _: (("ly", -1.0),)).source)[0] == text


@pytest.mark.parametrize("check", ["words<=33", "words<=30", "characters<=110", "sentences<=4"])
@pytest.mark.parametrize("seed", range(6))
def test_the_first_parts_leave_room_for_the_last(check: str, seed: int) -> None:
    text, _ = write(form_for(checks := [check, "bullets==4"])[0], Words(seed).source)
    results = asyncio.run(run_checks(map(parse_check, checks), text, Prompt(instruction="?")))
    assert all(result.passed for result in results), text


def test_no_forbidden_word_is_left_where_the_tokens_end() -> None:
    text, last = write(Form(lacks=("the",)), Says("It rains. So the").source, tokens=4)
    assert (text, last.finish) == ("It rains.", "stop")


def test_an_end_that_was_asked_for_stands_behind_a_whole_sentence() -> None:
    text, _ = write(Form(closing="Good night."), Cut("Storm sizzles, a reminder of").source, tokens=5)
    assert text == "Storm sizzles. Good night."


def test_no_full_stop_is_added_where_none_may_stand() -> None:
    form, _ = form_for(["lacks:.", "lacks:!", "words<=6"])
    assert "." not in "".join(write(form, Words(seed).source)[0] for seed in range(9))


def test_a_comma_is_no_end() -> None:
    assert write(Form(lacks=("zebra",)), Says("It rains,").source)[0] == "It rains."

    async def stopped(text: str, sampling: Sampling) -> Replies:
        yield Delta("one, two,")
        yield Delta(finish="stop", stop_text="three")

    assert write(Form(lacks=("zebra",)), Source(stopped, None, 1))[0] == "one, two,"


@pytest.mark.parametrize(
    ("said", "likely", "whole"),
    [
        ("The rain fell far in the town", ".", "The rain fell far in the town."),
        ("It rains.\n\nThe rain fell far in the town", ".", "It rains.\n\nThe rain fell far in the town."),
        ("The rain fell far in the town", " and", "The rain fell far in the town"),
        ("The rain in the old town", ".", "The rain in the old town"),  # a title
        ("Rain\n\nThe rain fell far in the town", ".", "Rain\n\nThe rain fell far in the town."),
        ('The rain fell far in the "town"', ".", 'The rain fell far in the "town".'),
        ('"The rain fell far in the town"', ".", '"The rain fell far in the town"'),
        ("Over the sea\nthe rain fell far in the town", ".", "Over the sea\nthe rain fell far in the town"),
    ],
)
def test_a_sentence_that_the_model_left_open_is_ended(said: str, likely: str, whole: str) -> None:
    assert write(Form(lacks=("zebra",)), Says(said, likeliest=lambda _: ((likely, -1.0),)).source)[0] == whole


@pytest.mark.parametrize(
    ("form", "said", "whole"),
    [
        (Form(closing="Call me."), "1. Tea\n2. A walk", "1. Tea\n2. A walk\n\nCall me."),
        (Form(closing="Call me."), "It rains.", "It rains. Call me."),
        (Form(closing="your love, and thanks."), "It rains.", "It rains.\n\nyour love, and thanks."),
        (Form(closing="stars"), "It rains.", "It rains stars"),
        (Form(closing="in India."), "A day in India", "A day in India."),
        (Form(postscript="P.S."), "It rains.\n\nP.S.", "It rains.\n\nP.S. I am old."),
        (Form(postscript="P.P.S"), "It rains. P.P.S", "It rains.\n\nP.P.S. I am old."),
        (Form(postscript="P.S.", closing="Bye."), "It rains. Bye.", "It rains.\n\nP.S. I am old. Bye."),
        (Form(closing="?"), "It is far. Is it?", "It is far. Is it?"),
        (Form(closing="?"), "It is far. It is.", "It is far. It is?"),
    ],
)
def test_an_end_stands_where_a_person_would_put_it(form: Form, said: str, whole: str) -> None:
    assert write(form, Says(said, " I am old.", "", likeliest=lambda _: ()).source)[0] == whole


def test_of_several_sentences_in_limits_each_finds_room() -> None:
    said = "The old town lies far behind the sea and the sand.", *[" It is red and so far away from us"] * 4
    model = Says(
        *said, " It is so.", likeliest=lambda text: ((".", -1.0 if text[-3:] in ("ind", "red") else -9.0),)
    )
    text, _ = write(form_for(["sentences==2", "words<=12"])[0], model.source)
    assert text == "The old town lies far behind. It is red."


@pytest.mark.parametrize(
    ("said", "more", "body"),
    [("P.S. Bye.", "It rains.", "It rains."), ("It rains so P.S. bye.", " often.", "It rains so often.")],
)
def test_a_postscript_stands_behind_a_whole_text(said: str, more: str, body: str) -> None:
    model = Says(said, more, " I am old.", "", likeliest=lambda _: ())
    assert write(Form(postscript="P.S."), model.source)[0] == f"{body}\n\nP.S. I am old."


@pytest.mark.parametrize(
    ("has", "said"), [("rain", "Rain"), ("https://a.b", "https://a.b"), ("a@b.org", "a@b.org")]
)
def test_a_missing_word_has_a_sentence_behind_a_heading(has: str, said: str) -> None:
    model = Says("The Town", f" {said}", " falls on it all day.", likeliest=lambda _: ())
    assert write(Form(has=(has,)), model.source)[0] == f"The Town\n\n{said} falls on it all day."


def test_an_ending_of_a_sentence_stands_where_it_is_likeliest() -> None:
    likely = {"It rains": " in", "It rains and pours": " ?"}
    model = Says("It rains and pours.", likeliest=lambda said: ((likely.get(said, " x"), -1.0),))
    assert write(Form(closing="in the cold"), model.source)[0] == "It rains in the cold"


CUT = "a sea,\na sand,\na road"


class Doubts(Says):
    async def go_on(self, text: str, sampling: Sampling) -> Replies:
        async for delta in super().go_on(text, sampling):
            yield replace(delta, logprobs=(-5.0 if "far" in delta.text else -0.5,) * bool(delta.text))


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (["It rains far.", "The far town sleeps on.", "A far, far sea."], "The far town sleeps on."),
        (["It rains far.", "It rains.", "The old town."], "It rains."),
        (["It rains.", "The town."], "It rains."),  # it is likely
        (["1. It rains.", "The town."], "The town."),  # one item is no list
        (["Far, far. The town is so big, and it rains.", "It rains."], "It rains."),  # a part of it was cut
    ],
)
def test_of_short_texts_in_limits_the_likeliest_is_kept(texts: list[str], text: str) -> None:
    form = form_for(["words<=9"])[0]
    assert write(form, Doubts(*texts).source)[0] == text
    once = write(form, Doubts(*texts).source, temperature=0.0)[0]  # it would say the same again
    assert texts[0].startswith(once or "nothing")


@pytest.mark.parametrize(
    ("likely", "text", "finish"),
    [(".", "a sea,\na sand,\na road.", "stop"), ("x", f"{CUT},\na", "max_tokens")],
)
def test_what_the_tokens_cut_ends_whole_only_if_that_is_likely(likely: str, text: str, finish: str) -> None:
    model = Cut(f"{CUT},\na", likeliest=lambda _: ((likely, -1.0),))
    said, last = write(form_for(["words>=90"])[0], model.source, tokens=8)
    assert (said, last.finish) == (text, finish)


@pytest.mark.parametrize("seed", [0, 1, 3, 5, 6])
def test_a_last_line_that_the_tokens_cut_ends_where_it_may(seed: int) -> None:
    text, last = write(form_for(["lines==2"])[0], Words(seed).source, tokens=16)
    assert (text.count("\n"), text[-1], last.finish) == (1, ".", "stop")


@pytest.mark.parametrize(
    ("said", "schema", "stays"),
    [
        ("One. Two. It is far.", None, "One. Two."),
        ('{"of": 1, "says": "It is not far', SUMMARY, '{"of": 1, "says": "It'),  # less than half of its bound
    ],
)
async def test_what_stays_is_handed_on_while_the_rest_is_written(said: str, schema: Any, stays: str) -> None:
    form = Form() if schema else form_for(["words<=20"])[0]
    sampling = Sampling(schema=schema, temperature=0.0)  # a short text may be written anew
    deltas = written(form, sampling, "max_tokens", Slow(said).source)
    found = ""
    while len(found) < len(stays):
        found += (await anext(deltas)).text
    await deltas.aclose()
    assert found == stays


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (Form(lacks=("zebra",)), "```\nif a:\n  b()\n  }\n  }\n  }\n```"),
        (Form(lacks=("zebra",)), "No! No! We went home."),
        (Form(lacks=("zebra",)), "- one\n- two"),
        (Form(closing="Bye."), "We said bye to the town. It is far. Bye."),
        (Form(opening="今天"), "天气很好。"),
    ],
)
def test_what_a_model_ends_by_itself_stays_as_it_is(form: Form, said: str) -> None:
    text, last = write(form, Says(said).source)
    assert (text, last.finish) == (form.opening + said, "stop")


def test_a_title_is_handed_on_once() -> None:
    form, _ = form_for(["ifeval:detectable_format:title"])
    text, _ = write(form, Says("What", " is rain? It falls.\n", "Rain is water.").source)
    assert text == "<<What is rain>>\n\nRain is water."
    assert (
        write(form, Says("\n", "\n", "Rain", " falls.\n", "It rains.").source)[0]
        == "<<Rain falls>>\n\nIt rains."
    )


def test_each_request_has_a_length_and_the_answer_no_more_tokens_than_asked() -> None:
    model = Words(2)
    sampling = Sampling(max_tokens=30, seed=1, unset=frozenset({"max_tokens", "top_p"}))
    form, _ = form_for(["bullets==20"])
    *_, last = asyncio.run(collect(written(form, sampling, "max_tokens", model.source)))
    assert all("max_tokens" not in asked.unset for _, asked in model.asked)
    assert last.completion_tokens is not None
    assert last.completion_tokens <= 32


def test_an_error_comes_behind_what_was_written_and_its_counts() -> None:
    async def breaks(text: str, sampling: Sampling) -> Replies:
        yield Delta("Rain falls")
        raise OSError("gone")

    async def told() -> list[Delta]:
        found = []
        with pytest.raises(OSError, match="gone"):  # noqa: PT012
            async for delta in written(Form(lacks=("x",)), Sampling(), "max_tokens", Source(breaks, None, 7)):
                found.append(delta)
        return found

    first, counts = asyncio.run(told())
    assert (first.text, counts.prompt_tokens, counts.completion_tokens) == ("Rain falls", 7, 1)


def test_a_filter_ends_the_answer_and_nothing_is_added() -> None:
    async def filtered(text: str, sampling: Sampling) -> Replies:
        yield Delta(finish="filtered", aside="refused")

    text, last = write(Form(has=("Tom",)), Source(filtered, None, 7))
    assert (text, last.finish, last.aside) == ("", "filtered", "refused")


def test_a_numbered_item_does_not_begin_with_its_number_again() -> None:
    model = Words(1)
    write(form_for(["items==2"])[0], model.source)
    assert all(sampling.banned >= {ord("1")} for text, sampling in model.asked if text == "1.")
    assert any(text == "1." for text, _ in model.asked)

"""A person says what should be different, and where: nothing else is written anew."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import redraft
from redraft.engines.steering.form import Form
from redraft.errors import UsageError
from tests.engines.able import Able

TOWN = "The town has a castle. A ticket costs 12 dollars. Dogs stay outside."


def patched(*replies: str, answer: redraft.Chain | str = TOWN, **options: Any) -> redraft.Chain:
    return redraft.patch(answer, model=redraft.ScriptedEngine(replies), **options)


def test_the_passage_is_written_anew_and_the_rest_stays() -> None:
    engine = redraft.ScriptedEngine(['"11 euros."'])
    chain = redraft.patch(TOWN, places=[("12 dollars", "in euros")], model=engine, prompt="Describe a town.")
    assert chain.answer == TOWN.replace("12 dollars", "11 euros")
    assert (chain.stop, chain.best, chain.passed, chain.prompt.text) == ("ended", 1, None, "Describe a town.")
    before, after = chain.steps
    begin = TOWN.index("12 dollars")
    assert before.feedback is not None
    assert (before.feedback.by, before.verdict) == ("person", "revise")
    assert before.criticism == "“12 dollars” → in euros"
    assert [(each.message, each.places) for each in before.checks] == [("in euros", ((begin, begin + 10),))]
    assert after.patch == ((begin, begin + len("11 euros")),)
    assert all(text in str(engine.calls) for text in (TOWN, "Describe a town.", "in euros"))
    assert redraft.Chain.from_json(chain.to_json()) == chain


def test_characters_and_values_are_places_too() -> None:
    chain = patched('"Old" or "New"', places=[((15, 21), "by name")])
    assert chain.answer == TOWN.replace("castle", '"Old" or "New"')
    ada = '{\n  "name": "Ada",\n  "fee": 12,  "tags": ["a", "b"]\n}'
    values = '{"/fee": 13, "/tags/1": "c"}'
    chain = patched(values, answer=ada, places=[("/fee", "one more"), ("/tags/1", "c")])
    assert chain.answer == ada.replace("12", "13").replace('"b"', '"c"')
    assert chain.steps[1].patch == ("/fee", "/tags/1")
    chain = patched("[1] Eve\n[2] 13", answer=ada, places=[("Ada", "older"), ("/fee", "one more")])
    assert chain.answer == ada.replace("12", "13").replace("Ada", "Eve")


@pytest.mark.parametrize(
    ("place", "reply", "old", "new"),
    [
        ("Ada", 'Ada "A" King', "Ada", r"Ada \"A\" King"),
        ('"Ada"', "Grace", "Ada", "Grace"),
        ("12,", "13 in all", "", ""),
        ('"fee": 12,', '"fee": 13', "12", "13"),
        (None, '[2] "fee": 13,', "12", "13"),
        (None, '```json\n{"Name": "Ada K. is old.", "fee": 12, "tags": []}\n```', "Ada", "Ada K. is old."),
    ],
)
def test_json_stays_json(place: str | None, reply: str, old: str, new: str) -> None:
    ada = '{"Name": "Ada",\r\n "fee": 12, "tags": []}'
    chain = patched(reply, answer=ada, places=[(place, "x") if place else "x"], temperature=0)
    assert chain.answer == ada.replace(old, new)


def test_a_chain_goes_on_from_its_best_answer() -> None:
    engine = redraft.ScriptedEngine(["One two.", "One two three four."])
    made = redraft.revise("Count.", model=engine, checks=["words<=1"], max_revisions=1, mode="verified")
    chain = patched("three", answer=made, places=[("two", "the next one")])
    answers = [step.answer for step in chain.steps]
    assert answers == ["One two.", "One two three four.", "One two.", "One three."]
    assert (chain.best, chain.answer) == (3, "One three.")
    again = patched("four", answer=chain, places=[("three", "the next one")])
    by = [step.feedback and step.feedback.by for step in again.steps]
    assert by == ["checks", "checks", "person", "person", None]
    assert again.usage.completion_tokens > chain.usage.completion_tokens


def test_checks_hold_for_the_new_answer() -> None:
    options: dict[str, Any] = {"places": [("12 dollars", "in euros")], "checks": ["lacks:expensive"]}
    chain = patched("expensive 12 euros", "11 euros", **options)
    assert (chain.stop, chain.passed, chain.revisions) == ("passed", True, 1)
    chain = patched("expensive 11 euros", **options, max_revisions=1)
    assert (chain.stop, chain.passed) == ("max_revisions", False)
    assert chain.answer == TOWN.replace("12 dollars", "expensive 11 euros")


@pytest.mark.parametrize("check", ["lacks:castle", "lacks:ticket", "words<=3"])
def test_what_checks_find_beside_the_named_places_stays_and_is_reported(check: str) -> None:
    chain = patched("11 euros", "[1] Free.", places=[("12 dollars", "in euros: 11")], checks=[check])
    assert (chain.stop, chain.answer) == ("ended", TOWN.replace("12 dollars", "11 euros"))
    assert [result.passed for result in chain.steps[-1].checks] == [False]


LETTER = "Hi Maren, it comes on 5 May. You paid 66.85 EUR.\n\nRide well,\nVelobits"


def test_what_a_person_asks_for_and_what_the_text_had_are_not_mended() -> None:
    prompt = redraft.Prompt(instruction="Answer Maren: it comes on 5 May.")
    new, engine = LETTER.replace("5 May", "3 May"), redraft.ScriptedEngine(["[1] It comes soon."])
    options: dict[str, Any] = {"prompt": prompt, "checks": ["words<=90", "grounded"]}
    chain = redraft.patch(LETTER, places=[("5 May", "3 May")], model=engine, **options)
    assert (chain.answer, len(engine.calls)) == (new, 0)  # the amount is not in the prompt, but stays
    assert "66.85 EUR" in chain.steps[-1].criticism
    assert "3 May" not in chain.steps[-1].criticism
    options |= {"answer": LETTER, "places": ["Say 3 May."]}
    for reply in ("[1] Hi Maren, it comes on 3 May.", new):
        chain = patched(reply, "[1] Hi Maren, it comes on 5 May.", **options)
        assert (chain.answer, chain.revisions) == (new, 1)
    chain = patched("[1] Hi Maren, it comes on 4 June.", "[1] Hi Maren, it comes on 5 May.", **options)
    (entry,) = chain.unchanged  # the correction took the wish back
    assert (chain.answer, chain.revisions, entry["why"]) == (LETTER, 2, "the same text came back")
    assert entry["passage"] == LETTER
    options |= {"places": ["Shorter."], "checks": ["words<=5"]}
    chain = patched("[1] It comes on 5 May.", "[1] 5 May. [2] You paid.", **options)
    assert chain.answer == "5 May. You paid.\n\nRide well,\nVelobits"  # all parts may become shorter


ABC = "A is one. B is two. C is three."
NOTE = "Hi Tom,\n\nit comes on 5 May. Your box has:\n\n- 1 cap\n- 2 nuts\n\nRide well,\nJo"


@pytest.mark.parametrize(
    ("reply", "old", "new"),
    [
        ("[2] it comes on 3 May.", "5 May", "3 May"),
        ("[2] it comes on 5 May.\n\nIt is red.", "5 May.", "5 May.\n\nIt is red."),  # paragraphs stay
        ("[6] The manual is in.\n\nRide well,\nJo", "Ride", "The manual is in.\n\nRide"),
        ("[6] Ride well,\nJo\n\nPS: It is red.", "\nJo", "\nJo\n\nPS: It is red."),
        ("[6] Now:\n\n1. Nod.\n2. Go.", "Ride well,\nJo", "Now:\n\n1. Nod.\n2. Go."),
        ("[5] - 2 nuts\n- 1 pin", "2 nuts", "2 nuts\n- 1 pin"),
        ("[7] It is red.", "\nJo", "\nJo\n\nIt is red."),  # an added part
        ("[4] (removed)", "- 1 cap\n", ""),  # removed parts
        ("[3] (removed)\n[4] (Removed)\n[5] (removed)", " Your box has:\n\n- 1 cap\n- 2 nuts", ""),
        (NOTE.replace("Ride", "It is red.\n\nRide"), "Ride", "It is red.\n\nRide"),  # the whole text
        (NOTE.replace("- 1 cap\n- 2 nuts\n\n", ""), "- 1 cap\n- 2 nuts\n\n", ""),
        ("Hi Tom,\n\nA cap.\n\nRide well,\nJo", NOTE[9:-15], "A cap."),
    ],
)
def test_a_reply_changes_adds_or_removes_parts(reply: str, old: str, new: str) -> None:
    wish = "fewer words" if "emoved)" in reply else "better"
    assert patched(reply, answer=NOTE, places=[wish]).answer == NOTE.replace(old, new)


@pytest.mark.parametrize(
    ("text", "reply", "new"),
    [
        # What a removal takes from a neighbour.
        ("We met. and then we left.", "[1] (removed)", "And then we left."),
        ("We met. and then we left.", "[1] (removed)\n[2] And so we went.", "And so we went."),
        ("1. one\n2. two\n3. three", "[1] (removed)\n[2] 2. zwei", "1. zwei\n2. three"),
        ("- one\n  - a\n  - b\n- two", "[1] (removed)", "- two"),
        # The last sentence also stands above.
        ("Yes. Maybe. Yes.", "Yes.", "Yes."),
        ("A one. B two. C three. B two.", "A one. B two.", "A one. B two."),
        # A closing remark.
        (ABC, "[2] Be.\n\nLet me know if you need anything else!", "A is one. Be. C is three."),
        (ABC, "[2] Be.\n\n(I changed the name in part 2.)", "A is one. Be. C is three."),
        (ABC, "[2] Be.\n\nThe changed part is part 2.", "A is one. Be. C is three."),
        (ABC, "[3] C.\n\nI made a cake.", "A is one. B is two. C.\n\nI made a cake."),
        # Other ways to write (removed).
        (ABC, "[2] (removed).", "A is one. C is three."),
        (ABC, "[2] *(removed)*", "A is one. C is three."),
        (ABC, "[2] removed", "A is one. C is three."),
        (ABC, "[2] (removed)\n\nIt was too long.", "A is one. C is three."),
        (ABC, "[3] (removed)\n[4] D.", "A is one. B is two. D."),
        ("Owls.\n\nRemoved", "[1] An owl.\n[2] Removed", "An owl.\n\nRemoved"),
        # Items.
        ("Do:\n\n1. A\n2. B\n3. C", "Do:\n\n1. D\n2. B\n3. E", "Do:\n\n1. D\n2. B\n3. E"),
        ("Do:\n\n1. A\n2. B\n3. C", "[2] D\n[3] E", "Do:\n\n1. D\n2. E\n3. C"),
        ("1. A\n2. B\n3. C", "1. D\n2. E\n3. F", "1. D\n2. E\n3. F"),
        ("- A\n- B", "[1] (removed)\n[2] D", "- D"),
    ],
)
def test_a_reply_for_the_whole_text_is_read_as_it_is_meant(text: str, reply: str, new: str) -> None:
    chain = patched(reply, answer=text, places=["shorten it"], temperature=0)
    assert chain.answer == new


def test_a_reply_without_a_fitting_part_is_asked_for_once_more() -> None:
    for useless in (
        "It is on 3 May.\n\nIt is red. I like it.\n\n- one\n- two\n\nBye",  # as many parts, but another text
        "I did it.",
        "A cap.\n\nRide well,\nJo",
        "".join(f"[{n}] (removed)\n" for n in range(1, 7)),
        "[4] (removed)",  # the wish does not ask for less
        "[2]",
    ):
        engine = redraft.ScriptedEngine([useless, "[2] it comes on 3 May."])
        chain = redraft.patch(NOTE, places=["better"], model=engine)
        assert (chain.answer, chain.unchanged) == (NOTE.replace("5 May", "3 May"), [])
    text = "A.\n\nFirst. Two.\n\nSecond.\n\nZ."
    chain = patched("One.\n\nAnd two.", answer=text, places=[("First. Two.\n\nSecond.", "merge")])
    assert chain.answer == "A.\n\nOne.\n\nAnd two.\n\nZ."
    chain = patched("Now\nhere\n\nI replaced here by now.", answer=NOTE, places=[("Ride well,\nJo", "x")])
    assert chain.answer == NOTE.replace("Ride well,\nJo", "Now\nhere")


def test_a_wish_and_a_check_hold_together() -> None:
    once = redraft.ScriptedEngine(["[2] A ticket costs 11 euros.", "[2] A ticket costs 13 euros."])
    chain = redraft.patch(TOWN, places=["Use euros."], model=once)
    assert (chain.stop, len(once.calls), chain.revisions) == ("ended", 1, 1)  # without a check
    whole = TOWN.replace("12 dollars", "11 euros")  # all of the text is read by its sentences
    engine = redraft.ScriptedEngine([whole, "[1] A ticket of the lighthouse costs 11 euros."])
    checks: dict[str, Any] = {"places": ["Use euros."], "checks": ["contains:lighthouse"]}
    chain = redraft.patch(TOWN, model=engine, **checks)
    assert chain.answer == whole.replace("ticket", "ticket of the lighthouse")
    assert 'Use euros.\nThe answer does not contain "lighthouse".' in str(engine.calls[1][-1]["content"])
    engine = redraft.ScriptedEngine(["[2] A ticket costs 11 euros.", "[1] The town has a wall."])
    chain = redraft.patch(TOWN, places=["Use euros."], model=engine, checks=["lacks:castle"], temperature=0)
    assert (chain.passed, chain.answer, len(engine.calls)) == (False, whole, 1)  # the castle was there before


def test_a_model_that_goes_on_writes_one_passage_behind_a_quotation_mark() -> None:
    engine = Able(['11 euros"'], about={"resumes": True})
    chain = redraft.patch(TOWN, places=[("12 dollars", "in euros")], model=engine)
    assert chain.answer == TOWN.replace("12 dollars", "11 euros")
    (asked,) = engine.asked
    assert (asked.begun, asked.form, asked.max_tokens) == ('"', Form(one=True), 53)


def test_a_value_is_asked_for_with_its_type_and_not_without_end() -> None:
    engine = Able(['{"/fee": 13}'], about={"schemas": True, "token_ids": True})
    ada = '{"name": "Ada", "fee": 12}'
    assert redraft.patch(ada, places=[("/fee", "more")], model=engine).answer == ada.replace("12", "13")
    (asked,) = engine.asked
    assert asked.schema is not None
    assert (asked.schema["properties"], asked.max_tokens) == ({"/fee": {"type": ["number", "string"]}}, 49)


def test_of_several_wishes_those_not_met_are_asked_for_once_more_and_then_named() -> None:
    options: dict[str, Any] = {"places": [("castle", "older"), ("12 dollars", "in euros"), ("Dogs", "Cats")]}
    engine = redraft.ScriptedEngine(["[1] ruin\n[3] Cats", "11 euros"])
    chain = redraft.patch(TOWN, model=engine, **options)
    assert chain.answer == "The town has a ruin. A ticket costs 11 euros. Cats stay outside."
    assert (chain.unchanged, chain.revisions, "[1] castle" in str(engine.calls[1])) == ([], 1, False)
    chain = patched("[1] ruin", "[1] 12 dollars", **options, checks=["words<=20"])
    assert (chain.answer, chain.stop) == (TOWN.replace("castle", "ruin"), "ended")
    assert (chain.passed, chain.steps[-1].passed) == (False, True)
    chain = patched("[1] ruin", "[1] 12 dollars", **options)
    left = [("12 dollars", "the same text came back"), ("Dogs", "the reply has no new text")]
    assert [(each["passage"], each["why"]) for each in chain.unchanged] == left
    assert (chain.passed, [each["wish"] for each in chain.unchanged]) == (False, ["in euros", "Cats"])
    assert redraft.Chain.from_json(chain.to_json()).unchanged[0]["place"] == [38, 48]
    chain = patched("No.", **options)
    assert (chain.stop, len(chain.unchanged), chain.usage.completion_tokens) == ("unchanged", 3, 3)
    for reply, why in (
        ("[2] A ticket costs 12 dollars.", left[0][1]),
        ("[2] Parts 1 and 2 differ.", left[1][1]),
    ):
        (entry,) = patched(reply, places=["Use euros."], temperature=0).unchanged
        assert (entry["place"], entry["passage"], entry["why"]) == ([0, len(TOWN)], TOWN, why)


@pytest.mark.parametrize(
    ("text", "passage", "wish", "reply", "new"),
    [
        ("Buy a, b. So.", "Buy a, b.", "a list", "- a\n- b\n\nBye!", "- a\n- b\n\n So."),
        ("Get a, b.\r\nSo.", "a, b", "in steps", "1. a\n2. b", "Get \r\n\r\n1. a\r\n2. b.\r\nSo."),
        ("- a, b\n- c", "a, b", "two items", "- a\n- b", "- a\n- b\n- c"),
        ("| a, b | 2 |", "a, b", "a list", "- a\n- b", "| a, b | 2 |"),
        ('{"buy": "a, b"}', "a, b", "a list", "- a\n- b", '{"buy": "- a\\n- b"}'),
        ("Get a, b. So.", "a, b", "shorter", "a\nBye!", "Get a. So."),
    ],
)
def test_a_person_who_wants_a_list_gets_it(text: str, passage: str, wish: str, reply: str, new: str) -> None:
    for said in (reply, f"[1] {reply}"):
        assert patched(said, said, answer=text, places=[(passage, wish)]).answer == new


@pytest.mark.parametrize(
    ("text", "passage", "reply", "new"),
    [
        ("It is a castle.", "castle", "old castle", "It is an old castle."),
        ("It is a castle.", "castle", "an old castle", "It is an old castle."),
        ("An owl is with it.", "owl", "mouse", "A mouse is with it."),
        ("The owl and it.", "owl", "a mouse", "A mouse and it."),
        ("It is a castle.", "castle", "house", "It is a house."),
        ("La casa esta a norte.", "norte", "este", "La casa esta a este."),
    ],
)
def test_an_article_fits_what_stands_behind_it(text: str, passage: str, reply: str, new: str) -> None:
    chain = patched(reply, answer=text, places=[(passage, "another")])
    assert chain.answer == new
    place: Any = chain.steps[-1].patch[0]
    assert text.startswith(new[: place[0]])
    assert text.endswith(new[place[1] :])


@pytest.mark.parametrize("talk", ["Rewrite this passage:", "Part 1 stays, and part 2 too.", "Here it is:"])
def test_a_request_that_comes_back_is_nothing_new(talk: str) -> None:
    chain = patched(talk, talk, places=[("A ticket costs 12 dollars.", "shorter")])
    assert (chain.answer, chain.stop) == (TOWN, "unchanged")


def test_a_sentence_does_not_stand_within_another() -> None:
    sentence = "It is cheap."
    for reply in (sentence, "Here are some tips for you"):
        assert patched(reply, reply, places=[("12 dollars", "in euros")]).answer == TOWN
    chain = patched(sentence, places=[("A ticket costs 12 dollars.", "shorter")])
    assert chain.answer == TOWN.replace("A ticket costs 12 dollars.", sentence)
    for reply in ("EUR 11.", '"A ticket costs EUR 11."'):  # all of the sentence
        chain = patched(reply, places=[("12 dollars", "in euros")])
        assert chain.answer == TOWN.replace("12 dollars", "EUR 11")


@pytest.mark.parametrize(
    "reply",
    ["I'm sorry, but I can't do that.", "[1] (unchanged)", '{"passage": null}', '{"passages": ["a", "b"]}'],
)
def test_a_reply_that_declines_is_not_put_in(reply: str) -> None:
    for places in ([("A ticket costs 12 dollars.", "in euros")], ["Use euros."]):
        assert patched(reply, reply, places=places).answer == TOWN


def test_neighbours_are_removed_together() -> None:
    text = "It is good. It is bad. It is odd.\n\n1. One\n2. Two\n3. Three"
    for passages, left in (
        (["It is bad.", "It is odd."], text.replace(" It is bad. It is odd.", "")),
        (["One", "Two"], text.replace("1. One\n2. Two\n3.", "1.")),
    ):
        chain = patched("-", answer=text, places=[(each, "cut it") for each in passages])
        assert (chain.answer, chain.usage.completion_tokens) == (left, 0)
    chain = patched("Third", answer=text, places=[("One", "remove it"), ("Three", "shorter")])
    assert chain.answer == text.replace("1. One\n2. Two\n3. Three", "1. Two\n2. Third")


def test_a_reply_keeps_within_the_tokens_that_a_person_allows() -> None:
    engine = redraft.ScriptedEngine(["a hundred and eleven euros"])
    chain = redraft.patch(TOWN, places=[("12 dollars", "in euros")], model=engine, max_tokens=6)
    assert (chain.stop, chain.usage.completion_tokens) == ("unchanged", 6)


@pytest.mark.parametrize(
    "around",
    [
        "Sure! Here is the new version: {}", "Here it is:\n\n{}", "```text\n{}\n```", "“{}”", "**{}**",
        'Passage: "{}"', "**Revised passage:**\n\n{}", "> {}", "### {}", '{{"passage": "{}"}}',
    ],
)  # fmt: skip
def test_what_a_model_puts_around_its_text_is_left_out(around: str) -> None:
    euros, place = TOWN.replace("12 dollars", "11 euros"), ("12 dollars", "in euros")
    assert patched(around.format(euros), places=["Use euros."]).answer == euros
    assert patched(around.format("11 euros"), places=[place]).answer == euros
    for reply in (
        "12 dollars -> {}",
        "a ticket costs {}",
        "costs {}",
        "...{}...",
        "Replacement: {}",
        "→ {}",
        "«{}»",
    ):
        assert patched(reply.format("11 euros"), places=[place]).answer == euros


@pytest.mark.parametrize(
    "text", ["A cat. A dog. A bird.", "- A cat.\n- A dog.\n- A bird.", "# T\n\nA dog.\n\nTwo."]
)
def test_of_a_reply_with_the_whole_text_the_passage_is_taken(text: str) -> None:
    new = text.replace("A dog.", "A nice dog.")
    assert patched(new, answer=text, places=[("A dog.", "nicer")]).answer == new


def test_what_belongs_to_the_text_stays() -> None:
    for old, new in (("def f():\n    x", "def g():\n    x"), ("yes or no", "'Yes' and 'no'")):
        assert patched(new, answer=f"{old}\n\nThat is all.", places=[(old, "x")]).answer[:13] == new[:13]
    assert patched("[2] It dries", answer="It falls. It is", places=["x"]).answer == "It falls. It dries"
    assert patched("Part 2", answer="I saw it.", places=[("it", "its name")]).answer == "I saw Part 2."
    milk = "Milk: one litre."
    assert patched("Milk:\n- one", answer=f"{milk} So.", places=[(milk, "x")]).answer == f"{milk} So."


def test_of_a_row_the_cell_is_taken_and_code_keeps_its_lines() -> None:
    table = "| city | price |\n|---|---|\n|  | 12 dollars |\n"
    for reply in ("|  | 11 euros |", "11 euros |"):
        chain = patched(reply, answer=table, places=[("12 dollars", "in euros")])
        assert chain.answer == table.replace("12 dollars", "11 euros")
    code, loop = "Run:\n```python\nif x:\n    print(x)\n```\nDone.", "for n in x:\n    print(n)"
    for reply in (loop, f"```python\n{loop}\n```"):
        chain = patched(reply, answer=code, places=[("print(x)", "each")])
        assert chain.answer == code.replace("print(x)", "for n in x:\n        print(n)")


def test_a_string_needs_no_quotation_marks() -> None:
    ada = '{"fee": "12 dollars", "n": 3}'
    for reply in ("11 euros", "fee: 11 euros", '{"value": "11 euros"}'):
        chain = patched(reply, answer=ada, places=[("/fee", "in euros")])
        assert chain.answer == ada.replace("12 dollars", "11 euros")
    assert patched("four", answer=ada, places=[("/n", "more")]).answer == ada
    assert patched("Bella: a", answer='{"a": "x"}', places=[("/a", "y")]).answer == '{"a": "Bella: a"}'
    home = '{"home": {"town": "Rome"}, "tags": ["a"]}'
    assert patched('{"town": "Bern"}', answer=home, places=[("/home", "y")]).answer == home.replace(
        "Rome", "Bern"
    )
    assert patched('["b", "c"]', answer=home, places=[("/tags", "y")]).answer == home.replace(
        '"a"', '"b", "c"'
    )


def test_nothing_new_is_no_step() -> None:
    assert redraft.patch(TOWN, places=["x"], model=redraft.ScriptedEngine(["x"], context=9)).stop == "context"
    chain = patched("12 dollars", places=[("12 dollars", "in euros")])
    assert (chain.stop, chain.answer, len(chain.steps)) == ("unchanged", TOWN, 1)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([], "neither places nor checks"),
        ([("pounds", "in euros")], "lacks the passage 'pounds'"),
        ([("s", "in euros")], "the passage 's' 8 times"),
        ([((5, 900), "in euros")], "the text, which has 68 characters"),
        ([((3, 1), "in euros")], "the place \\(3, 1\\) is not a passage of the text"),
        ([("town has", "x"), ("has a castle", "y")], "two places to change"),
        ([("town", "")], "places: item 1"),
        (["Remove it."], "does not say which passage to change"),
        (["Use euros.", ("town", "y")], "'Use euros.' has no passage"),
        (("town", "shorter"), "'town' has no passage.*places=.*'town', 'shorter'"),  # not in a list
        ([(TOWN, "Remove it.")], "the whole text"),
        ([("town",)], "places: item 1"),
        ("make it shorter", r"or one wish: \['make it shorter'\]"),
    ],
)
def test_an_error_teaches(places: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        patched("x", places=places)
    assert caught.value.hint
    assert re.search(message, f"{caught.value.message} {caught.value.hint}")
    for place, said in (("/b", "no value at '/b'"), ("name", "removing 'name' would break the JSON")):
        with pytest.raises(UsageError, match=said):
            patched("x", answer='{"name": 1}', places=[(place, "remove it")])


def test_without_places_checks_find_what_is_to_change() -> None:
    for answer in (
        TOWN,
        redraft.revise("?", given=TOWN, model=redraft.ScriptedEngine(["-"]), max_revisions=0),
    ):
        chain = patched("[1] The town has walls.", answer=answer, checks=["lacks:castle"])
        assert (chain.answer, chain.steps[1].patch) == (TOWN.replace("a castle", "walls"), ((0, 19),))
    chain = patched("Walls.", checks=["words<=3"])  # no place, and the text is not rewritten
    assert (chain.answer, chain.stop, chain.usage.completion_tokens) == (TOWN, "unchanged", 0)


def test_places_need_an_answer_that_stays() -> None:
    with pytest.raises(UsageError, match="without the answer that contains them"):
        redraft.revise("Describe a town.", places=[("town", "x")])
    with pytest.raises(UsageError, match="writes the whole answer"):
        redraft.revise("Describe a town.", given=TOWN, places=[("town", "x")], mode="native")


def test_there_is_an_async_twin() -> None:
    made = redraft.apatch(TOWN, places=[("town", "smaller")], model=redraft.ScriptedEngine(["village"]))
    assert "village has" in asyncio.run(made).answer


@settings(deadline=None, max_examples=20)
@given(st.text(min_size=1, max_size=40), st.data())
def test_what_is_outside_stays_to_the_byte(text: str, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(begin + 1, len(text)))
    if not text[begin:end].strip() or text.encode("utf-8", "replace") != text.encode("utf-8", "ignore"):
        return
    chain = patched("Owls.", answer=text, places=[((begin, end), "other")])
    assert chain.answer.startswith(text[:begin])
    assert chain.answer.endswith(text[end:])


@pytest.mark.parametrize(
    ("text", "passage", "left"),
    [
        ("It rains. It costs 12 dollars. Come.", "It costs 12 dollars.", "It rains. Come."),
        ("It costs 12 dollars, mostly.", ", mostly", "It costs 12 dollars."),
        ("Sadly, it rains.", "Sadly,", "It rains."),
        ("- Sadly, it rains\n- Go", "Sadly", "- It rains\n- Go"),
        ("A cat, a dog, a bird.", "a dog", "A cat, a bird."),
        ("A cat, and a bird.", "and a bird", "A cat."),
        ("We like it (really) a lot.", "really", "We like it a lot."),
        ("It works — of course — now.", "of course", "It works now."),
        ('{"a": 1, "b": [2, 3]}', "/a", '{"b": [2, 3]}'),
        ('{"a": 1, "b": [2, 3]}', "/b/1", '{"a": 1, "b": [2]}'),
        ("One\r\ntwo.\r\nThree.", "One\ntwo.\n", "Three."),
        ("- tea\n- milk\n- sugar\n", "milk", "- tea\n- sugar\n"),
        ("One.\n\nTwo.\n\nThree.", "Two.", "One.\n\nThree."),
        ("One.\n\nTwo.", "One.", "Two."),
        ("It is good. It is bad.", "It is bad.", "It is good."),
        ("It is **very** good.", "very", "It is good."),
        ("He said “very nice” and left.", "very", "He said “nice” and left."),
        ("See [the site](http://a.b) for more.", "the site", "See for more."),
        ('He said "yes" and "no".', "and", 'He said "yes" "no".'),
        ("We went home—at last—and slept.", "at last", "We went home and slept."),
        ("We - at last - went.", "at last", "We went."),
        ("We, however, like it.", "however", "We like it."),
        ("They have an old barn.", "old", "They have a barn."),
        ("- fruit\n  - apple\n  - pear\n- bread", "fruit", "- bread"),
        ("See the map.\n\n- fruit\n- bread\n\nGo.", "fruit", "See the map.\n\n- bread\n\nGo."),
        (
            "See the map.\r\n\r\n- fruit\r\n- bread\r\n\r\nGo.",
            "bread",
            "See the map.\r\n\r\n- fruit\r\n\r\nGo.",
        ),
        ("## Fruit\n    pip install x\n", "Fruit", "    pip install x\n"),
        ("See ![now](x.png) or [the site][1].", "now", "See or [the site][1]."),
        ("See ![now](x.png) or [the site][1].", "the site", "See ![now](x.png) or."),
        ("London – Paris – Rome is far.", "Paris", "London – Rome is far."),
        ("Set f (x) = 3 here.", "x", "Set f () = 3 here."),
        ("Option A clearly is best.", "clearly", "Option A is best."),
        ("A well-known fact helps.", "known", "A well fact helps."),
        ('{"name": "Ada", "age": 36}', "36", '{"name": "Ada"}'),
        ("1. One\n1. Two\n1. Three", "Two", "1. One\n1. Three"),
        ("1. One\n2. Two\n   1. x\n3. Three\n\nAnd:\n3. x", "Two", "1. One\n2. Three\n\nAnd:\n3. x"),
    ],
)
def test_a_passage_that_is_to_be_removed_goes_without_asking_the_model(
    text: str, passage: str, left: str
) -> None:
    chain = patched("Nobody asks.", answer=text, places=[(passage, "Remove it.")])
    assert (chain.answer, chain.usage.completion_tokens) == (left, 0)
    value = {"/a": "1", "/b/1": "3"}.get(passage, passage.strip())
    assert chain.steps[0].criticism.replace("\r", "") == f"“{value}” → Remove it."


@pytest.mark.parametrize(
    ("text", "place", "wish", "new"),
    [
        (TOWN, "12 dollars", "1,250 dollars", TOWN.replace("12", "1,250")),
        (TOWN, "castle", "“old castle”", TOWN.replace("a castle", "an old castle")),
        ('Say "hi".', '"hi"', "“ho”", 'Say "ho".'),
        ('{"a": 1, "b": "x"}', "/a", "2", '{"a": 2, "b": "x"}'),
        ('{"a": 1, "b": "x"}', "/b", '"y"', '{"a": 1, "b": "y"}'),
        ('{"a": 1, "b": "x"}', "1", '"y z"', '{"a": "y z", "b": "x"}'),
        ('{"a": "home"}', "/a", r'"C:\dir"', r'{"a": "C:\\dir"}'),
        ('{"a": "home"}', "home", r'"C:\new"', r'{"a": "C:\\new"}'),
        ('{"a": 1}', "/a", r'"C:\dir"', r'{"a": "C:\\dir"}'),
        (TOWN, "town", '"town"', TOWN.replace("town", "asked")),  # nothing new, so the model is asked
        ('{"a": "asked"}', '"a": "asked"', '"b"', '{"a": "asked"}'),  # no JSON
    ],
)
def test_a_wish_that_is_the_new_text_asks_no_model(text: str, place: str, wish: str, new: str) -> None:
    chain = patched("asked", answer=text, places=[(place, wish)])
    assert (chain.answer, chain.usage.completion_tokens > 0) == (new, "asked" in new)
    unopened = redraft.patch(TOWN, places=[("12 dollars", "13 dollars")], model="http://127.0.0.1:9/v1#x")
    assert unopened.answer == TOWN.replace("12", "13")
    with pytest.raises(UsageError, match="two places to change"):
        patched("x", places=[("12 dollars", "13 dollars"), ("dollars", '"euros"')])


MAIL = "Dear Ms Lee,\n\nit arrives on Tuesday, 5 May. It costs 49 EUR. Be there on Tuesday!\n\nBest,\nTom"
LIST = "Pack:\n\n1. bread\n2. olives\n3. tea\n\nDone."


@pytest.mark.parametrize(
    ("text", "wish", "old", "new"),
    [
        (MAIL, "change Tuesday to Friday", "Tuesday", "Friday"),
        (MAIL, "Please change 5 May to 3 June.", "5 May", "3 June"),
        (MAIL, 'replace "there" with “at home”', "there", "at home"),
        (MAIL, "Change 'tuesday, 5 may' to 'Friday'", "Tuesday, 5 May", "Friday"),
        (MAIL, "'Tuesday' -> 'Friday'", "Tuesday", "Friday"),
        (MAIL, "change may to June", "May", "June"),
        (MAIL, "remove the second sentence", " It costs 49 EUR.", ""),
        ("Version 2.3 costs 3 dollars.", "change 3 to 4", "3 d", "4 d"),
        (MAIL, "remove the last sentence", " Be there on Tuesday!", ""),
        ("# Hi\n\nA b.\n\nC d.", "remove the first paragraph", "A b.\n\n", ""),
        (MAIL, "Drop the last line.", "\nTom", ""),
        (MAIL, "delete the first paragraph", "Dear Ms Lee,\n\n", ""),
        (LIST, "remove the second item", "2. olives\n3", "2"),
        (MAIL, 'remove "It costs 49 EUR."', " It costs 49 EUR.", ""),
    ],
)
def test_a_plain_wish_for_the_whole_text_needs_no_model(text: str, wish: str, old: str, new: str) -> None:
    chain = patched("asked", answer=text, places=[wish])
    assert chain.answer == text.replace(old, new)
    assert chain.usage.completion_tokens == 0


@pytest.mark.parametrize(
    "wish",
    [
        *("change Tuesday to a later day", "change dear to Hi", "remove the second item", 'remove "day"'),
        *("change Tuesday to Friday, and be brief", "turn 5 into Roman numerals", "change Tuesday to German"),
        *("Tuesday -> Shorter", "Change Passive to Active", "change 6 bullets to 3 bullets"),
        "replace 'Tuesday' with 'Friday' and 'Best' with 'Yours'",
    ],
)
def test_a_wish_that_is_less_plain_is_the_models(wish: str) -> None:
    assert "So be it." in patched("[2] So be it.", answer=MAIL, places=[wish]).answer


@pytest.mark.parametrize(
    "wish", ["change Monday to Friday", "remove the fifth sentence", "'dollars' → 'USD'"]
)
def test_a_plain_wish_for_what_the_text_lacks_is_refused(wish: str) -> None:
    with pytest.raises(UsageError, match=r"the text (?:lacks the passage|has no)"):
        patched("[2] So be it.", answer=MAIL, places=[wish])


@pytest.mark.parametrize(
    ("check", "given", "text"),
    [
        ("lacks:!", "go! It rains.", "go. It rains."),
        ("lowercase", "go! It rains.", "go! it rains."),
        ("lacks:,", "We saw 1,200 owls.", "-"),  # inside a number
        ("lacks:*", "Owls:\n\n* one\n* two", "-"),  # the marks of a list
        ("lacks:; lacks:,", "It rains all day; we stay.", "It rains all day we stay."),
        ("lacks:really", "We saw an owl (really), and went.", "We saw an owl, and went."),
        ("lacks:really", "We saw an owl—really—and went.", "We saw an owl and went."),
        ("lacks:y", "We set x - y - z to 3.", "-"),
        ("lacks:Paris", "London – Paris – Rome is far.", "-"),
        ("lacks:indeed", "We saw an owl, indeed, and went.", "We saw an owl and went."),
    ],
)
def test_marks_and_asides_need_no_model(check: str, given: str, text: str) -> None:
    chain = redraft.revise("?", model=redraft.ScriptedEngine(["-"]), given=given, checks=check.split())
    assert (chain.answer, chain.usage.completion_tokens > 0) == (text, text == "-")


@pytest.mark.parametrize(
    ("check", "old"), [("lacks:egg", " egg-sized"), ("lacks:14 May", " 14"), ("lacks:14", " 14")]
)
def test_a_compound_is_one_word_and_of_a_phrase_with_a_number_that_changes(check: str, old: str) -> None:
    engine = Able([""], about={"resumes": True, "forms": True, "logprobs": True})
    text = "On 14 May we saw an egg-sized stone there. It was brown, and lay in the garden. Nobody knew it."
    redraft.patch(text, checks=[check], model=engine)
    form: Any = engine.asked[0].form
    assert form.gap.old == old


@pytest.mark.model
@pytest.mark.usefixtures("default_model")
def test_the_default_model_is_called_too_small_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        redraft.patch("We pay 12 dollars.", places=[("12 dollars", "in euros")], max_tokens=1)
    assert ["Name a larger model" in each for each in caplog.messages] == [True]

"""Checks from the prompt: what rules find, what they leave alone, and hostile prompts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.chain import Prompt
from redraft.checks import language
from redraft.checks.derive import checks_in
from redraft.checks.derive.wording import choice
from redraft.checks.parse import parse_check
from tests.cli.verbs import redraft as run

ROOT = Path(__file__).resolve().parents[2]
FOUND = {
    "Describe a lighthouse in at most 50 words.": ("words<=50",),
    "In fewer than 3 sentences, explain tides.": ("sentences<=2",),
    "Write a note of 100 to 120 words.": ("words=100..120",),
    "Don't use more than 20 words.": ("words<=20",),
    "Use 30 words or less.": ("words<=30",),
    "Keep it under 280 characters.": ("characters<=279",),
    "Summarise the text in two paragraphs.": ("paragraphs==2",),
    "Give me three bullet points about tea.": ("bullets==3",),
    "Give me a list of 5 ideas for a party.": ("items==5",),
    "Can I have a list of 5 ideas?": ("items==5",),
    "I have a list of 5 ideas. Which is best?": (),
    "A list of 5 ideas was found. Who wrote it?": (),
    "Describe rain (<=20 words).": ("words<=20",),
    "Describe rain in ≤ 20 words.": ("words<=20",),
    'Avoid the phrase "a,b".': ('lacks:"a,b"',),
    "Explain it in 3 numbered steps.": ("items==3",),
    "Write a post (max 280 chars).": ("characters<=280",),
    "Answer with exactly two sentences, in German.": ("sentences==2", "language:de"),
    "Do not mention Tom.": ("lacks:Tom",),
    "Write the reply in uppercase.": ("uppercase",),
    "Answer yes or no.": (choice(["yes", "no"]),),
    "Just yes or no: can dogs eat grapes?": (choice(["yes", "no"], alone=True),),
    "Is 97 prime? Answer in one word.": ("words==1",),
    'Translate into German: "Use at least 50 words."': ("language:de",),
    'Do not mention "sea" or "ship".': ("lacks:sea", "lacks:ship"),
    'Avoid the word "very".': ("lacks:very",),
    "Include the keywords lamp, tower and rock.": ("contains:lamp", "contains:tower", "contains:rock"),
    "End with the phrase 'Good night.'": ("ends:Good night.",),
    "Use exactly three bullet points and then end with a question mark.": ("bullets==3", "ends:?"),
    "Write a tweet that ends in an exclamation mark!": ("ends:!",),
    "Explain why each sentence ends with a question mark.": (),
    "Ensure that the reply ends with 'Bye'.": ("ends:Bye",),
    "Explain how owls hoot ending with 'Bye'.": ("ends:Bye",),
    'Start with "Dear Ann".': ("starts:Dear Ann",),
    "Describe tea in at least 30 words but fewer than 50.": ("words>=30", "words<=49"),
    "Write at least three and at most 5 bullet points.": ("bullets>=3", "bullets<=5"),
    "Use a minimum of 20 and a maximum of 40 words.": ("words>=20", "words<=40"),
    "Write no fewer than 2 and no more than four paragraphs.": ("paragraphs>=2", "paragraphs<=4"),
    "Describe tea, in more than 30 but no more than 50 words.": ("words>=31", "words<=50"),
    "Use at least 30 words but at most 4 sentences.": ("words>=30", "sentences<=4"),
    "Write a tweet about tea, ending with #tea.": ("ends:#tea",),
    "In German: what is tea?": ("language:de",),
    "Name a tea. The name must be three words long.": ("words==3",),
    "Your answer should be 12 words long.": (),
    "List five teas, no numbering.": (r"lacks[regex]:(?m)^\s*\d+[.)]",),
    "No commas, please.": ("lacks:,",),
    "Write in all lowercase.": ("lowercase",),
    "Wrap the whole answer in double quotation marks.": ('starts:"', 'ends:"'),
    "Reply in JSON with the keys name and age.": ("keys:name,age",),
    "Reply in JSON with the keys name and age, please.": ("keys:name,age",),
    "Reply in JSON with the keys name, age, and nothing else.": ("keys:name,age",),
    "Reply in JSON with the keys name, age, in years, and city.": ("json",),
    "Reply in JSON with the keys lat, lon, both numbers, and label.": ("json",),
    "Use the words sea and gull, thanks.": ("contains:sea", "contains:gull"),
    "Use the words tea and milk, please, in one sentence.": ("sentences==1", "contains:tea", "contains:milk"),
    "Include the keywords main.io and app.dev.": (),
    "A rap about tea, 8 lines.": ("lines==8",),
    "Explain it in less then 40 words, no more then 3 sentances.": ("words<=39", "sentences<=3"),
    "Why does it rain, in one sentence?": ("sentences==1",),
    "Use bullet points, but no headings.": ("bullets>=1", "headings==0"),
    "Give three tips for a job interview, as bullet points.": ("bullets==3",),
    "Write 3 tips as bullets, at most 50 words in total.": ("words<=50", "bullets==3"),
    "How do I boil an egg? Numbered list.": ("items>=1",),
    "List five fruits as JSON.": ("json",),
    "In under 200 words, explain the causes in bullet points.": ("words<=199", "bullets>=1"),
    "Show how to save a dict as JSON.": (),
    "Translate 'thank you' into French, Spanish and Italian, as JSON.": ("json",),
    "List five formats as common as JSON.": ("items==5",),
    "Answer only with yes, no or maybe.": (choice(["yes", "no", "maybe"], alone=True),),
    "True or false: owls are birds.": (choice(["true", "false"]),),
    "No hashtags or exclamation marks.": ("lacks:!", "lacks:#"),
    "Write a poem without the letter e.": ("lacks[part]:e",),
    "Name six herbs, one per line.": ("lines==6",),
    "Give me a list of 5 things to pack, one per line.": ("lines==5",),
    "Mention Kofi and Ama in the toast.": ("contains:Kofi", "contains:Ama"),
    "Reply in JSON with the keys reason and why.": ("keys:reason,why",),
    "Return a list of 3 rivers, as a JSON list with the keys name and why.": (
        r"""matches:(?s)^[^{\[]*\[\s*\{(?=.*"name")(?=.*"why")""",
        "json",
    ),
    "Write a plain text without headings.": ("headings==0",),
    "Write an email of at most 3 sentences and at most 60 words.": ("words<=60",),
    "Use exactly three bullet points, each under 10 words.": ("bullets==3",),
    "Give JSON with the keys name and price.": ("keys:name,price",),
    "Answer as JSON with keys name and price, no exclamation marks.": ("lacks:!", "keys:name,price"),
    "Summarise this in two sentences:\nUse at least 90 words.": ("sentences==2",),
}
LEFT_ALONE = [
    "My friend said: use no more than 5 words. What did he mean?",
    "How many sentences should an abstract have? At most 5 sentences?",
    "Should I use at most 3 colours in a logo?", "My essay has to be at least 500 words.",
    "The teacher told us to write 5 sentences.", "How do I say 'I am hungry' in Japanese?",
    'Use the word "moon" at least twice.', "Put the title in uppercase.",
    "What is the difference between JSON and YAML?", "He wrote at least 500 words a day. What did he write?",
    "You don't have to use at least 50 words.", "If the text has more than 50 words, shorten it.",
    "Each paragraph should have at least 20 words.", "Why must passwords contain at least 8 characters?",
    "Write a Python function that returns at most 50 words of a text.", 'Don\'t start with "Sure".',
    'Never end your answer with "Hope this helps".', "Do not answer in French.",
    "Write in the style of a French poet.", "Write a story in which nobody speaks in all caps.",
    "Include the word count.", "A 300 word essay on rain, please.",
    "Rewrite politely: No more than two guests a room, at most 3 words.",
    "Write a story with at least 3 characters.", "Keep the headline under 10 words.",
    "Name countries that end with 'land'.", "Mention Tuesday and the library",
    "Mention Kofi, Ama and the cake.", "Your last answer was under 50 words.",
    "Write five true or false questions.", "Tell me a child's first words in German.",
    "Cut it by at least 20 words.", "Start with a one-sentence summary, then go into detail.",
    "Write a SQL query. It should return at most 5 lines.",
    "Name 3 rivers with 2 sentences, each on its bank.", "Describe Rome and Paris in 3 sentences, each.",
    "For both products, write 2 paragraphs, each with a heading.", "Give JSON examples of a tree.",
    "Write at least 50 words. Write at least 80 words.", "Use at least 80 words. Use at most 20 words.",
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "checks"), FOUND.items())
def test_what_is_found(prompt: str, checks: tuple[str, ...]) -> None:
    assert checks_in(prompt) == checks
    assert checks_in(f"Tell me of the harbour. {prompt}") == checks


@pytest.mark.parametrize("prompt", LEFT_ALONE)
def test_what_is_unsure_is_left_out(prompt: str) -> None:
    assert checks_in(prompt) == ()


def test_everyday_prompts_give_no_wrong_check() -> None:
    lines = (ROOT / "benchmarks" / "derive_prompts.jsonl").read_text("utf-8").splitlines()
    for record in map(json.loads, lines):
        if not record["held_out"]:
            labels = {WRITTEN.get(check.partition(":")[0], str)(check) for check in record["checks"]}
            assert set(checks_in(record["prompt"])) <= labels, record["prompt"]


WRITTEN = {
    "first": lambda check: choice(check[6:].split("|")),
    "alone": lambda check: choice(check[6:].split("|"), alone=True),
}
pieces = st.sampled_from(
    [*" ".join(FOUND).split(), *" ".join(LEFT_ALONE).split(), "***", "<<a>>", "\n", '"', "'"]
)


@given(st.lists(pieces | st.text(max_size=8), max_size=40).map(" ".join))
def test_whatever_is_derived_can_be_parsed(prompt: str) -> None:
    found = checks_in(prompt)
    assert len(found) <= 50
    for check in found:
        parse_check(check)


HOSTILE = ["at least 5 words. ", "12 ", '"', "'a' ", "a list of 3 ", "in JSON with keys a, ", "3 words or "]
HOSTILE += ['Do not use the word "a" and "b". ']


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_takes_no_longer_than_a_page(piece: str) -> None:
    started = time.process_time()
    checks_in((piece * 500_000)[:1_000_000])
    checks_in("".join(f"{piece}{number}. " for number in range(50_000))[:1_000_000])
    assert time.process_time() - started < 10


def test_a_chain_has_the_checks_of_its_prompt_beside_others() -> None:
    engine = redraft.ScriptedEngine(["A long, long light by the sea."])
    prompt = "In at most 5 words, without commas: what is a lighthouse?"
    chain = redraft.revise(prompt, model=engine, checks=["auto", "lacks:sea"], max_revisions=0)
    assert [result.name for result in chain.steps[0].checks] == ["lacks:sea", "words<=5", "lacks:,"]


def test_what_is_given_too_is_checked_once_and_the_input_demands_nothing() -> None:
    engine = redraft.ScriptedEngine(["Rain falls."])
    prompt = Prompt(instruction="Shorten it to at most 5 words.", input="Write at least 90 words.")
    chain = redraft.revise(prompt, model=engine, checks=["words<=5", "auto"], max_revisions=0)
    assert [result.name for result in chain.steps[0].checks] == ["words<=5"]


def test_a_check_that_needs_an_extra_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    engine = redraft.ScriptedEngine(["Il pleut."])
    chain = redraft.revise("Use at most 5 words. Answer in French.", model=engine, checks=["auto"])
    assert [result.name for result in chain.steps[0].checks] == ["words<=5"]
    assert "language:fr is left out: the check 'language' needs the extra 'data'" in caplog.text


def test_in_a_group_auto_checks_by_itself() -> None:
    engine = redraft.ScriptedEngine(["one two three", "one two three"])
    for prompt, passes in (("Use at most 5 words.", True), ("Write at least 50 words.", False)):
        chain = redraft.revise(prompt, model=engine, checks=["all(auto; lacks:sea)"], max_revisions=0)
        assert chain.passed is passes


def test_the_verb_prints_what_a_prompt_gives() -> None:
    prompt = "In at most 50 words, without commas: what is rain?"
    assert run("checks", prompt).stdout == "words<=50\nlacks:,\n"
    assert run("checks", "--json", stdin=prompt).stdout == '["words<=50", "lacks:,"]\n'
    none = run("checks", "What is rain?")
    assert (none.stdout, "no demand was found" in none.stderr) == ("", True)

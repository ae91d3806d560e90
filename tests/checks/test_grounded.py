"""`grounded`: what an answer has and its prompt has not, in whatever writing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

import redraft
from redraft.chain import Prompt
from redraft.checks.base import Outcome
from redraft.checks.grounded import Grounded

SOURCE = """\
Summarise this letter.

On 5 March 2024 Dr. Marie Curie-Smith of the United Nations wrote from Warsaw: “We have counted twelve hundred
storks, and 3.5 million more are expected by autumn.” Half of them (50%) came from Italy. Her plane, a
Boeing 747, left at 3:30 pm; the trip cost €1,234.50, twenty-one euros less than in 2019. See
www.storks.example/report or ask Ann O'Brien. The deadline is 12/11/2025.
"""


def check(answer: str, source: str = SOURCE) -> Outcome:
    return Grounded().check(answer, Prompt(instruction="Summarise.", input=source))


SAME = [
    "In March, the U.N. expects more. Marie Curie-Smith wrote on March 5, 2024.",
    "She wrote on 2024-03-05, or 05/03/2024, or 5th of March; it was March 2024.",
    "The UN counted 1,200 storks, that is 1200, 1.200 or 1 200.",
    "They expect 3,500,000 more: 3.5 million.",
    "One in two, fifty percent, 0.5 or half, was Italian: the Italians’ storks.",
    "Her Boeing's flight left at 15:30, with 747 on it, at a cost of 1234.50 euros: 21 less than before.",
    "Mr. O'Brien knows: ask O’Brien. I'm sure that I'd ask Ann’s friends.",
    'She wrote: "We have counted … 3.5 million more". It is "great".',
    "The deadline is December 11 or 12 November 2025.",
    "1. Storks came.\n2) They left.\n\nStep 3: Wait.\n\n## Key Facts\n\n**Main Points:** Fly [Your Name].",
    "There are three reasons, and two of them are good. First, storks.",
    "Summary: The letter was written in Warsaw. Sincerely, Ann",
    "MARIE CURIE-SMITH WROTE FROM WARSAW.",
    "Look at www.storks.example/report!",
    '"The storks\' trip is described in this letter from Warsaw."',
    "See `Foo(42)`:\n```python\nprint(42, Bar)\n```",
]


FIRM = """\
Helvig AG, Zurich, had revenue of 5 million Swiss francs in 2023, up 12 percent, and 310 thousand visitors. It
lost 1,250 euros in Basel. Maria Keller expects CHF 6.2m. The results are due on Tuesday,
14 May or 3 to 5 July. It is -5 °C. She ran 10 miles in 2 hours, aged 40."""
MET = "Extract the person and the city. Tom Baker met Ann Lee in Rome."
FIRM_HAS = [
    "1250 EUR", "€1,250, 1.250 euros, a loss of -1250 euros",
    '{"revenue": 5000000, "growth": "12%", "rate": 0.12, "visitors": "310k", "next": "6.2 million francs"}',
    "Revenue (millions of CHF): 5", "Due: Tue, May 14; 5 July",
    "The results are due on 14 May. It has 310 thousand visitors.", "minus five degrees Celsius",
    "A loss of 1,250 seems high. 12 gives a gain, and 14 works.",
    "10 mi in 2h; 40 years old; 2023 results; 2 full hours",
    "| City | CEO |\n|---|---|\n| BASEL | M. Keller |", '{"missing": 0, "new":0, "so": ["Zurich is cold."]}',
    '```json\n{"firm": {"name": "Helvig AG", "said": "\\"It lost \\u20ac1,250.\\" In Basel"}}\n```',
]  # fmt: skip
FIRM_LACKS = [
    ("5 billion", "the number 5 billion"), ("5 thousand francs", "the number 5 thousand francs"),
    ("Revenue: CHF 5", "the number CHF 5"),
    ("5 million visitors and 310 million francs", "310 million francs"), ("6.2bn", "the number 6.2bn"),
    ("$1,250", "the number $1,250"), ("1250 CHF", "the number 1250 CHF"), ("-12%", "the number -12%"),
    ("5 °C", "the number 5 °C"), ("-5 °F", "the number -5 °F"), ("10 km", "the number 10 km"),
    ("10 miles in two days", "the number two days"), ("Due: Wednesday, 14 May", "the date Wednesday, 14 May"),
    ("14 visitors, 0 guests", "the numbers 14 visitors, 0 guests"), ("CHF 310k", "the number CHF 310k"),
    ("twelve hundred and fifty visitors", "the number twelve hundred and fifty visitors"),
    ("Due on Monday", "the day Monday"), ("Due in June", "the month June"),
    ("Due: 14 June", "the date 14 June"), ('{"ceo": "Maria Kessler"}', 'the name "Maria Kessler"'),
    ('["Zurich", "Bern"]', 'the name "Bern"'),
    ("| City | CEO |\n|---|---|\n| Geneva | Maria Keller |", 'the name "Geneva"'),
    ("CEO: MARIO KELLER", 'the name "MARIO KELLER"'),
    ('```json\n{"firm": "Novartis"}\n```', 'the name "Novartis"'),
    ("<city>Bern</city>", '"Bern"'), ("“Bern”", '"Bern"'), ("Gate 14D", ": 14D."),
    ('{"is": "\\"we all left\\"."}', "“we all left”"),
    ('{"is": "He said “we all left” then."}', "“we all left”"),
    ('{"is": "He said «we all left» then."}', "«we all left»"),
    ('{"is": "\\"our caf\\u00e9 is shut\\"."}', "“our café is shut”"),
    ('{"is": "\\"yes\\nno\\" and \\"we all left\\"."}', "“we all left”"),
]  # fmt: skip
MET_LACKS = [
    ("['Sarah Jones']", '"Sarah Jones"'),
    ("names: [Sarah Jones, Bob Hill]", '"Sarah Jones", the name "Bob"'),
    ('{"name": "Sarah Jones", "city": "Berlin"}', '"Sarah Jones", the name "Berlin"'),
    ("- Tom Smith", '"Tom Smith"'),
    ("Sarah Jones met Bob Hill in Berlin.", '"Sarah Jones", the name "Bob", the name "Berlin"'),
    ("He met Tom Becker.", '"Tom Becker"'),
    ("Anita was in Rome.", '"Anita"'),
    ('{"street": "12 Hill Lane"}', '"Hill"'),
]


@pytest.mark.parametrize("answer", FIRM_HAS)
def test_what_belongs_to_a_number_or_a_date_may_be_written_in_other_ways(answer: str) -> None:
    found = check(answer, FIRM)
    assert found.passed, found.message


@pytest.mark.parametrize(("answer", "named"), FIRM_LACKS)
def test_a_number_with_what_is_not_its_own_and_a_name_in_any_form_is_new(answer: str, named: str) -> None:
    assert named in check(answer, FIRM).message


@pytest.mark.parametrize(("answer", "named"), MET_LACKS)
def test_names_count_wherever_they_stand(answer: str, named: str) -> None:
    assert f"the name {named}" in check(answer, MET).message


@pytest.mark.parametrize(
    ("text", "honest", "invented"),
    [
        ("Der Preis beträgt 5 Millionen Euro.", "5 million euros", "5 Milliarden Euro"),
        ("价格500万元。", "费用为500万元", "500亿元"),
        ("会议在5月3日。", "5月3日开会", "5月4日"),
        ("It cost ₹5 lakh.", "500,000 rupees", "5 crore rupees"),
        ("It cost $5.", "5 dollars", "5 cents"),
        ("In euros: 80 covers one night.", "80 euros", "80 dollars"),
        ("We sold 24 desk lamps for 90 euros.", "24 lamps, 24 items", "24 euros"),
        ("Elle est restée 24 heures avec nous pour le dîner.", "24 hours", "25 hours"),
    ],
)
def test_scales_and_numbers_in_words_of_other_languages_count(text: str, honest: str, invented: str) -> None:
    assert check(honest, text).passed
    assert not check(invented, text).passed


SAME_DAY = "03.03.2027|Wednesday, March 3, 2027|The report comes in July.|on 3 mars|Mittwoch"
ABROAD = {  # a date, and days that are not it
    "Am Mittwoch, den 3. März 2027. Mehr im Juli.": "am 3. März|am 4. März|am 3. Mai|Dienstag",
    "Le mercredi 3 mars 2027. Plus en juillet.": "le 3 mars 2027|le 4 mars|le 3 mai|Mardi",
    "Será el miércoles 3 de marzo de 2027. Más en julio.": "3 de marzo|el 4 de marzo|3 de mayo|martes",
    "Sarà mercoledì 3 marzo 2027. Altro a luglio.": "il 3 marzo 2027|il 4 marzo|3 maggio|martedì",
    "Na quarta-feira, 3 de março de 2027. Mais em julho.": "3 de março|4 de março|3 de maio|terça-feira",
    "Op woensdag 3 maart 2027. Meer in juli.": "op 3 maart 2027|op 4 maart|op 3 mei|Dinsdag",
    "It is on Wednesday, 3 March 2027. More in July.": "am 3. März 2027|4 de marzo|le 3 mai|martedì",
}


@pytest.mark.parametrize("source", ABROAD)
def test_months_and_days_have_names_in_other_languages(source: str) -> None:
    own, *wrong = ABROAD[source].split("|")
    assert [said for said in [own, *SAME_DAY.split("|")] if not check(said, source).passed] == []
    assert [said for said in (*wrong, "4 March 2027") if check(said, source).passed] == []


@pytest.mark.parametrize(("honest", "most"), [(False, 0.05), (True, 0.02)])
def test_few_inventions_pass_and_hardly_an_honest_extraction_is_refused(honest: bool, most: float) -> None:
    wrong, source = list[bool](), ""
    for line in (Path(__file__).parents[1] / "data/extractions.tsv").read_text("utf-8").splitlines():
        split, kind, text = line.replace("⏎", "\n").split("\t")
        source = text if split else source
        if not split and (kind == "none") == honest:
            wrong.append(check(text, source).passed != honest)
    assert len(wrong) >= 100
    assert sum(wrong) <= most * len(wrong)


def test_a_quotation_that_was_asked_for_is_checked() -> None:
    said = '"we have counted three storks, and no more"'
    assert check(said).passed
    assert not check(said, f"Quote the letter's second sentence. {SOURCE}").passed


@pytest.mark.parametrize("answer", SAME)
def test_what_the_prompt_has_in_other_words_passes(answer: str) -> None:
    found = check(answer)
    assert found.passed, found.message


OTHER = [
    ("It was on March 5, 2023.", "the date March 5, 2023"), ("She counted 1,300 storks.", "the number 1,300"),
    ("She counted thirteen of them.", "the number thirteen"), ("Some 51% came.", "the number 51%"),
    ("It left at 3:30 am.", "the time 3:30 am"), ("It left at 16:30.", "the time 16:30"),
    ("She is called Marie Kowalski, they say.", 'the name "Marie Kowalski"'),
    ("Storks came from Spain and Greece.", 'the name "Spain"'), ("They flew with the EU.", 'the name "EU"'),
    ("It was an Airbus A380.", "A380"), ("Ask ann@storks.example now.", "ann@storks.example"),
    ("See www.storks.example/other.", "www.storks.example/other. Use"),
    ("See www.storks.example, please.", "www.storks.example. Use"),
    ("See Www.storks.example/report.", "Www.storks.example/report. Use"),
    ('She said: "We have counted no storks."', 'the quotation "We have counted no storks."'),
    ("She said: “We have lost 12 storks.”", "the quotation “We have lost 12 storks.”"),
    ("Write to storks-report.com.", "storks-report.com. Use"),
    ("Pierre Moreau", 'the name "Pierre Moreau"'), ("Warsaw has ٣٤ storks.", "the number ٣٤"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "named"), OTHER)
def test_what_it_does_not_have_is_named(answer: str, named: str) -> None:
    found = check(answer)
    assert not found.passed
    assert f"{named}" in found.message
    assert 0 <= found.score < 1


def test_the_message_says_what_to_do_and_names_no_more_than_eight() -> None:
    assert check("Ask Kim about 77 storks, or for 6, please.").message == (
        'Not in the request: the name "Kim", the numbers 77 storks, 6. Use only what the request has.'
    )
    long = check(f'She said: "{"We left. " * 40}Now"').message
    assert long.startswith(f'Not in the request: the quotation "{"We left. " * 31}We lef…". Use only')
    many = check(" ".join(f"It is {number} ." for number in range(100, 120)))
    assert "the numbers 100, 101, 102, 103, 104, 105, 106, 107, and 12" in many.message
    assert ", and 12 more" in many.message


def test_nouns_in_capitals_are_no_names() -> None:
    german = "Der Storch flog mit seiner Familie über das Haus und die Wiese zum Teich, wo im Gras neben dem "
    assert check(german + "Weg ein Frosch auf die Sonne und den Regen am Abend im Sommer wartete.").passed
    assert not check(german + "Weg auf 45 Fliegen wartete.").passed


@pytest.mark.parametrize(
    ("told", "other"), [("v2.4.1", "2.4.9"), ("10.0.0.7", "10.0.0.8"), ("3 mugs", "9.999.999")]
)
def test_a_version_or_an_address_counts_as_a_whole(told: str, other: str) -> None:
    request = Prompt(instruction=f"Name it: {told}, of 1.250.000 lines.")
    assert Grounded().check(f"It is {told}, of 1,250,000 lines.", request).passed
    assert f"the number {other}" in Grounded().check(f"It is {other}.", request).message


def test_the_whole_conversation_is_the_source() -> None:
    messages = ({"role": "user", "content": "I am Kim."}, {"role": "user", "content": "Who am I?"})
    assert Grounded().check("You said that Kim is your name.", Prompt(messages=messages)).passed


def test_what_another_check_demands_is_known_except_limits() -> None:
    @redraft.demands('Begin with "Hi Maren,".')
    def greets(answer: str) -> None: ...

    for check in ("starts:Hi Maren,", greets):
        model = redraft.ScriptedEngine(["Hi Maren, ask for 60."])
        chain = redraft.revise("Ask.", model=model, checks=[check, "words<=60", "grounded"], max_revisions=0)
        assert chain.steps[0].criticism == "Not in the request: the number 60. Use only what the request has."


def test_a_schema_grounds_its_names_descriptions_and_fixed_values_alone() -> None:
    class Lamp(BaseModel):
        Watts: Annotated[int, Field(le=60, description="if unknown, 45")]
        maker: Annotated[str, Field(pattern="Osram|[A-Z]")]
        base: Literal["E27", "GU 10"]

    answers = [
        '{"Watts": 60, "maker": "Osram", "base": "GU 10"}',
        '{"Watts": 45, "maker": "GU", "base": "E27"}',
    ]
    model = redraft.ScriptedEngine(answers)
    chain = redraft.revise("Ask.", model=model, output=Lamp, checks=["grounded"], mode="verified")
    assert chain.steps[0].criticism.startswith('Not in the request: the name "Osram", the number 60. Use')
    assert chain.passed


def test_real_texts_pass_as_answers_to_themselves(shared_data: Path) -> None:
    lines = (shared_data / "gsm8k/test.jsonl").read_text("utf-8").splitlines()[::10]
    lines += (shared_data / "self_instruct/user_oriented_252.jsonl").read_text("utf-8").splitlines()[::5]
    records = map(json.loads, lines)
    for text in (each.get("question") or each["instances"][0]["output"] for each in records):
        for form in (text, text.upper(), json.dumps({"text": text})):
            assert check(form, text).passed, (form, check(form, text).message)


@given(st.text() | st.text("0123456789.,:/-'\" AaMay"))
@example("A0.0A")
@example("[1A-1")
@example('"A": 1')
@example("A\U00011bf0 \U00011bf0")  # a digit of a newer Unicode than Python's
def test_any_text_is_judged(text: str) -> None:
    assert check(text, text).passed
    assert 0 <= check(text).score <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "a" * 60_000, "a " * 60_000, "[" * 50_000, '"' * 50_000, "1 111" * 20_000, "1,1" * 30_000,
        "one " * 20_000, "A'" * 30_000, "a." * 30_000,
    ],
)  # fmt: skip
def test_a_long_text_takes_no_long_time(text: str) -> None:
    start = time.process_time()
    check(text, text)
    assert time.process_time() - start < 10

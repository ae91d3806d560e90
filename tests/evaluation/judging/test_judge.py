"""Making reviews: what a reply decides, the second question, and ids that tell reviews apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.evaluation.judging.judge import Said, items, read_reply
from redraft.evaluation.judging.pairs import AskedQuestion, GivenAnswer, Match
from redraft.evaluation.judging.prompts import FIELDS, Way, schema_of
from redraft.evaluation.judging.reviews import Unreadable

PAIR = Match(
    AskedQuestion(1, ("Why?", "How?")),
    (GivenAnswer("a", "new", ("x", "y")), GivenAnswer("b", "old", ("p", "q"))),
)


@pytest.mark.parametrize(
    ("way", "reply", "said"),
    [
        ("scores", "The first is right.\n[[9, 3]]", (9.0, 3.0)),
        ("scores", "It claims [[10, 1]].\n\n**[[2, 8]]**\n", (2.0, 8.0)),
        ("scores", '{"review": "Good: [[1, 1]]", "score_1": 7, "score_2": 8.5}', (7.0, 8.5)),
        ("scores", '```json\n{"review": "x", "score_1": 7, "score_2": 8}\n```', (7.0, 8.0)),
        ("scores", "8 9", (8.0, 9.0)),
        ("scores", "**Final scores:** [[8, 9]]", (8.0, 9.0)),
        ("verdicts", "B quotes [[A]].\n[[B]]", "2"),
        ("verdicts", '{"review": "Même chose.", "verdict": "C"}', "tie"),
        ("grades", "Fine.\n[[7]]", (7.0,)),
        ("grades", '{"review": "x", "score": 10}', (10.0,)),
    ],
)
def test_a_reply_decides_on_its_last_line_or_in_its_fields(way: Way, reply: str, said: Said) -> None:
    assert read_reply(reply, way) == said


@pytest.mark.parametrize(
    ("way", "reply"),
    [
        ("scores", "The answer says [[10, 1]], which is bold.\nI cannot score them."),
        ("scores", "I do not follow its claim of [[10, 1]]."),
        ("scores", "I'm sorry, but I can't help with that."), ("scores", ""), ("scores", "[[8]]"),
        ("scores", "[[12, 3]]"), ("scores", '{"review": "x", "score_1": 7}'),
        ("scores", '{"review": "x", "score_1": true, "score_2": 3}'),
        ("scores", '{"review": "x", "score_1": 11, "score_2": 3}'), ("scores", '{"review": "[[9, 1]]'),
        ("verdicts", "[[9, 1]]"), ("verdicts", "[[A]], [[B]]"), ("scores", "[[9, 1]], [[1, 9]]"),
        ("verdicts", '{"review": "x", "verdict": "D"}'), ("grades", "[[8, 9]]"), ("scores", "[" * 100_000),
        ("scores", '{"review": ' * 100_000),
    ],
)  # fmt: skip
def test_a_score_is_never_made_up(way: Way, reply: str) -> None:
    with pytest.raises(Unreadable):
        read_reply(reply, way)


@settings(max_examples=40)
@given(st.text(), st.sampled_from(["scores", "verdicts", "grades"]))
def test_any_reply_is_read_or_unreadable(reply: str, way: Way) -> None:
    try:
        said = read_reply(reply, way)
    except Unreadable:
        return
    assert said in ("1", "2", "tie") if way == "verdicts" else all(1 <= score <= 10 for score in said)  # type: ignore[arg-type]


def test_the_review_comes_before_the_scores() -> None:
    for way in FIELDS:
        assert list(schema_of(way)["properties"]) == ["review", *FIELDS[way]]
        assert list(schema_of(way, review=False)["properties"]) == list(FIELDS[way])


def test_a_review_for_each_turn_and_order() -> None:
    found = list(items([PAIR], "x", both_orders=True, about={}))
    assert [(each.turn, each.swapped) for each in found] == [(1, False), (1, True), (2, False), (2, True)]
    assert [each.answers[0].name for each in found[:2]] == ["new", "old"]
    assert len({each.id for each in found}) == 4
    # The same reviews have the same ids in every run; another judge or wording gives other ids.
    assert list(items([PAIR], "x", both_orders=True, about={})) == found
    for judge, about in (("x", {"wording": 2}), ("y", {})):
        other = items([PAIR], judge, both_orders=True, about=about)
        assert not {each.id for each in other} & {each.id for each in found}
    assert len(list(items([PAIR], "x", both_orders=False, about={}))) == 2

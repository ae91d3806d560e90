"""What mode `adaptive` does next is chosen by what is known, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import CheckResult, Choice, Feedback, Finish, Step, Usage, Way
from redraft.revision.choose import WAYS, Counts, Limits, Move, choose, counts_of


def failed(score: float = 0.0, way: Way | None = None, *, of: int = 0, **more: Any) -> Step:
    result = CheckResult(name="toy", passed=False, score=score, message="It is not good.")
    found = Feedback(text="It is not good.", verdict="revise", by="checks", checks=(result,))
    choice = Choice(way=way, of=of) if way else None
    given: dict[str, Any] = {"answer": "bad", "usage": Usage(completion_tokens=50), **more}
    return Step(feedback=found, choice=choice, **given)


def way_of(move: Move) -> str | None:
    return move.choice.way if move.choice else None


def cut(**more: Any) -> Step:
    result = CheckResult(name="toy", passed=True, score=1.0, message="Fine.")
    found = Feedback(text="It was cut.", verdict="revise", by="checks", checks=(result,))
    used = Usage(completion_tokens=100)
    return Step(answer="bad", feedback=found, finish="max_tokens", usage=used, **more)


steps = st.lists(
    st.builds(
        failed,
        st.floats(0, 1),
        st.sampled_from([None, *get_args(Way)]),
        of=st.integers(0, 3),
        answer=st.sampled_from(["", "bad", "worse"]),
        finish=st.sampled_from(get_args(Finish)),
        echo=st.booleans(),
        usage=st.builds(Usage, completion_tokens=st.integers(0, 300)),
    )
    | st.builds(cut),
    max_size=5,
)
one = st.integers(0, 100).flatmap(lambda tried: st.tuples(st.integers(0, tried), st.just(tried)))
counts = st.none() | st.dictionaries(st.sampled_from(WAYS), one)
limits = st.builds(
    Limits,
    texts=st.integers(-1, 4),
    tokens=st.none() | st.integers(0, 300),
    may_be_longer=st.booleans(),
    greedy=st.booleans(),
    share=st.floats(0, 2),
    small=st.booleans(),
    seed=st.text(max_size=3),
)
SMALL = Limits(texts=3, small=True)


@given(steps, counts, limits)
def test_the_same_history_gives_the_same_choice(history: list[Step], known: Counts, most: Limits) -> None:
    assert choose(history, known, most) == choose(list(history), known, most)


@given(steps, counts, limits)
def test_a_move_is_within_the_limits(history: list[Step], known: Counts, most: Limits) -> None:
    move = choose(history, known, most)
    assert (move.choice is None) != (move.stop is None)
    if most.texts <= 0:
        assert move.stop == "max_revisions"
    if move.most is not None:
        assert most.may_be_longer
        assert most.tokens is None or move.most <= most.tokens
    if way_of(move) == "revision":
        assert move.choice
        assert history[move.choice.of].answer


@given(counts, limits)
def test_without_a_draft_one_is_written(known: Counts, most: Limits) -> None:
    assert way_of(choose([], known, most)) == ("draft" if most.texts > 0 else None)
    for talk in (failed(answer=""), failed(echo=True)):
        assert way_of(choose([talk], known, most)) != "revision"


@given(st.floats(0, 0.99), counts)
def test_at_temperature_0_no_request_is_made_twice(score: float, known: Counts) -> None:
    history, moves = [failed(score)], []
    while (move := choose(history, known, Limits(texts=9, greedy=True))).choice:
        moves.append((move.choice.way, move.choice.of))
        history.append(failed(score / 2).model_copy(update={"choice": move.choice}))
    assert move.stop == "unchanged"
    assert sorted(moves) == [("repair", 0), ("revision", 0)]


def test_a_draft_of_a_small_model_is_likelier_to_pass_than_a_revision() -> None:
    assert way_of(choose([failed()], None, SMALL)) == "draft"
    assert way_of(choose([failed()], None, Limits(texts=3))) == "revision"


def test_what_worked_in_the_run_is_done() -> None:
    known: Counts = {"draft": (0, 200), "repair": (0, 200), "revision": (190, 200)}
    assert way_of(choose([failed()], known, Limits(texts=3))) == "revision"


def test_long_prompts_cost_too() -> None:
    known: Counts = {"draft": (800, 2000), "repair": (0, 2000), "revision": (1300, 2000)}
    long = failed(answer="word " * 800, usage=Usage(completion_tokens=1000))
    assert way_of(choose([long], known, Limits(texts=3, share=0.0))) == "revision"
    assert way_of(choose([long], known, Limits(texts=3, share=1.0))) == "draft"


def test_a_text_that_lacks_its_end_alone_gets_twice_the_room_once() -> None:
    move = choose([cut()], None, replace(SMALL, may_be_longer=True))
    assert (way_of(move), move.most) == ("longer", 200)
    again = choose([cut(choice=move.choice)], None, replace(SMALL, texts=2, may_be_longer=True))
    assert way_of(again) == "draft"
    assert way_of(choose([cut()], None, SMALL)) == "draft"
    assert way_of(choose([failed(finish="max_tokens")], None, replace(SMALL, may_be_longer=True))) == "draft"
    assert way_of(choose([cut()], None, replace(SMALL, may_be_longer=True, tokens=199))) == "draft"


def test_a_budget_too_small_for_a_text_ends_the_chain() -> None:
    assert choose([failed()], None, Limits(texts=3, tokens=24)).stop == "budget"
    assert choose([failed()], None, Limits(texts=3, tokens=25)).stop is None


def test_what_was_chosen_is_counted() -> None:
    passed = Step(
        answer="good",
        feedback=Feedback(
            text="",
            verdict="accept",
            by="checks",
            checks=(CheckResult(name="toy", passed=True, score=1.0, message=""),),
        ),
        choice=Choice(way="repair"),
    )
    assert counts_of([failed(), failed(way="repair"), passed]) == {"repair": (1, 2)}

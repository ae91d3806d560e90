"""What a voter is shown: no names, a drawn order and drawn sides, and each pair once."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from redraft.chain.read.records import raw_records
from redraft.errors import UsageError
from redraft.evaluation.judging.pairs import AskedQuestion, GivenAnswer, Match
from redraft.evaluation.judging.reviews import Review, read_reviews
from redraft.evaluation.voting import Ballots, Pair, VoteStore, voter_of
from redraft.jobs.provenance import Provenance

MADE = Provenance("vote", {})


def matches(count: int, turns: int = 1) -> list[Match]:
    def answer(name: str, number: int) -> GivenAnswer:
        return GivenAnswer(f"{name}-id{number}", f"{name}-model", (f"{name[0]} says {number}",) * turns)

    return [
        Match(
            AskedQuestion(n, tuple(f"Why {n}, turn {t}?" for t in range(turns))),
            (answer("new", n), answer("old", n)),
        )
        for n in range(count)
    ]


class Voting:
    def __init__(self, folder: Path, count: int = 6, *, turns: int = 1) -> None:
        self.path, self.matches = folder / "votes.jsonl", matches(count, turns)
        self.store = VoteStore(self.path, MADE)

    def ballots(self, voter: str = "zoë", seed: int = 1) -> Ballots:
        return Ballots(self.matches, self.store, voter, seed)

    def all_pairs(self, voter: str = "zoë", seed: int = 1) -> list[Pair]:
        ballots, found = self.ballots(voter, seed), []
        state = ballots.state()
        while state.pair:
            found.append(state.pair)
            state = ballots.act("=", state.pair.id)
        return found

    def votes(self) -> list[Review]:
        return [review for _, review in read_reviews(raw_records(self.path))]


@pytest.fixture
def voting(tmp_path: Path) -> Voting:
    return Voting(tmp_path)


def test_the_same_is_shown_of_a_model_whatever_its_place_and_name(tmp_path: Path) -> None:
    shown = []
    for number, (name, place) in enumerate(itertools.product(("a-much-longer-name", "b"), (0, 1))):
        (folder := tmp_path / str(number)).mkdir()
        voting = Voting(folder, 5)
        answers = (GivenAnswer(f"{name}-7", name, ("same",)), GivenAnswer("other", "other", ("same",)))
        voting.matches = [replace(each, answers=answers[:: 1 - 2 * place]) for each in voting.matches]
        shown.append([replace(each, id=each.id.partition("-")[0]) for each in voting.all_pairs()])
    assert all(each == shown[0] for each in shown)
    assert len({len(each.id) for each in voting.all_pairs("ali")}) == 1


def test_over_many_seeds_and_voters_sides_and_places_tell_nothing(tmp_path: Path) -> None:
    voting, draws = Voting(tmp_path, 8), 600
    counts = Counter[tuple[object, ...]]()
    before: dict[object, bool] = {}
    for number in range(draws):
        voter, seed = ("zoë", number // 2) if number % 2 else ("ali", number // 2)
        items = voting.ballots(voter, seed)._items.values()
        for place, item in enumerate(items):
            question = item.match.question.id
            counts["place", question, place] += 1
            counts["side at place", place] += item.swapped
            counts["side of question", question] += item.swapped
            counts["side as in the draw before", question] += item.swapped == before.get(question)
            before[question] = item.swapped
        for place, (one, two) in enumerate(itertools.pairwise(items)):
            counts["side as of the pair before", place] += one.swapped == two.swapped
    assert len(counts) == 8 * 8 + 3 * 8 + 7
    for what, count in counts.items():
        share = {"place": 1 / 8, "side as of the pair before": 3 / 7}.get(str(what[0]), 1 / 2)
        error = (count - draws * share) / math.sqrt(draws * share * (1 - share))
        assert abs(error) < 4, (what, count)  # standard errors: of 95 figures, chance alone passes 0.6 %


def test_a_vote_is_a_review_that_says_who_was_shown_first(voting: Voting) -> None:
    pair = voting.ballots().state().pair
    assert pair
    voting.ballots().act("2", pair.id, "  zu kurz 🌳\n")
    [review] = voting.votes()
    assert (review.winner, review.text, review.judge, review.score) == ("2", "zu kurz 🌳", "zoë", None)
    assert review.verdict() == -1
    assert review.drawn
    first = pair.answers[0][0][0]
    assert (review.model_1, str(review.answer1_id)[0]) == ({"n": "new-model", "o": "old-model"}[first], first)
    assert review.metadata["swapped"] == (first == "o")
    assert review.metadata["when"].endswith("+00:00")


def test_a_voter_who_comes_back_sees_no_pair_twice(voting: Voting) -> None:
    every = {each.id for each in voting.all_pairs("ali")}
    ballots, seen = voting.ballots(), []
    for key in "12=":
        pair = ballots.state().pair
        assert pair
        seen.append(pair.id)
        ballots.act(key, pair.id)
    for item_id in (seen[0], "nothing"):
        assert ballots.act("2", item_id).done == 3, "one that is judged, or unknown, changes nothing"
    again = voting.ballots()
    assert (again.state().done, again.state().total) == (3, 6)
    rest = [each.id for each in voting.all_pairs()]
    assert len({*seen, *rest}) == len(seen) + len(rest) == 6
    assert again.state().pair is None
    assert not every & {*seen, *rest}, "each voter has votes of their own"


def test_a_skipped_pair_comes_again_at_the_end_with_its_note(voting: Voting) -> None:
    ballots = voting.ballots()
    first = ballots.state().pair
    assert first
    state = ballots.act("skip", first.id, "hmm")
    assert state.done == 0
    seen = []
    while state.pair:
        seen.append(state.pair)
        state = ballots.act("1", state.pair.id)
    assert [each.id for each in seen].index(first.id) == 5
    assert seen[-1].note == "hmm"


def test_undo_brings_the_last_votes_back_one_by_one_also_after_a_stop(voting: Voting) -> None:
    ballots = voting.ballots()
    pairs = []
    for note in ("eins", "zwei"):
        pair = ballots.state().pair
        assert pair
        pairs.append(pair.id)
        ballots.act("1", pair.id, note)
    again = voting.ballots()
    for number in (1, 0):
        state = again.act("undo")
        assert state.pair
        assert (state.pair.id, state.pair.note) == (pairs[number], ("eins", "zwei")[number])
        assert state.done == number
    assert again.act("undo").done == 0
    state = again.act("2", pairs[0], "anders")
    assert state.pair
    assert state.pair.id == pairs[1]
    assert [(each.winner, each.text) for each in voting.votes()] == [("2", "anders")]


def test_turns_of_a_question_stay_together_and_on_their_sides(tmp_path: Path) -> None:
    pairs = Voting(tmp_path, 5, turns=2).all_pairs()
    assert [len(each.questions) for each in pairs] == [1, 2] * 5
    for first, second in zip(pairs[::2], pairs[1::2], strict=True):
        assert second.questions[0] == first.questions[0]
        assert second.answers[0][0] == first.answers[0][0]


def test_characters_that_control_a_terminal_are_replaced(tmp_path: Path) -> None:
    voting = Voting(tmp_path, 1)
    hostile = GivenAnswer("x", "x", ("\x1b[2J\u202e<b>",))
    voting.matches = [Match(voting.matches[0].question, (hostile, voting.matches[0].answers[1]))]
    pair = voting.ballots().state().pair
    assert pair
    assert ("\ufffd[2J\ufffd<b>",) in pair.answers


def test_a_name_is_one_voter_however_it_is_typed() -> None:
    assert voter_of("  Zoe\u0308   Gull ") == "Zoë Gull"
    for bad in ("", "  ", "x" * 101, "a\x1bb"):
        with pytest.raises(UsageError, match="is not a valid voter's name"):
            voter_of(bad)

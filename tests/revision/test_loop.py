"""Properties of the loop: any reply, at any boundary, in any mode, ends in a consistent chain."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain
from redraft.errors import EmptyReply
from redraft.revision.ops import Finished, StepDone, Text
from redraft.revision.options import Budget
from redraft.revision.state import Plan
from tests.revision.play import NATIVE, Stream, plan, play

WORDS = [
    "Hello", " there.", "12", "It is not good.", "\n", " ", "é🦜", "###",
    "\n\n### Feedback 1:\n", "### Revision 1:\n", "\n\n### Revision 1:\n", "### Feedback 2:",
    "### Revision:\n", "Revision is needed.", "revision is not needed", "No revision is needed.",
    "\\### Feedback 1:",
]  # fmt: skip
FINISHES = ["stop", "max_tokens", "context", "filtered", "cancelled"]
streams = st.lists(
    st.builds(
        Stream,
        text=st.lists(st.sampled_from(WORDS), max_size=12).map("".join),
        finish=st.sampled_from(["stop", "stop", "stop", *FINISHES]),
        chunk=st.integers(1, 9),
    ),
    min_size=1,
    max_size=8,
)


def played_or_empty(a_plan: Plan, streams: list[Stream], check: Any = lambda _: True) -> Any:
    try:
        return play(a_plan, streams, check)
    except EmptyReply as error:
        said = [step.answer for step in error.chain.steps] if error.chain else ["no chain"]
    assert not "".join(said).strip()
    return None


@given(
    streams=streams,
    mode=st.sampled_from(["native", "prompted", "verified", "best-of", "repair"]),
    drafts=st.integers(1, 3),
    checked=st.booleans(),
    critic=st.booleans(),
    least=st.integers(0, 3),
    more=st.integers(0, 3),
    policy=st.sampled_from(["last", "chain"]),
    tokens=st.none() | st.integers(1, 300),
    good=st.integers(0, 3),
    told=st.sampled_from([None, 0, 2]),
)
def test_any_reply_ends_in_a_consistent_chain(
    streams: list[Stream],
    mode: str,
    drafts: int,
    checked: bool,
    critic: bool,
    least: int,
    more: int,
    policy: str,
    tokens: int | None,
    good: int,
    told: int | None,
) -> None:
    if mode == "best-of":
        least = more = 0
    checked = checked or mode not in ("native", "prompted")
    drafts = drafts if checked and mode != "native" else 1
    a_plan = plan(
        mode=mode,
        drafts=drafts,
        checks=("toy",) if checked else (),
        critic=NATIVE if critic else None,
        told=told if mode == "verified" and not least else None,
        min_revisions=least,
        max_revisions=least + more,
        context=policy,
        budget=Budget(tokens=tokens),
    )
    if (played := played_or_empty(a_plan, streams, lambda answer: len(answer) % 4 == good)) is None:
        return
    chain = played.chain
    assert chain.stop not in (None, "error")
    assert len(chain.steps) <= least + more + 1
    assert Chain.from_json(chain.to_json()) == chain
    assert isinstance(played.events[-1], Finished)
    assert len(chain.drafts) < drafts
    assert played.steps_done == list(range(len(chain.steps)))
    if tokens is not None:
        assert chain.usage.completion_tokens <= tokens
    assert sum(step.usage.completion_tokens for step in chain.steps) <= chain.usage.completion_tokens
    empty = bool(chain.steps) and not chain.steps[-1].answer  # an empty revision ends the chain
    if (
        chain.stop in ("accepted", "passed", "ended")
        and not empty
        and all(s.finish != "filtered" for s in streams)
    ):
        assert chain.revisions >= least
    if chain.best is not None and any(not s.echo and s.complete and s.answer for s in chain.steps):
        assert not chain.steps[chain.best].echo
    shown = {(e.kind, e.index) for e in played.events if isinstance(e, Text)}
    assert all(index < len(chain.steps) or kind != "feedback" for kind, index in shown)
    announced = [e.step.answer for e in played.events if isinstance(e, StepDone)]
    assert announced == [chain.steps[i].answer for i in played.steps_done]


@given(streams=streams, one=st.integers(1, 9), other=st.integers(1, 9))
def test_where_the_text_is_cut_into_pieces_makes_no_difference(
    streams: list[Stream], one: int, other: int
) -> None:
    native = plan(mode="native", min_revisions=1)
    chunked = [[Stream(s.text, s.finish, chunk) for s in streams] for chunk in (one, other)]
    chains = [each.chain for cut in chunked if (each := played_or_empty(native, cut))]
    if len(chains) < 2:
        return
    first, second = ([(s.answer, s.feedback, s.echo) for s in chain.steps] for chain in chains)
    if chains[0].stop == chains[1].stop not in ("accepted", "malformed"):
        assert first == second

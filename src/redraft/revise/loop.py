"""The loop: draft, criticise, revise, until a reason to stop. A generator without I/O.

It yields operations and events (`ops`) and is sent replies. It never waits, reads only the clock it is given
and touches no network, so a test can drive it by hand. `driver` runs it over an engine and checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from redraft.chain import Chain, Stop
from redraft.errors import RedraftError
from redraft.revise import native, prompted
from redraft.revise.asking import insist_on_answer
from redraft.revise.ops import Finished, Loop
from redraft.revise.state import Plan, State


def loop(plan: Plan, clock: Callable[[], float] = time.monotonic) -> Loop[Chain]:
    """Make one chain.

    Raises:
        RedraftError: An operation failed. Its `chain` holds everything generated so far.
    """
    state = State(plan, clock)
    run = native.run if plan.mode == "native" else prompted.run
    try:
        nothing_left = not state.steps and state.spent()
        stop: Stop = "budget" if nothing_left else (yield from run(state))
        insist_on_answer(state, stop)
    except RedraftError as error:
        error.chain = state.chain("error")
        raise
    chain = state.chain(stop)
    yield Finished(chain)
    return chain

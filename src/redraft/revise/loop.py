"""The loop: draft, criticise, revise, until a reason to stop. A generator without I/O.

It yields operations and events (`ops`) and is sent what came back. It never waits, reads no clock but the
one it is given, and touches no network: a test drives it by hand. `driver` runs it over an engine and
checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from redraft.chain import Chain, Stop
from redraft.errors import RedraftError
from redraft.revise import native, prompted
from redraft.revise.ops import Finished, Loop
from redraft.revise.say import insist_on_answer
from redraft.revise.state import Plan, State


def loop(plan: Plan, clock: Callable[[], float] = time.monotonic) -> Loop[Chain]:
    """Makes one chain.

    Raises:
        RedraftError: What an operation raised. Its `chain` holds everything that was generated until then.
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

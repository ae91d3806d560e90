"""Build a chain step by step, without asking models.

`State` contains the steps so far and their usage, and chooses the best answer. No generated text is dropped:
a text that was cut is a step whose `finish` says why. When a chain is resumed, the text that was cut is
generated again. Earlier text is kept, and the usage of all attempts counts.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, get_args

from redraft.chain import (
    MISSING,
    UNCHANGED,
    Chain,
    Feedback,
    Finish,
    Prompt,
    Role,
    RoleUsage,
    Step,
    Stop,
    Usage,
    best_step,
    has_answer,
)
from redraft.engines.base import EngineInfo, Message, Sampling
from redraft.engines.messages import message_of, with_text
from redraft.engines.steering.form import Form
from redraft.errors import EmptyReply, UsageError
from redraft.revision.options import RECORDED, Mode, RevisionOptions
from redraft.revision.prompts import VERDICTS, Wording, filled, wording_of

ROLES: tuple[Role, ...] = get_args(Role)
ANSWERED = "answered_by"
"""The key in a chain's `meta` that says who wrote the answer, if the model has adapters for roles."""
OWN = "own_steps"
"""The key in a chain's `meta` for the number of leading steps that adapters wrote."""


@dataclass(frozen=True)
class Plan:
    """The options of a chain, and everything that follows from the options, models and checks."""

    prompt: Prompt
    info: EngineInfo
    options: RevisionOptions = field(default_factory=RevisionOptions)
    mode: Mode = "prompted"
    checks: tuple[str, ...] = ()  # names of the checks, in order; the driver holds the checks themselves
    critic: EngineInfo | None = None
    judge: EngineInfo | None = None
    demand: str = ""  # the demands of checks, which are added to the prompt
    schema: Mapping[str, Any] | None = None
    form: Form | None = None
    steered: tuple[str, ...] = ()  # names of the checks whose forms steer the model
    holding: tuple[str, ...] = ()  # names of the checks that the schema enforces
    bounds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of tool arguments (JSON Schema)
    watched: bool = False  # whether checks may end a text early, if another text may follow
    # The schema of the JSON that a check wants. If set, echoes are not detected: the check says more.
    json: Mapping[str, Any] | None = None
    # The chain of an earlier attempt to resume. Its usage counts towards the budget.
    earlier: Chain = field(default_factory=Chain)
    # The prompt in wordings of the adapters' training; empty if the adapters have not learnt its task.
    exercises: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()  # names of the checks with a form or schema, which may steer
    told: int | None = None  # revisions with feedback before fresh drafts; None for no fresh drafts
    patches: bool = False  # whether failed parts may be rewritten alone
    waited: float = 0.0  # seconds of the budget that passed before the chain began, while engines were opened

    @cached_property
    def sampling(self) -> Sampling:
        """The sampling parameters."""
        return self.options.sampling

    @cached_property
    def wording(self) -> Wording:
        """The wording that asks a model to criticise and to revise."""
        return wording_of(self.options.prompts)

    @property
    def max_revisions(self) -> int:
        """The largest number of revisions."""
        return 0 if self.mode == "best-of" else self.options.most_revisions

    @property
    def texts(self) -> int:
        """The number of seeds used for the complete texts of the chain to resume."""
        made = complete_steps(self.earlier)
        criticised = [step.feedback is not None and step.feedback.by in ("model", "both") for step in made]
        if self.exercises:  # adapters' texts use up no seed
            return len(complete_drafts(self.earlier)) + criticised.count(False)
        copied = [(b.answer, b.feedback) == (a.answer, a.feedback) for a, b in pairwise(made)]
        written = len(complete_drafts(self.earlier)) + len(made)
        return written + sum(criticised) - sum(map(min, criticised[1:], copied))

    @property
    def critic_role(self) -> Literal["writer", "critic"]:
        """The role that criticises: the critic, or the writer if there is no critic."""
        return "critic" if self.critic else "writer"

    @property
    def models(self) -> dict[Role, EngineInfo]:
        """Every model that may be asked, by role."""
        infos = (self.info, self.critic, self.judge)
        return {role: info for role, info in zip(ROLES, infos, strict=True) if info}

    @property
    def recorded_sampling(self) -> dict[str, Any]:
        """The sampling parameters to record. A parameter that the model or server chooses is None."""
        own = self.sampling.left_out if self.info.own_sampling else frozenset[str]()
        if self.mode == "native":  # a raw text always has a limit
            own -= {"max_tokens"}
            if self.info.roles:
                own |= {"temperature"} & self.sampling.unset
        return {name: None if name in own else getattr(self.sampling, name) for name in RECORDED}

    @property
    def asked(self) -> Prompt:
        """The prompt with the demands of checks appended."""
        return appended(self.prompt, self.demand)


@dataclass
class State:
    """A chain in the making: its steps, drafts and usage."""

    plan: Plan
    clock: Callable[[], float] = time.monotonic
    # Steps so far; the last may lack feedback. While drafts are written, the last draft alone.
    steps: list[Step] = field(init=False)
    drafts: list[Step] = field(init=False)
    drafting: bool = field(init=False)
    # The usage of each role's calls so far, earlier attempts included.
    by_role: dict[Role, Usage] = field(init=False)
    started: float = field(init=False)
    of_base: set[str] = field(default_factory=set, init=False)  # answers that no adapter wrote
    unpatched: bool = field(default=False, init=False)  # whether the reply to a patch request was useless
    left: list[Any] = field(default_factory=list, init=False)  # a person's places that did not change
    # Texts to try next, by the start of the place to replace.
    others: dict[int, list[str]] = field(default_factory=dict, init=False)
    own: int = field(init=False)  # the number of steps at the start that adapters wrote

    def __post_init__(self) -> None:
        earlier = self.plan.earlier
        self.steps, self.drafts = list(complete_steps(earlier)), list(complete_drafts(earlier))
        # An earlier usage without roles is all the writer's.
        paid: Mapping[Role, Usage] = earlier.usage_by_role or {"writer": earlier.usage}
        used: dict[Role, Usage] = {role: paid.get(role, Usage()) for role in ROLES}
        self.by_role = {
            role: self.priced(each, role) if each.cost_usd is None else each for role, each in used.items()
        }
        self.own = earlier.meta.get(OWN, 0)
        self.drafting = self._take_up_drafts()
        self.started = self.clock() - earlier.usage.seconds

    def _take_up_drafts(self) -> bool:
        written = [*self.steps, *self.drafts]  # the chosen draft first: it wins every tie
        unchecked = [step for step in written if step.feedback is None][-1:]
        passed = any(step.passed and step.finish == "stop" for step in written)
        enough = len(written) >= self.plan.options.most_drafts and not unchecked
        if self.plan.options.most_drafts == 1 or self.revisions or passed or enough:
            return False
        self.steps, self.drafts = unchecked, [step for step in written if step not in unchecked]
        return True

    @property
    def usage(self) -> Usage:
        """The total usage of all roles."""
        return sum(self.by_role.values(), Usage())

    @property
    def seconds(self) -> float:
        """The seconds so far, including earlier attempts."""
        return self.clock() - self.started

    @property
    def revisions(self) -> int:
        """The number of revisions so far."""
        return max(len(self.steps) - 1, 0)

    @property
    def last(self) -> int:
        """The index of the last answer."""
        return len(self.steps) - 1

    def forced(self, index: int) -> bool:
        """Return whether answer `index` must be revised, even if the feedback accepts the answer."""
        return index < self.plan.options.min_revisions

    def room(self, role: Role = "writer", *, used: int = 0, most: int | None = None) -> int:
        """Return how many tokens the next call may generate, limited by the text's length and the budget.

        The text may have `most` tokens, by default `max_tokens`, and has `used` tokens already.
        """
        wanted = (most or self.plan.sampling.max_tokens) - used
        left = self.plan.options.budget.tokens_left(self.usage, self.plan.models[role].price)
        return wanted if left is None else min(wanted, left)

    def length(self, role: Role = "writer", *, most: int | None = None) -> int | None:
        """Return how many tokens a reply to messages may have, or None if the server sets the limit.

        `most` replaces the option `max_tokens`.
        """
        plan, info = self.plan, self.plan.models[role]
        asked = most or "max_tokens" not in plan.sampling.unset
        if not asked and info.own_sampling:
            return plan.options.budget.tokens_left(self.usage, info.price)
        return self.room(role, most=most)

    def priced(self, usage: Usage, role: Role = "writer") -> Usage:
        """Return a usage with the cost, if the role's model has a price."""
        info = self.plan.models.get(role)
        if info is None or info.price is None:
            return usage
        return usage.model_copy(update={"cost_usd": info.price.cost(usage)})

    def pay(self, usage: Usage, role: Role = "writer") -> Usage:
        """Add a usage to a role's total, and return the usage with the cost."""
        usage = self.priced(usage, role)
        self.by_role[role] += usage
        return usage

    def begin(self, answer: str, finish: Finish, usage: Usage, **more: Any) -> None:
        """Add a step with an answer. `more` are other fields of `Step`."""
        self.steps.append(Step(answer=answer, finish=finish, usage=usage, **more))

    def criticised(self, feedback: Feedback, usage: Usage | None = None) -> Step:
        """Add feedback to the last answer, and return the answer's step."""
        step = self.steps[-1]
        total = step.usage + usage if usage else step.usage
        self.steps[-1] = step.model_copy(update={"feedback": feedback, "usage": total})
        return self.steps[-1]

    def choose_draft(self) -> None:
        """Make the best draft the first step."""
        written = [*self.drafts, *self.steps]
        self.steps, self.drafts = [written.pop(best_step(written) or 0)], written
        self.drafting = False

    def echoes(self, answer: str, before: Sequence[Step]) -> bool:
        """Return whether a text echoes the prompt, the requests or the steps in `before`."""
        if self.plan.json is not None:
            return False
        from redraft.checks.echo import is_echo  # importing it compiles patterns

        feedback = [step.feedback for step in before if step.feedback is not None]
        told = [each.text for each in feedback if each.by in ("checks", "person")]
        items = [line for text in told for line in text.splitlines()]
        found = [each.text for each in feedback]
        found += [text.replace(f"{phrase}.", "") for text in found for phrase in VERDICTS]
        sent = [filled(self.plan.wording.revise, found=text, prompt="") for text in found]
        requests = self.plan.wording.requests if before else ()
        return is_echo(answer, self.plan.prompt, (*found, *items, *sent, *requests), self.plan.demand)

    def request(self, what: Literal["criticise", "revise"], found: str = "", **more: str) -> Message:
        """Return the message that asks for a criticism or for the next answer.

        `found` describes the faults. `more` fills other placeholders of the template.
        """
        content = filled(getattr(self.plan.wording, what), found=found, prompt=self.plan.asked.text, **more)
        return {"role": "user", "content": content}

    @property
    def holds(self) -> bool:
        """Whether the calculation in the adapters' feedback is correct and ends with their last answer."""
        own = self.steps[: self.own] or [Step(answer="")]
        begun = max((index for index, step in enumerate(own) if step.fresh), default=0)
        led = own[-1].complete and f"so {own[-1].answer.strip()}, and" in own[begun].criticism
        return led and own[begun].verdict != "unknown"

    def best(self) -> int | None:
        """Return the best step's index or None. Adapters' answers count if they pass, or if `holds`."""
        steps, options = self.steps, self.plan.options
        if self.plan.exercises and not self.holds:
            own = [step if step.passed else Step(answer="") for step in steps[: self.own]]
            steps = own + steps[self.own :]
        return best_step(steps, prefer_last=options.prefer_last and not self.forced(self.revisions))

    def check_answered(self, stop: Stop | None, aside: str = "", *, by_itself: bool = False) -> None:
        """Raise `EmptyReply` if a chain has no answer, unless the budget or a cancellation ended the chain.

        `aside` describes what came instead of text. `by_itself`: no limit cut the text.
        """
        flagged = any(step.echo and step.checks for step in self.steps)  # a tool call was due
        if stop in ("budget", "cancelled") or flagged or has_answer(self.drafts) or self.best() is not None:
            return
        full = {"max_tokens": "max_tokens was reached", "context": "the context was full"}
        then = f", and then {full[stop]}" if stop in full else ""
        error = EmptyReply(
            f"{self.plan.info.name!r} gave no answer: it sent {aside or 'no text'}{then}.",
            hint="Raise max_tokens (--max-tokens N), or the length of the context (--ctx N)."
            if stop in full
            else "Try other words in the prompt, another seed, or another model.",
        )
        error.by_itself, error.cut = by_itself and not aside, stop in full
        raise error

    def chain(self, stop: Stop | None) -> Chain:
        """Return the chain so far. `stop` is None while the chain continues."""
        if self.drafting and self.drafts:
            state = copy.copy(self)
            state.choose_draft()
            return state.chain(stop)
        plan, missing = self.plan, self.plan.options.min_revisions - self.revisions
        asks = plan.mode not in ("native", "best-of")
        meta: dict[str, Any] = {"prompts": plan.wording.record} if asks else {}
        best = self.best()
        drafted = plan.exercises and plan.mode == "best-of"
        if plan.exercises and not drafted:
            meta[OWN] = self.own
        if plan.info.roles and best is not None and stop is not None:
            drafted = drafted and self.steps[best].answer not in self.of_base
            own = "its own draft" if drafted else "its own revision" if best < self.own else ""
            meta[ANSWERED] = own or "the base model"
        if missing > 0 and stop not in (None, "tool_calls", "cancelled", "error"):
            meta[MISSING] = missing
        if self.left:
            meta[UNCHANGED] = self.left
        used = {role: u for role, u in self.by_role.items() if u.prompt_tokens or u.completion_tokens}
        names: dict[Role, str] = {role: u.model for role, u in plan.earlier.usage_by_role.items()}
        names |= {role: info.name for role, info in plan.models.items()}
        if used.keys() <= {"writer"}:
            used = {}
        return Chain(
            id=plan.options.id,
            prompt=plan.prompt,
            steps=tuple(self.steps),
            drafts=tuple(self.drafts),
            best=best,
            stop=stop,
            model={**plan.info.record, "revision_mode": plan.mode},
            sampling=plan.recorded_sampling,
            usage=self.usage.model_copy(update={"seconds": round(self.seconds, 4)}),
            usage_by_role={
                role: RoleUsage(**{**dict(u), "model": names.get(role, "")}) for role, u in used.items()
            },
            meta=meta,
        )


def appended(prompt: Prompt, text: str) -> Prompt:
    """Append a text to a prompt's last message.

    If the assistant or a tool wrote the last message, the text goes to the last user message.
    """
    if not text:
        return prompt
    if not prompt.messages:
        return prompt.model_copy(update={"instruction": f"{prompt.instruction}\n\n{text}"})
    messages: list[Any] = [*prompt.messages]
    roles = [each.get("role") for each in reversed(messages)]
    at = -1 - (roles.index("user") if roles[0] in ("assistant", "tool") and "user" in roles else 0)
    messages[at] = with_text(message_of(messages[at]), text)
    return prompt.model_copy(update={"messages": tuple(messages)})


CUT = (None, "budget", "cancelled", "error")
"""The stops of chains that can be resumed. Any other stop is final."""


def check_resumable(chain: Chain, prompt: Prompt, given: str = "") -> None:
    """Raise `UsageError` if a chain cannot be resumed for this prompt and given first answer."""
    if chain.stop not in CUT:
        hint = "A chain can be resumed if its stop is None, budget, cancelled or error."
        raise UsageError(f"the chain to resume is finished: chain.stop is {chain.stop!r}.", hint=hint)
    if chain.prompt != prompt:
        hint = "Give the same prompt: revise(chain.prompt, resume=chain, …)"
        raise UsageError(f"the chain to resume is for another prompt: {chain.prompt.text!r:.80}.", hint=hint)
    if given and chain.steps and chain.steps[0].answer != given:
        begins = chain.steps[0].answer
        said = f"the chain to resume does not begin with the given answer, but with {begins!r:.80}."
        raise UsageError(said, hint="Leave out given=… to continue. Leave out resume=… to start over.")


def complete_steps(chain: Chain) -> tuple[Step, ...]:
    """Return the steps to resume from.

    The last answer loses its feedback and is judged again, unless it was rejected or an adapter accepted it.
    A chain without any answer is begun anew.
    """
    if not has_answer(chain.steps):
        return ()
    *before, last = chain.steps
    cut = _is_cut(last, chain)
    if cut and not last.complete:
        return tuple(before)
    own = last.verdict == "accept" and len(chain.steps) == chain.meta.get(OWN)  # checks did not judge it
    if (own or last.verdict == "revise") and not cut:
        return chain.steps
    return (*before, last.model_copy(update={"feedback": None, "finish": "stop" if cut else last.finish}))


def complete_drafts(chain: Chain) -> tuple[Step, ...]:
    """Return the drafts to resume from, without the chosen draft and without a last draft that was cut."""
    return chain.drafts[:-1] if chain.drafts and _is_cut(chain.drafts[-1], chain) else chain.drafts


def _is_cut(step: Step, chain: Chain) -> bool:
    return step.finish in ("cancelled", "error") or (step.finish == "max_tokens" and chain.stop == "budget")

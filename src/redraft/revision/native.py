"""Revise with a model that was trained on chains: one stream writes the chain in SelFee's format.

The model decides when to stop. If the model is not certain of its feedback (`EngineInfo.certain`), the
verdict is `unknown`, and the answer stays. If a model with adapters for roles cannot judge its answer, the
base model answers instead. Before `min_revisions` is reached, a phrase that ends the chain is cut at its
token boundary and replaced by `Revision is needed`. A stop string that an answer only quotes does not end the
section. The model writes all feedback. Checks and other critics need another mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redraft.chain import Finish, Prompt, Step, Stop, Usage, Verdict, is_blank, is_system, selfee
from redraft.engines.base import Delta, EngineRole, PromptText
from redraft.errors import ContextError
from redraft.revision import ops, prompts
from redraft.revision import stop as rules
from redraft.revision.state import State

LONGEST_WORK = 512
"""Token limit of a chain on an exercise (`Plan.exercises`). Criticisms reach about 200 tokens."""


@dataclass
class Transcript:
    """The text after the prompt, with the token ids that let the engine reuse its cache."""

    prompt: PromptText  # the prompt's text, or its tokens if the engine takes them
    text: str = ""
    # The token ids of `text`; unused if the engine takes text.
    tokens: list[int] = field(default_factory=list)
    # Known token boundaries, in order, as (number of tokens, number of characters).
    marks: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])

    def add(self, delta: Delta) -> None:
        """Append a generated delta."""
        self.text += delta.text
        self.tokens.extend(delta.tokens)  # may come before their text
        if delta.text and delta.tokens and delta.finish is None:
            self.marks.append((len(self.tokens), len(self.text)))
        if delta.stop_text is not None and len(self.marks) > 1:
            # A stop string may begin inside a token, so the text before it may end inside that token.
            self.marks.pop()

    def force(self, text: str, *, heading: bool = False) -> ops.Loop[None]:
        """Append a text that the model did not write.

        First, tokens without text, such as the tokens of a stop string, are removed from the end. With
        `heading`, white space at the end is removed too.
        """
        kept = self.text.rstrip() if heading else self.text
        while self.marks[-1][1] > len(kept):
            self.marks.pop()
        tokens, characters = self.marks[-1]
        del self.tokens[tokens:]
        if not isinstance(self.prompt, str):
            self.tokens.extend((yield from ops.reply_to(ops.Encode(kept[characters:] + text), tuple)))
        self.text = kept + text
        self.marks.append((len(self.tokens), len(self.text)))

    def as_prompt(self) -> PromptText:
        """Return the prompt for the engine to continue."""
        return self.prompt + self.text if isinstance(self.prompt, str) else (*self.prompt, *self.tokens)


@dataclass
class Stream:
    """The text of one chain, parsed while it is written."""

    state: State
    written: Transcript
    asked: str = ""  # the prompt's instruction
    before: Sequence[Step] = ()  # the chain's steps before this text
    parser: selfee.Parser = field(default_factory=partial(selfee.Parser, exact=True))
    usage: dict[int, Usage] = field(default_factory=dict)
    generated: int = 0  # tokens of the whole text so far, which `max_tokens` limits
    announced: int = 0  # number of steps announced as complete
    # The log-probability of the least likely token of the model's own feedback, by index of the answer.
    least: dict[int, float] = field(default_factory=dict)

    @property
    def index(self) -> int:
        """The index of the answer that is being written or judged."""
        return self.parser.index - (self.parser.kind == "feedback")

    @property
    def place(self) -> tuple[selfee.SectionKind, int]:
        """The kind (answer or feedback) and the index of the section that is being written."""
        return self.parser.kind, self.parser.index

    @property
    def role(self) -> EngineRole:
        """The role that writes next, or "" if the model has no adapters for roles."""
        if not self.state.plan.info.roles:
            return ""
        return "answer" if self.place == ("answer", 0) else "revise"

    def steps(self) -> list[Step]:
        """Return the steps so far, at least one."""
        return list(self.parser.steps()) or [Step(answer="")]

    def room(self) -> int:
        """Return the next call's token limit."""
        return self.state.room(used=self.generated, most=LONGEST_WORK if self.state.plan.exercises else None)

    def stops(self) -> tuple[str, ...]:
        """Return the stop strings: a heading and, if a revision must follow, the phrases that end a chain."""
        last = self.parser.index if self.role == "answer" else self.state.plan.max_revisions
        heading = selfee.feedback_heading(last + 1).strip()
        return (heading, *selfee.DONE_PHRASES) if self.state.forced(self.index) else (heading,)

    def unsure(self, index: int) -> bool:
        """Return whether an answer's feedback is too uncertain or, on an exercise, calculates wrongly."""
        if self.state.plan.exercises:
            from redraft.engines import learnt

            judged = self.steps()[index : index + 1]
            return not all(learnt.holds(step.criticism, self.asked) for step in judged)
        return math.exp(self.least.get(index, 0.0)) < self.state.plan.info.certain

    def ends(self) -> Stop | None:
        """Return why the chain ends at the start of this section, or None if the chain continues."""
        kind, index = self.parser.kind, self.index
        unsure = kind == "answer" and self.unsure(index - 1)
        return rules.in_text(self.state, kind, index, self.steps(), unsure=unsure)

    def weigh(self, delta: Delta) -> None:
        """If the delta belongs to feedback, update the lowest log-probability of this feedback."""
        if self.parser.kind == "feedback" and delta.logprobs:
            self.least[self.index] = min(self.least.get(self.index, 0.0), *delta.logprobs)

    def close(self, finish: Finish) -> ops.Loop[None]:
        """Parse the rest of the text, and announce the last step, which ended with `finish`."""
        yield from self.flush()
        self.keep(finish)
        yield from self._announce(len(self.state.steps) - len(self.before))

    def flush(self) -> ops.Loop[None]:
        """Yield events for text held back as a possible heading. Call this at the end of a section."""
        yield from self.show(self.parser.close())

    def force(self, text: str) -> ops.Loop[None]:
        """Append a text that the model did not write, and yield events for the text."""
        yield from self.written.force(text, heading=text.startswith("\n"))
        yield from self.show(self.parser.feed(text))

    def keep(self, finish: Finish) -> None:
        """Store the steps so far in the state. The last step ended with `finish`.

        The last step is left out if it was cut while empty, or if it follows uncertain feedback.
        """
        steps, before = self.steps(), len(self.before)
        cut = not steps[-1].answer and steps[-1].feedback is None and finish != "stop"
        if len(steps) > 1 and (
            cut or (self.unsure(len(steps) - 2) and not self.state.forced(len(steps) - 2))
        ):
            steps.pop()
            finish = "stop"
        for number, step in enumerate(steps):
            own: Finish = finish if number == len(steps) - 1 else "stop"
            final = number < self.announced  # an announced step is not tested again
            changes: dict[str, Any] = {
                "usage": self.usage.get(number, Usage()),
                "finish": own,
                "fresh": bool(before) and number == 0,
                "echo": self.state.steps[before + number].echo
                if final
                else self.state.echoes(step.answer, steps[:number]),
            }
            if step.feedback is not None and self.unsure(number):
                changes["feedback"] = step.feedback.model_copy(update={"verdict": "unknown"})
            steps[number] = step.model_copy(update=changes)
        self.state.steps = [*self.before, *steps]
        self.state.own = len(self.state.steps)

    def take_up(self, steps: tuple[Step, ...]) -> None:
        """Continue after the steps of an earlier attempt."""
        last = steps[-1]
        kind: selfee.SectionKind = "feedback" if last.feedback is None else "answer"
        self.parser = selfee.Parser(kind, len(steps), steps, exact=True)
        self.announced = len(steps) - (last.feedback is None)
        self.usage = {number: step.usage for number, step in enumerate(steps)}
        self.generated = sum(step.usage.completion_tokens for step in steps)

    def announce_progress(self, unpaid: Mapping[int, Usage]) -> ops.Loop[None]:
        """Yield a `Progress` with all complete sections. `unpaid` maps a step to usage to add to it."""
        if not self.parser.index:
            return
        complete = len(self.before) + self.parser.index
        self.keep("stop")
        steps, chain = self.state.steps[:complete], self.state.chain(None)
        if self.parser.kind == "feedback":
            steps[-1] = steps[-1].model_copy(update={"feedback": None})
        usage = chain.usage
        for index, used in unpaid.items():
            index, used = index + len(self.before), self.state.priced(used)
            usage += used.model_copy(update={"seconds": 0.0})
            if index < complete:
                steps[index] = steps[index].model_copy(update={"usage": steps[index].usage + used})
        yield ops.Progress(chain.model_copy(update={"steps": tuple(steps), "best": None, "usage": usage}))

    def show(self, pieces: Iterable[selfee.SectionText]) -> ops.Loop[None]:
        """Yield events for parsed pieces of text, and announce the steps that the pieces complete."""
        for piece in pieces:
            index = piece.index - (piece.kind == "feedback")
            if self.announced < index:
                self.keep("stop")
                yield from self._announce(index)
            yield ops.Text(piece.kind, len(self.before) + index, piece.text)

    def _announce(self, until: int) -> ops.Loop[None]:
        while self.announced < until:
            place = len(self.before) + self.announced
            yield ops.StepDone(place, self.state.steps[place])
            self.announced += 1


def run(state: State) -> ops.Loop[Stop]:
    """Let the model write its chain. Return why the chain ended.

    The wordings in `Plan.exercises` are tried until the calculation in the feedback leads to the answer. If
    none succeeds, or the prompt is unlike the training data, the base model answers, unless there are checks.
    """
    plan = state.plan
    asked = _with_system(plan.asked, plan.options.system)
    for prompt in [Prompt(instruction=words) for words in plan.exercises] or [asked]:
        stream, stop = yield from _write_chain(state, prompt)
        if stop in ("budget", "cancelled", "error") or not _is_beyond(stream, stop):
            return stop
    return (yield from _ask_base(state))


def _write_chain(state: State, asked: Prompt) -> ops.Loop[tuple[Stream, Stop]]:
    text = selfee.render_prompt(asked)
    prompt: PromptText = text
    if state.plan.info.token_ids:
        prompt = yield from ops.reply_to(ops.Encode(text, special=True), tuple)
    before = tuple(state.steps) if state.plan.exercises else ()
    stream = Stream(state, Transcript(prompt), asked.instruction, before)
    stop: Stop | None = None
    try:
        if state.steps and not stream.before:
            stop, finish = yield from _resume(stream, tuple(state.steps))
        if stop is None:
            stop, finish = yield from _write(stream)
    except Exception:
        stream.parser.close()
        stream.keep("error")
        raise
    yield from stream.close(finish)
    return stream, stop


def _is_beyond(stream: Stream, stop: Stop) -> bool:
    """Return whether the model cannot judge answer 0.

    On an exercise, return True unless the criticism calculates correctly and reaches the answer. On other
    prompts, return True if the model is certain that it was not trained on such prompts.
    """
    info, steps = stream.state.plan.info, stream.state.steps[len(stream.before) :]
    if stream.state.plan.exercises:
        return not stream.state.holds
    if not (info.roles and info.chats and len(steps) == 1) or stream.unsure(0) or stream.state.forced(0):
        return False
    return stop == "ended" and bool(steps[0].criticism) and steps[0].verdict == "unknown"


def _ask_base(state: State) -> ops.Loop[Stop]:
    if state.plan.checks:
        return "ended"
    if stop := rules.before_request(state, room := state.room()):
        return stop
    messages = prompts.base_messages(state.plan.asked, state.plan.options.system)
    reply = yield from ops.ask_model(state, ops.Ask(messages, room), "answer", len(state.steps))
    if not is_blank(reply.text):
        echo = state.echoes(reply.text, state.steps)
        state.begin(reply.text, reply.finish, reply.usage, echo=echo, fresh=True)
        yield ops.StepDone(state.last, state.steps[-1])
    return rules.of_finish(state, reply.finish) or "ended"


def _resume(stream: Stream, steps: tuple[Step, ...]) -> ops.Loop[tuple[Stop | None, Finish]]:
    state, criticised = stream.state, steps[-1].feedback is not None
    heading = selfee.revision_heading(len(steps)) if criticised else selfee.feedback_heading(len(steps))
    stream.take_up(steps)
    yield from stream.written.force(selfee.render_steps(steps) + heading)
    if criticised and len(steps) > state.plan.max_revisions:
        return "max_revisions", "max_tokens"
    if _is_beyond(stream, "ended"):
        return "ended", "max_tokens"
    return rules.before_request(state, stream.room()), "max_tokens"


def _with_system(prompt: Prompt, system: str | None) -> Prompt:
    if not system:
        return prompt
    if not prompt.messages:
        return prompt.model_copy(update={"instruction": f"{system}\n\n{prompt.instruction}"})
    if is_system(prompt.messages[0]):
        return prompt
    return prompt.model_copy(update={"messages": ({"role": "system", "content": system}, *prompt.messages)})


def _write(stream: Stream) -> ops.Loop[tuple[Stop, Finish]]:
    while True:
        last = yield from _request(stream)
        if not isinstance(last, Delta):
            return last, ("stop" if last == "unchanged" else "cancelled")
        finish = last.finish or "stop"
        stop = rules.of_finish(stream.state, finish)
        if stop is None:  # the model stopped: force the next text or end the chain
            after = _after_answer if stream.parser.kind == "answer" else _after_feedback
            stop = yield from after(stream, last.stop_text)
        if stop is not None:
            return stop, finish
        if (stop := rules.before_request(stream.state, stream.room())) is not None:
            return stop, "max_tokens"


def _request(stream: Stream) -> ops.Loop[Delta | Stop]:
    yield from stream.announce_progress({})
    meter = ops.CallMeter(stream.state.clock, stream.index)
    delta, place = Delta(), stream.place
    try:
        request = ops.Continue(stream.written.as_prompt(), stream.room(), stream.stops(), stream.role)
        delta = yield from ops.reply_to(request, Delta)
        while True:
            stream.written.add(delta)
            stream.weigh(delta)
            yield from stream.show(stream.parser.feed(delta.text))
            meter.count(delta, stream.index)
            if delta.finish:
                return delta
            if stream.place != place or stream.parser.malformed:
                stream.weigh(delta)
                place = stream.place
                if stream.parser.malformed:
                    return "malformed"
                if stop := stream.ends():
                    return stop
                yield from stream.announce_progress(meter.usages(Delta()))
            delta = yield from ops.reply_to(ops.More(), Delta)
    except ContextError:
        if not stream.written.text:
            raise
        return Delta(finish="context")
    finally:
        for index, usage in meter.usages(delta).items():
            stream.usage[index] = stream.usage.get(index, Usage()) + stream.state.pay(usage)
            stream.generated += usage.completion_tokens


def _after_answer(stream: Stream, stop_text: str | None) -> ops.Loop[Stop | None]:
    text = stream.written.text
    due = stop_text == selfee.feedback_heading(stream.index + 1).strip() and (not text or text.endswith("\n"))
    if stop_text is not None and not due:  # a quotation of a heading
        yield from stream.force(stop_text)
        return None
    yield from stream.flush()
    changes = stream.role == "answer" and stream.state.plan.max_revisions > 0
    if (stop := None if changes else rules.after_own_answer(stream.state, stream.index)) is None:
        yield from stream.force(selfee.feedback_heading(stream.index + 1))
    return stop


def _after_feedback(stream: Stream, stop_text: str | None) -> ops.Loop[Stop | None]:
    if stop_text is not None and not (stream.state.forced(stream.index) and stop_text in selfee.DONE_PHRASES):
        yield from stream.force(stop_text)
        return None
    if stop_text is None:
        yield from stream.flush()
    feedback = stream.steps()[-1].criticism
    verdict: Verdict = "unknown" if stream.unsure(stream.index) else selfee.verdict_of(feedback)
    if stop := rules.after_own_feedback(stream.state, stream.index, verdict):
        return stop
    if stop_text is not None and verdict != "revise":
        yield from stream.force(selfee.REVISE_PHRASE)
        return None
    if verdict != "revise":
        yield from stream.force(f"{' ' * bool(feedback)}{selfee.REVISE_PHRASE}.")
    yield from stream.force(selfee.revision_heading(stream.index + 1))
    return None

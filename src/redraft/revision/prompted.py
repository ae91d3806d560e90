"""Revise with a chat model that was not trained to revise: ask for an answer, a criticism, a revision.

Checks judge first, if there are any. An answer that passes is left alone. A failed answer is revised with the
checks' messages (`verified`), or with the messages and a model's criticism (`prompted`). In mode `repair`,
the messages go into the prompt of a fresh draft. `prompts` has the wording, `stop` the stop rules.

With checks, the default schedule is as follows. An answer whose faults have places is patched (`patch`). Any
other failed answer gets two revisions (`Plan.told`), or none if checks steer. Fresh drafts follow.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

from redraft import chain
from redraft.chain import CheckResult, Feedback, Place, Step, Stop, Usage, Verdict
from redraft.chain.selfee import score_of, verdict_of
from redraft.checks.json_reading import NotJson, json_so_far, keys_of, read_json, with_last
from redraft.checks.structure import demand_of_schema
from redraft.checks.tools import stricter
from redraft.engines.base import EngineRole, Message
from redraft.engines.messages import joined
from redraft.errors import NoScore
from redraft.revision import calls, ops, patch, prompts
from redraft.revision import stop as rules
from redraft.revision.prompts import VERDICTS
from redraft.revision.state import State, appended

_warn = lru_cache(1)(logging.getLogger(__name__).warning)  # once


def run(state: State) -> ops.Loop[Stop]:
    """Draft, then criticise and revise until there is a reason to stop. Return the reason."""
    if state.plan.options.places:
        return (yield from _by_person(state))
    stop: Stop | None = None
    if state.drafting or not state.steps:
        stop = yield from _draft(state)
    elif state.steps[-1].verdict == "accept" and state.plan.exercises:
        stop = yield from _check_own(state)
    elif state.steps[-1].feedback is not None:  # the earlier attempt ended after this feedback
        stop = rules.when_resumed(state) or (yield from _write_next(state))
    while stop is None:
        stop = yield from _criticise(state)
        yield ops.StepDone(state.last, state.steps[-1])
        if stop is None:
            stop = yield from _write_next(state)
    return stop


def _check_own(state: State) -> ops.Loop[Stop | None]:
    step = state.steps[-1]
    state.steps[-1] = step.model_copy(update={"feedback": None})
    stop = yield from _criticise(state)
    if (found := state.steps[-1].feedback) is None:
        state.steps[-1] = step
    else:
        text = f"{step.criticism}\n\n{found.text}".strip()
        state.criticised(found.model_copy(update={"text": text, "by": "both"}))
    yield ops.StepDone(state.last, state.steps[-1])
    return stop if stop is not None else (yield from _write_next(state))


def _draft(state: State) -> ops.Loop[Stop | None]:
    if state.plan.options.given:
        state.begin(state.plan.options.given, "stop", Usage())
        return None
    if state.plan.options.most_drafts == 1:
        return (yield from _write_next(state))
    while True:
        if not state.steps:  # a draft that the earlier attempt did not check comes first
            yield from _write(state, "draft")
        try:
            results = yield from _check(state)
        except NoScore as error:  # the chain continues: another draft may get a score
            results = (CheckResult(name="judge", passed=False, score=0.0, message=error.message),)
        if results is None:
            stop = rules.of_finish(state, "cancelled")
        else:
            _note_checks(state, results)
            stop = rules.after_draft(state, good=_good(state, results))
        written = len(state.drafts)
        yield ops.DraftDone(written, state.steps[-1])
        if stop is not None or written + 1 >= state.plan.options.most_drafts:
            break
        state.drafts += state.steps
        state.steps.clear()
    state.choose_draft()
    if stop in (None, "passed"):
        return None
    yield ops.StepDone(state.last, state.steps[-1])
    return stop


def _write_next(state: State) -> ops.Loop[Stop | None]:
    written, last = state.last, state.steps[-1] if state.steps else None
    asked = last and last.patch and last.usage.completion_tokens  # dropping calls asks no model
    if last and last.tool_calls and not asked:
        stop = yield from _patch_calls(state)
        if stop is not None:
            yield ops.StepDone(state.last, state.steps[-1])
        if state.last > written:
            return stop
    edits = patch.edits_of(state)
    stop = (yield from _patch(state, edits)) if edits else None
    if stop is None and state.last == written:
        if state.plan.options.places is not None:
            return "unchanged"
        way = _next_way(state)
        most = LETTERS * state.plan.sampling.max_tokens
        if edits and last and way == "revision" and len(last.answer) > most:
            return "unchanged"  # a revision of the whole answer has no room
        stop = yield from _write(state, way)
    if stop is not None and state.last > written:
        yield ops.StepDone(state.last, state.steps[-1])
    return stop


LETTERS = 8  # more characters than a token has on average, in any language
Way = Literal["draft", "repair", "revision"]
"""The next answer: a new draft, a new draft with the last faults in its prompt, or a revision."""


def _next_way(state: State) -> Way:
    plan = state.plan
    if not state.steps or (plan.exercises and state.steps[-1].verdict == "unknown"):
        return "draft"
    if calls.beside_right((), state.steps):  # right calls are shown, and only wrong ones are repeated
        return "revision"
    if plan.mode == "repair":
        return "repair"
    if rules.repeated(state):
        return "draft"
    if plan.told is None or state.forced(state.revisions) or plan.sampling.temperature == 0:
        return "revision"
    revised = sum(not (step.fresh or step.patch) for step in state.steps[1:])
    last = state.steps[-1]
    return "draft" if revised >= plan.told or last.echo or chain.is_blank(last.answer) else "revision"


def _base(state: State, told: str = "") -> tuple[Message, ...]:
    return prompts.base_messages(appended(state.plan.asked, told), state.plan.options.system)


def _schema(state: State) -> Mapping[str, Any] | None:
    """Return the schema. If `max_tokens` cut the last JSON, add limits so that the next JSON fits."""
    schema, (*_, last) = state.plan.schema, [Step(answer=""), *state.drafts, *state.steps]
    if schema is None or last.finish != "max_tokens" or not state.plan.info.token_ids:
        return schema
    from redraft.engines.bounds import CHARACTERS, within  # few answers need it

    share = len(last.answer) / (CHARACTERS * max(last.usage.completion_tokens, 1))
    return within(schema, int(state.plan.sampling.max_tokens * min(max(share, 0.4), 0.8)))


def _write(state: State, way: Way) -> ops.Loop[Stop | None]:
    plan, told = state.plan, way == "repair" and state.steps[-1].criticism  # `repair` hides the draft
    # An adapter writes only its exercise's answer, and would fail the same checks of form again.
    failed = {result.name for draft in state.drafts for result in draft.checks if not result.passed}
    able = plan.exercises and plan.mode == "best-of" and failed.isdisjoint(plan.shapes)
    role: EngineRole = "answer" if able else ""
    again = _base(state, prompts.REPAIR.format(found=told) if told else "")
    ask = ops.Ask(
        _conversation(state) if way == "revision" else again,
        state.length(),
        schema=None if role else _schema(state),
        form=None if role else plan.form,
        stop=tuple(plan.options.stop),
        watched=plan.watched and rules.followed(state),
        tools=tuple(plan.options.tools),
        role=role,
    )
    if tool := calls.unread(state.steps, plan.options.tools):
        ask = replace(ask, tools=(tool,), must_call=True)
    reply = yield from ops.ask_model(state, ask, "answer", len(state.steps))
    made = reply.tool_calls if reply.finish == "stop" else calls.whole(reply.tool_calls)
    no_answer = not made and state.echoes(reply.text, state.steps)
    echo = reply.finish != "lost" and (no_answer or calls.replaces(reply.text, state.steps, plan))
    said = reply.finish == "stop" and not (echo or chain.is_blank(reply.text))
    if made := calls.beside_right(made, state.steps) if made or said else ():
        state.begin(reply.text, reply.finish, reply.usage, tool_calls=made, reasoning=reply.reasoning)
        return (yield from _judge_calls(state))
    cut, blank = rules.of_finish(state, reply.finish), chain.is_blank(reply.text) and not calls.due(plan)
    if blank and not state.steps and plan.options.most_drafts == 1 and plan.told is None:
        state.check_answered(cut, reply.aside, by_itself=reply.finish == "stop")
    steering = {*plan.steered, *plan.holding} if not (role or reply.unsteered) else ()
    steered = tuple(name for name in plan.checks if name in steering)
    fresh = bool(state.steps) and way != "revision"
    more: dict[str, Any] = {"fresh": fresh, "steered": steered, "reasoning": reply.reasoning}
    state.begin(reply.text, reply.finish, reply.usage, echo=echo, **more)
    if not role:
        state.of_base.add(state.steps[-1].answer)
    stop = rules.after_answer(state, cut, blank=blank)
    if stop is not None and (same := rules.repeated(state)) and same.feedback and same.checks:
        state.criticised(same.feedback)
    return stop


def _judge_calls(state: State) -> ops.Loop[Stop | None]:
    made, reasoning = state.steps[-1].tool_calls, state.steps[-1].reasoning
    results = calls.judged(made, state.plan.options.tools, state.plan.sampling.extra_body)
    if any(name.startswith("tool:") for name in state.plan.checks):
        checked = yield from ops.run_checks(ops.RunChecks("", made, reasoning), partial(_pay_judge, state))
        if checked.given_up:
            return rules.of_finish(state, "cancelled")
        results = tuple(map(calls.joined, results, checked.results))
    good = all(result.passed for result in results)
    verdict: Verdict = "accept" if good else "revise"
    text = "" if good else prompts.complaint(results, "stop")
    state.criticised(Feedback(text=text, verdict=verdict, by="checks", checks=results))
    return "tool_calls" if good else rules.when_resumed(state)


def _patch_calls(state: State) -> ops.Loop[Stop | None]:
    """Ask again for arguments that do not fit, and drop forbidden calls. Add a step if the calls changed."""
    step, changed, usage, info = state.steps[-1], list[Place](), Usage(), state.plan.info
    copies = info.resumes and info.schemas and info.token_ids
    # Demands of checks would disturb a model that continues arguments and copies values from the prompt.
    bare = prompts.base_messages(state.plan.prompt, state.plan.options.system)
    allowed, tools = calls.kept(step, state.plan), state.plan.options.tools
    if not allowed and chain.is_blank(step.answer):
        return None
    made = list(allowed)
    for place, (call, result) in enumerate(zip(allowed, step.checks, strict=False)):
        if result.passed:
            continue
        spelt, where = calls.respelt(call, tools), tuple[Place, ...](("",))
        [result] = [result] if spelt is call else calls.judged([spelt], tools)
        base, schema = calls.base_of(spelt, result, tools)
        text = calls.reread(base.answer) if spelt is call else base.answer
        if copies and result.places:
            wrong = [key for each in result.places for key in keys_of(str(each))[:1]]
            base = base.model_copy(update={"answer": with_last(base.answer, wrong)})
        edits = patch.values_of(base.answer, map(str, result.places), schema)
        if edits := [_bounded(edit, call["function"]["name"], state.plan.bounds) for edit in edits]:
            write, asked = (patch.written, bare) if copies else (patch.asked, _base(state))
            new = yield from write(state, base, edits, asked, 0)
            usage, text, where = usage + new.usage, new.answer, new.patch if spelt is call else where
            asked_for = {edit.pointer for edit in edits if edit.made is None}
            lost = asked_for and asked_for.isdisjoint(new.patch)  # the try would only lose values
            where = () if lost else where
        elif text is None:
            return None
        if where:
            made[place] = {**call, "function": {**call["function"], "arguments": text}}
            changed += where
    if not changed and allowed == step.tool_calls:
        return rules.no_room(state)
    state.begin(step.answer, step.finish, usage, tool_calls=tuple(made), patch=tuple(changed))
    return (yield from _judge_calls(state)) if made else rules.after_answer(state, None, blank=False)


def _bounded(edit: patch.Edit, tool: str, bounds: Mapping[str, Mapping[str, float]]) -> patch.Edit:
    way = re.sub(r"/\d+(?=/|$)", "/*", edit.pointer or "").replace("/", ".")
    known = edit.schema if isinstance(edit.schema, Mapping) else {}
    return replace(edit, schema=stricter(known, bound)) if (bound := bounds.get(f"{tool}{way}")) else edit


def _patch(state: State, edits: Sequence[patch.Edit]) -> ops.Loop[Stop | None]:
    """Rewrite the faulty parts, and add the best try as a step if it changes anything. Return why to stop."""
    plan, base, tries, stop, left, faults = state.plan, state.steps[-1], list[Step](), None, list[Any](), ""
    write = patch.asked if edits[0].wish or edits[0].code or not plan.info.resumes else patch.written
    failed = {result.name for result in base.checks if not result.passed}
    # Checks that steer need no feedback. The first try gets none either: its prompt is in the engine's cache.
    told = "" if failed <= {*plan.steered} else prompts.REPAIR.format(found=base.criticism)
    # Writing to the end takes as much as another draft, so it is tried once.
    once = edits[0].open or all(edit.made is not None for edit in edits)
    # Numbers get more tries, because each try puts in another number.
    numbers, gaps = any(edit.gap and edit.gap.number for edit in edits), any(edit.gap for edit in edits)
    some = patch.TRIES + 2 * numbers if plan.sampling.temperature or numbers else 1 + bool(told)
    most = 1 if once else some
    if write is patch.asked:  # its request contains the faults
        told, most = "", min(most, 1 + bool(plan.sampling.temperature or (plan.checks and edits[0].wish)))
    while stop is None and len(tries) < most:
        if not (edits := patch.next_edits(state, edits, tries[-1]) if tries and gaps else edits):
            break
        if tries and edits[0].wish:
            edits = [replace(each, wish=f"{each.wish}\n{faults}".strip()) for each in edits]
        made = yield from write(state, base, edits, _base(state, told if tries else ""), len(tries))
        if made.finish == "context":
            stop = rules.of_finish(state, made.finish) if edits[0].wish else None  # a revision may have room
            break
        if write is patch.asked and made.answer and not made.patch:
            usage = sum((step.usage for step in tries), made.usage)
            more = {"echo": state.echoes(made.answer, state.steps), "reasoning": made.reasoning}
            state.begin(made.answer, made.finish, usage, **more)
            return rules.after_answer(state, rules.of_finish(state, made.finish), blank=False)
        state.steps.append(made.model_copy(update={"echo": state.echoes(made.answer, state.steps)}))
        results = (yield from _check(state)) if made.finish == "stop" and made.patch else ()
        stop = rules.of_finish(state, made.finish if results is not None else "cancelled")
        stop = rules.no_room(state) if stop == "max_tokens" else stop
        _note_checks(state, results or ())
        tries.append(state.steps.pop())
        left.append(state.left)
        state.unpatched = write is patch.asked and not made.patch
        faults, done = tries[-1].criticism, made.patch and (not plan.checks or edits[0].anywhere)
        if made.patch and edits[0].wish and not done:
            _, faults = yield from _to_mend(state, base, tries[-1])
            done = not faults
        if tries[-1].passed or done or (state.unpatched and not edits[0].anywhere) or rules.spent(state):
            break
    if not (changed := [step for step in tries if step.patch]):
        return stop or rules.no_room(state)
    chosen = changed[chain.best_step(changed) or 0]
    state.left, usage = left[tries.index(chosen)], sum((step.usage for step in tries), Usage())
    state.steps.append(chosen.model_copy(update={"usage": usage}))
    yield ops.Text("answer", state.last, chosen.answer)
    return stop


def _by_person(state: State) -> ops.Loop[Stop]:
    from redraft.revision import wishes  # most chains have none

    if not state.steps:
        state.begin(state.plan.options.given, "stop", Usage())
    edits = wishes.marked(state.steps[-1].answer, state.plan.options.places or ())
    if state.plan.options.model == "default" and any(edit.made is None for edit in edits):
        _warn("the default model seldom makes the requested edit. Name a larger model, such as 'small'.")
    base = state.criticised(wishes.feedback_of(state.steps[-1].answer, edits))
    yield ops.StepDone(state.last, base)
    while True:
        before = state.steps[-1]
        stop = yield from _patch(state, edits)
        end: Stop = "ended" if rules.another(state) or not state.plan.checks else "max_revisions"
        if (step := state.steps[-1]) is before:
            return stop or ("unchanged" if before is base else end)
        yield ops.StepDone(state.last, step)
        if step.answer == base.answer:  # a correction took the wish back
            place, wish = [0, len(step.answer)], base.criticism
            state.left = [{"place": place, "passage": step.answer, "wish": wish, "why": patch.SAME}]
        better = before is base or (step.score or 0) > (before.score or 0)
        if step.passed or stop or not (better and edits[0].anywhere and rules.another(state)):
            return "passed" if step.passed and not state.left else stop or end
        places, faults = yield from _to_mend(state, base, step)
        found = wishes.marked(step.answer, [f"{base.criticism}\n{faults}"])
        if not (edits := [each for each in found if each.touches(places)]):
            return end


def _to_mend(state: State, base: Step, step: Step) -> ops.Loop[tuple[Sequence[Place], str]]:
    """Return the places to rewrite in `step`, and the faults there. `step` is `base`, edited for a person.

    Faults that `base` has too may stay. A check that fails without naming places counts in three cases: the
    score of `step` is 0, the score of `base` is lower, or `base` passes the check.
    """
    places = {each: list[Place](patch.faults_of(each, step, base.answer)) for each in step.checks}
    if failed := [each for each in step.checks if not (each.passed or each.places)]:
        checked = yield from _checked(state, base)
        scores = {each.name: each.score for each in checked.results if not each.passed}
        for each in failed:
            risen = each.score > scores.get(each.name, -1)  # or `base` passes the check
            places[each] = [(0, len(step.answer))] if risen else [*step.patch] * (each.score == 0)
    mine = [each for each in step.checks if places[each]]
    return [place for each in mine for place in places[each]], prompts.complaint(mine, "stop")


def _checked(state: State, step: Step) -> ops.Loop[ops.Checked]:
    wishes = "\n".join(each.message for made in state.steps for each in made.checks if each.name == "person")
    op = ops.RunChecks(step.answer, reasoning=step.reasoning, wishes=wishes)
    return (yield from ops.run_checks(op, partial(_pay_judge, state)))


def _criticise(state: State) -> ops.Loop[Stop | None]:
    if state.steps[-1].tool_calls:  # the earlier attempt may not have judged the calls
        return None if state.steps[-1].feedback else (yield from _judge_calls(state))
    if (same := rules.repeated(state)) is not None and same.feedback is not None:
        state.criticised(same.feedback)
        return rules.no_room(state)
    results = yield from _check(state)
    step = state.steps[-1]
    if results is None:
        return rules.of_finish(state, "cancelled")
    stop = rules.before_criticism(state, good=_good(state, results))
    verified = step.finish == "lost" or (state.plan.mode != "prompted" and not _good(state, results))
    if stop is not None or step.echo or (results and verified):
        _note_checks(state, results)
        return stop
    return (yield from _ask_critic(state, results))


def _check(state: State) -> ops.Loop[tuple[CheckResult, ...] | None]:
    step = state.steps[-1]
    if step.feedback is not None:
        return step.checks
    if not state.plan.checks or step.echo:
        called = any(each.tool_calls for each in state.steps)  # the answer replaces a wrong call
        return (calls.WORDS,) if called and not step.echo else ()
    yield from ops.announce_progress(state)
    checked = yield from _checked(state, step)
    return None if checked.given_up else checked.results


def _pay_judge(state: State, usage: Usage) -> None:
    step = state.steps[-1]
    state.steps[-1] = step.model_copy(update={"usage": step.usage + state.pay(usage, "judge")})


def _good(state: State, results: tuple[CheckResult, ...]) -> bool:
    step = state.steps[-1]
    reads = not rules.another(state) or chain.loop(step.answer) is None
    return bool(results) and all(result.passed for result in results) and step.finish == "stop" and reads


def _note_checks(state: State, results: tuple[CheckResult, ...]) -> None:
    step = state.steps[-1]
    if step.echo:
        called = any(each.tool_calls for each in state.steps)
        text = prompts.ECHOED if state.revisions and not called else prompts.TALK
        found = (calls.NONE,) if calls.due(state.plan) else ()
        text = calls.NONE.message if found else text
        state.criticised(Feedback(text=text, verdict="revise", by="checks", checks=found))
    elif results:
        good = _good(state, results)
        loops = step.finish == "stop" and all(result.passed for result in results)
        text = "" if good else prompts.LOOPS if loops else prompts.complaint(results, step.finish)
        verdict: Verdict = "accept" if good else "revise"
        state.criticised(Feedback(text=text, verdict=verdict, by="checks", checks=results))


def _ask_critic(state: State, results: tuple[CheckResult, ...]) -> ops.Loop[Stop | None]:
    failed = bool(results) and not _good(state, results)
    cut = state.steps[-1].finish == "max_tokens"
    faults = prompts.complaint(results, state.steps[-1].finish) if failed or cut else ""
    role = state.plan.critic_role
    reply, found = yield from _criticism(state, faults)
    cut_stop = rules.of_finish(state, reply.finish, role)
    verdict: Verdict = "revise" if failed or state.forced(state.revisions) else found.verdict
    said_nothing = state.plan.wording.scores and _had_its_say(state, reply)
    if not reply.text and (cut_stop is not None or verdict == "unknown") and not said_nothing:
        return cut_stop or "ended"
    said = found.text if verdict == found.verdict else saying(found.text, verdict)
    feedback = Feedback(
        text=f"{faults}\n\n{said}" if faults else said,
        verdict=verdict,
        by="both" if results else "model",
        checks=results,
        reasoning=reply.reasoning,
        **({} if found.score is None else {"score": found.score}),  # an extra field
    )
    step = state.criticised(feedback, reply.usage)
    if cut_stop is not None and not results:
        state.steps[-1] = step.model_copy(update={"finish": reply.finish})
    return rules.after_criticism(state, verdict, cut_stop)


def _criticism(state: State, faults: str) -> ops.Loop[tuple[ops.Generated, Critique]]:
    plan, role = state.plan, state.plan.critic_role
    schema = SCHEMA if plan.wording.scores and plan.models[role].schemas else None
    demand = IN_JSON if schema else IN_WORDS
    request = state.request("criticise", faults, gold=plan.options.gold, verdict=demand)
    messages = _conversation(state, request)
    ask = ops.Ask(messages, state.length(role, most=plan.options.feedback_tokens), role, schema=schema)
    reply = yield from ops.ask_model(state, ask, "feedback", state.last)
    if not plan.wording.scores:
        return reply, Critique(reply.text, verdict_of(reply.text))
    found = read_critique(reply.text, plan.options.accept_score)
    if not found.text and _had_its_say(state, reply):
        second = yield from ops.ask_model(state, ask, "feedback", state.last)
        found = read_critique(second.text, plan.options.accept_score)
        return replace(second, usage=reply.usage + second.usage), found
    if found.verdict == "unknown" and found.text and reply.finish in ("stop", "max_tokens"):
        return (yield from _decided(state, messages, reply, found))
    return reply, found


def _had_its_say(state: State, reply: ops.Generated) -> bool:
    spent = rules.spent(state, state.plan.critic_role)
    return reply.finish in ("stop", "max_tokens", "filtered") and not spent


def _decided(
    state: State, messages: tuple[Message, ...], reply: ops.Generated, found: Critique
) -> ops.Loop[tuple[ops.Generated, Critique]]:
    role = state.plan.critic_role
    if rules.spent(state, role):
        return replace(reply, finish="max_tokens"), found
    said: Message = {"role": "assistant", "content": reply.text}
    again = joined([*messages, said, {"role": "user", "content": AGAIN}])
    ask = ops.Ask(again, state.length(role, most=AGAIN_TOKENS), role)
    second = yield from ops.ask_model(state, ask, "feedback", state.last)
    verdict = verdict_of(second.text)
    cut = verdict == "unknown" and rules.of_finish(state, second.finish, role) not in (None, "max_tokens")
    usage, finish = reply.usage + second.usage, second.finish if cut else reply.finish
    decided = Critique(saying(found.text, verdict), verdict, found.score)
    return replace(reply, usage=usage, finish=finish), decided


def _conversation(state: State, *request: Message) -> tuple[Message, ...]:
    """Return the prompt, the steps since a fresh draft (`context="last"`: only the last), and a request."""
    steps = state.steps
    afresh = max((i for i, step in enumerate(steps) if step.fresh), default=0)
    shown = [step for step in steps[afresh:] if not step.echo] or steps
    if state.plan.options.context == "last":
        shown = shown[-1:]
    messages = list(_base(state))
    for step in shown:
        if step.tool_calls:
            messages += calls.told(step)
            continue
        if step.answer:  # servers refuse an empty turn
            messages.append({"role": "assistant", "content": step.answer})
        if step.feedback is None:
            continue
        if step.feedback.by in ("checks", "person") or state.plan.wording.scores:  # as a user's message
            messages.append(state.request("revise", step.criticism))
            continue
        criticism: Message = {"role": "assistant", "content": step.criticism}
        messages += [state.request("criticise"), criticism, state.request("revise")]
    return joined([*messages, *request])


# The criticism of a teacher. It is JSON if the engine supports schemas. In other replies, the score is the
# last `8/10` or `8 out of 10`, and the verdict is a phrase of `VERDICTS`. Cut JSON is read up to the cut.

MOST = 10  # the best score (reference/selfee.md)

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "feedback": {"type": "string"},
        "score": {"type": "integer", "minimum": 0, "maximum": MOST},
        "revision_needed": {"type": "boolean"},
    },
    "required": ["feedback", "score", "revision_needed"],
    "additionalProperties": False,
}
IN_JSON = demand_of_schema(SCHEMA)
IN_WORDS = (
    f"Then give the answer a score from 0 to {MOST}, written as 7/{MOST}. End with the words "
    f"'{VERDICTS[0]}.' if it should be corrected, or with the words '{VERDICTS[1]}.' if it can stay as it is."
)
AGAIN = f"Decide now. Say '{VERDICTS[0]}.' or '{VERDICTS[1]}.', and nothing else."
"""The request for a verdict if a criticism has no verdict."""

AGAIN_TOKENS = 32  # the most tokens of the reply to `AGAIN`

_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|\Z)[^.!?\n]*)*[.!?]?\s*")
_JSON = re.compile(r"\s*(?:```\w*\s*)?\{\s*(?:\"|\Z)")  # the beginning of an object in JSON


@dataclass(frozen=True)
class Critique:
    """A criticism with its verdict, and a score from 0 to 10 if the critic gave a score."""

    text: str
    verdict: Verdict
    score: float | None = None


def read_critique(reply: str, accept_score: float | None) -> Critique:
    """Read a JSON or text reply. If set, `accept_score` is the lowest score that accepts the answer."""
    found, verdict = _of_json(reply), verdict_of(reply)
    if found is None:
        broken = verdict == "unknown" and _JSON.match(reply)
        found = Critique("", verdict) if broken else Critique(reply, verdict, score_of(reply))
    verdict = found.verdict
    if accept_score is not None and (found.score is not None or verdict == "accept"):
        verdict = "unknown" if found.score is None else "accept" if found.score >= accept_score else "revise"
    return Critique(saying(found.text, verdict), verdict, found.score)


def saying(text: str, verdict: Verdict) -> str:
    """Make a criticism state `verdict`. Drop sentences with the opposite verdict, and add a phrase."""
    if verdict == "unknown" or verdict_of(text) == verdict:
        return text
    agrees = ("unknown", verdict)
    text = _SENTENCE.sub(lambda found: found[0] if verdict_of(found[0]) in agrees else "", text).rstrip()
    phrase = f"{VERDICTS[verdict == 'accept']}."
    said = f"{text} {phrase}".strip()
    return said if verdict_of(said) == verdict else f"{text}. {phrase}"  # such as a text that ends with "no"


def _of_json(reply: str) -> Critique | None:
    try:
        value, _ = read_json(reply)
    except NotJson:
        # JSON with a final brace was not cut, but is broken: an inner quotation mark may seem to end a text.
        value = json_so_far(reply) if _JSON.match(reply) and not reply.rstrip().endswith("}") else None
    if not isinstance(value, dict) or not isinstance(value.get("feedback"), str):
        return None
    needed, score = value.get("revision_needed"), value.get("score")
    text = chain.whole(value["feedback"].strip())
    known = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= MOST
    verdict = verdict_of(text) if not isinstance(needed, bool) else "revise" if needed else "accept"
    return Critique(text, verdict, score if known else None)

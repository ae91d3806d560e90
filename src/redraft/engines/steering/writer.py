"""Write a text that follows a form: sample, cut back, remove words, and continue.

The model samples freely. A text ends with a sentence or list item, before a limit is exceeded. A forbidden
word is removed, and the word's first token is banned at that position. A required text is made likelier until
the model writes the text. Each missing text gets a further sentence at the end, or they share one if there is
no room for more. Nothing is forced letter by letter, so words stay whole. A grammar restricts the characters.

Text that may still be removed is held back, so a steered text streams sentence by sentence.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from statistics import fmean
from typing import Any, Literal, NamedTuple

from redraft.chain import Finish
from redraft.engines.base import Delta, Likeliest, Replies, Sampling, Tokens
from redraft.engines.bounds import is_open, unwritten, within
from redraft.engines.steering.draft import CLOSERS, RUN, STOPS, STRING, Draft, closed, cut_texts, marked
from redraft.engines.steering.form import NOT_IN_JSON, Form
from redraft.engines.steering.gap import SHORT, begun, filling
from redraft.engines.steering.phrase import ENDS, pattern_for
from redraft.errors import ContextError

CLOSE = 0.75  # share of the tokens after which a text ends with the current sentence
TRIES = 3  # maximum tries to write a sentence, to continue, or to insert a required text
LIKELY = 0.1  # a sentence, or a text cut by a bound, may end where an end has this probability
POSSIBLE = 0.01  # a sentence does not end where an end is less likely
LOOKED_AT = 8  # number of places to try as the end of a sentence
SEEN = 20  # number of likeliest tokens to request at a place
LIKELIER = 3.0  # added to the logit of a required text's first token; more in further sentences
GOOD = 0, True, -1.3  # quality (see `_quality`) above which a text is accepted at once
FEW = 32  # a text with at most this many tokens is written again if it is unlikely
SENTENCE = 24  # tokens that are reserved for a sentence with a required text
VALUE = 5  # tokens that are reserved for each required value of JSON after a text
LOOPS = 16  # tokens between two tests whether a JSON string repeats a phrase; a test takes 0.1 ms
STUB = 3  # a sentence with at most this many words besides the required texts says nothing
BANNED = 40  # maximum number of words whose tokens are banned; others are removed once written
LONG = 200  # maximum length of a phrase, in characters

Deltas = asyncio.Queue[Delta | BaseException]


@dataclass(frozen=True)
class Source:
    """A source that continues an answer, such as a model with a prompt."""

    go_on: Callable[[str, Sampling], Replies]  # continues the given beginning of an answer
    encode: Callable[[str], Awaitable[Tokens]] | None  # returns token ids; if None, counts are estimates
    prompt_tokens: int


async def written(form: Form, sampling: Sampling, limit: Finish, source: Source) -> Replies:
    """Write and yield a text that follows `form`.

    The last delta also counts discarded tokens. The finish reason is `limit` if `Sampling.max_tokens` ended
    the text within a sentence. On cancellation, the `CancelledError` contains a delta with the counts and the
    text that was held back.
    """
    deltas: Deltas = asyncio.Queue()
    work = asyncio.create_task(_Writer(form, sampling, limit, source, deltas).run())
    with suppress(asyncio.CancelledError):
        try:
            while True:
                delta = await deltas.get()
                if isinstance(delta, BaseException):
                    raise delta
                yield delta
                if delta.finish:
                    return
        finally:
            work.cancel()
            await asyncio.wait([work])
    found = [deltas.get_nowait() for _ in range(deltas.qsize())]
    *_, last = left = [Delta(), *(each for each in found if isinstance(each, Delta))]
    raise asyncio.CancelledError(replace(last, text="".join(each.text for each in left)))


def _chance(chars: str, top: Likeliest) -> float:
    return sum(math.exp(number) for token, number in top if token and str(token)[0] in chars)


class _Ended(NamedTuple):
    by: Literal["model", "mark", "forbidden", "limit"]
    place: int
    stop_text: str | None = None


class _Writer:
    def __init__(self, form: Form, sampling: Sampling, limit: Finish, source: Source, deltas: Deltas) -> None:
        self.form, self.source, self.limit, self.deltas = form, source, limit, deltas
        characters = form.characters if form.characters != Form() else None
        # A server must observe the token limit of each request.
        self.sampling = replace(sampling, form=characters, schema=None, unset=sampling.unset - {"max_tokens"})
        self.schema = sampling.schema
        self.room, self.spent, self.calls, self.cached = sampling.max_tokens, 0, 0, 0
        self.kept = min(self.room // 8, LOOKED_AT) * (4 if form.postscript else 1)  # tokens left for an end
        self.draft = Draft(self._hand_on, self._encode, form.in_case)
        self.lacks = [pattern_for(text.strip()) for text in form.lacks]
        closing = form.closing.strip()
        self.closings = [pattern_for(text) for text in (form.postscript.strip(), closing) if text]
        self.ends_sentence = closing[:1].islower() or bool(closing and not closing.rstrip(STOPS))
        self.banned: frozenset[int] = frozenset()
        self.begins: dict[int, str] = {}  # required texts, by their first tokens
        self.likelier = LIKELIER
        self.placed: list[str] = []  # required texts of the sentence that is being added
        self.stop_text: str | None = None
        self.over: Delta | None = None  # a delta that forbids further text, such as a filter's
        told = form.limits or form.has
        self.compares = bool(told and sampling.temperature) and not (form.one or form.gap)
        self.cut_short = False  # the text ends because the tokens ran out
        self.to_come = ""  # placeholder text for the parts still to write
        self.encoded: dict[str, Tokens] = {}
        self.held = self.unsteered = self.thought = False  # held: no text is sent yet

    async def run(self) -> None:
        try:
            gap, forbidden = self.form.gap, partial(self._forbidden, old=0)
            found = await filling(gap, self._likeliest, self._encode, forbidden) if gap else []
            self.draft.give("".join(found[:1]))
            if not found:
                self.banned = await self._bans()
                firsts = [(await self._encode(f" {text}"))[:1] for text in ("", "?", *self.form.has)]
                pairs = zip(firsts[2:], self.form.has, strict=True)
                self.begins = {first[0]: text for first, text in pairs if first not in ((), *firsts[:2])}
                await (self._best_text() if self.schema is None else self._json())
            await self.draft.release(len(self.draft))
            finish = self.limit if self.cut_short and not self.form.closing else "stop"
            end = self.over or Delta(finish=finish)
            last = replace(self._counts(), stop_text=self.stop_text, unsteered=self.unsteered)
            self.deltas.put_nowait(replace(last, finish=end.finish, aside=end.aside, others=tuple(found[1:])))
        except BaseException as error:  # noqa: BLE001  (it is raised where the deltas are read)
            await self.draft.release(len(self.draft))
            self.deltas.put_nowait(self._counts())
            self.deltas.put_nowait(error)

    def _hand_on(self, delta: Delta) -> None:
        self.deltas.put_nowait(delta if self.sampling.logprobs else replace(delta, logprobs=(), likeliest=()))

    def _counts(self) -> Delta:
        return Delta(
            prompt_tokens=self.source.prompt_tokens,
            cached_tokens=min(self.cached, self.source.prompt_tokens),  # the draft's tokens may be cached too
            completion_tokens=self.spent,
            estimated=self.source.encode is None,
        )

    async def _best_text(self) -> None:
        draft, found = self.draft, list[tuple[tuple[int, bool, float], bool, list[Delta]]]()
        for _ in range(TRIES):
            draft.cut(0)
            self.cut_short, before, self.held = False, self.spent, bool(found)  # the first one streams
            await self._text()
            found.append((self._quality(self.form.has, 0), self.cut_short, draft.pieces))
            few = self.spent - before <= min(FEW, (self.room - self.spent) // 2)
            settled = draft.sent or self.over or self.stop_text or found[-1][0] > GOOD
            if settled or not (few and self.compares):
                break
        _, self.cut_short, pieces = max(found, key=itemgetter(0))
        if pieces is not draft.pieces:
            draft.put(0, pieces)

    def _quality(self, texts: Sequence[str], begin: int) -> tuple[int, bool, float]:
        missing, whole = self._missing(), self.draft.is_answer and self._fits(self.draft.text, enough=True)
        pieces = self.draft.pieces[begin:]
        chances = [each for piece in pieces for each in piece.logprobs] or [0.0 if pieces else -math.inf]
        return -sum(text in missing for text in texts), whole, fmean(chances)

    async def _text(self) -> None:
        form, draft = self.form, self.draft
        if form.one:
            self.cut_short = not await self._sentence() or self.cut_short
            return
        draft.give('"' * form.quoted)
        if form.layout.title:
            draft.give("<<")
            title = re.split(r">>|[.!?](?=\s|\Z)", await self._words("\n", 12))[0].strip(' "*#')
            draft.give(" ".join(title.split()[:10]) + ">>\n\n")
        draft.give(form.opening + "\n" * bool(form.opening and form.layout.mark))
        if form.layout.parts:
            await self._parts()
        elif self._left(f"{draft.text} This is one.") >= 0 or not self._missing():
            await self._free(len(draft))
        else:
            await self._put_missing()
            if self._is_low(draft.text):
                await self._free(len(draft))
        await self._complete()
        draft.give('"' * form.quoted)

    async def _json(self) -> None:
        draft, place, free, rest, cut = self.draft, None, is_open(self.schema), None, False
        for left in reversed(range(TRIES)):
            draft.cut(0)
            most = max(self.room - self.spent - SENTENCE * len(self._missing()), self.room // 3)
            asked, old = self._request(most, schema=self.schema, likelier=()), 0
            bounded = json.dumps(within(self.schema or {}, asked.max_tokens), ensure_ascii=False)
            async with aclosing(self._more(asked)) as deltas:
                async for delta in deltas:
                    place = self._forbidden(draft.text, old, whole=bool(delta.finish))
                    old, self.stop_text = len(draft), delta.stop_text
                    run = free and RUN.search(draft.text)
                    rest = None if free else unwritten(draft.text, self.schema or {})
                    late = bool(rest) and self.room - self.spent <= VALUE * len(rest or ())
                    late |= rest is not None and not self.spent % LOOPS and draft.unlooped < len(draft)
                    self.cut_short = bool(run) or late or delta.finish in ("max_tokens", "context")
                    if run or late or (place is not None and left):
                        break
                    if not (self.form.lacks or self.form.has):
                        last = draft.text.rfind(",") if free else len(draft)
                        await draft.release(min(cut_texts(draft.text, bounded)[1], last))
            if place is None or self._is_over:
                break
            self.banned |= draft.token_at(place)
        if self.cut_short and free:
            ended = self._back_in_string()
            if end := closed(draft.text, draft.sent):
                draft.put(end[0], [Delta(text=end[1])])
                self.cut_short, cut = False, end[1][:1] == '"' and not (run or ended)
        if self.cut_short and rest is not None:
            cut = await self._complete_json([*rest.items()])
        if not (self.over or self.cut_short or self.stop_text):
            cut = await self._end_texts(bounded) or cut
            await self._add_to_json()
        self.cut_short = self.cut_short or cut

    def _back_in_string(self) -> bool:
        return self._back((self.draft.open_string + len(self.draft)) // 2)

    async def _complete_json(self, rest: list[tuple[str, Any]]) -> bool:
        draft, begin = self.draft, self.draft.open_string + 2
        draft.cut(draft.unlooped)
        ended, place = self._back_in_string(), draft.text.rfind(" ", begin)
        if place > 0 and not ended:
            draft.cut(place)
        end = len(draft)
        draft.give('"')
        while rest:
            share, (name, schema) = max((self.room - self.spent) // len(rest), 1), rest.pop(0)
            draft.give(f",{json.dumps(name)}:")
            async for _ in self._more(self._request(share, schema=schema, begun=draft.text, likelier=())):
                pass
            if unwritten(draft.text, self.schema or {}) is None:  # the value is whole
                draft.cut(len(re.sub(r"\s*[,}\]]?\s*\Z", "", draft.text)))
            else:
                draft.give('"')
        draft.give("}")
        try:
            self.cut_short = not json.loads(draft.text)
        except ValueError:
            draft.cut(end)
        return not ended

    async def _end_texts(self, bounded: str) -> bool:
        draft, cut = self.draft, False
        for begin, end, prose in reversed(cut_texts(draft.text, bounded)[0]):
            said, rest, half = draft.text[: end - 1], draft.text[end - 1 :], (begin + end) // 2
            chance = _chance(STOPS + '"', await self._likeliest(said))
            if chance >= (LIKELY if prose else POSSIBLE) and not (prose and said[-1] in " ,"):
                continue  # after a space, the mark of a quotation may have ended the string
            if len(said) < draft.sent or (self._is_over and not prose):
                cut = cut or prose
                continue
            draft.cut(len(said))
            cut = (not self._back(half) and not await self._closed(half, -1) and prose) or cut
            draft.add(Delta(text=rest))
        return cut

    async def _add_to_json(self) -> None:
        draft = self.draft
        ends = [found.end() - 1 for found in STRING.finditer(draft.text) if not found[1]]
        if self._is_over or not (ends and self._missing()):
            return
        rest = draft.text[ends[-1] :]
        draft.cut(ends[-1])
        draft.give(self._dot * draft.text[-1].isalnum())
        await draft.release(len(draft))
        self.sampling = replace(self.sampling, form=Form(without=NOT_IN_JSON))
        await self._put_missing()
        draft.give(rest)
        self.cut_short = False

    # Asking the model

    async def _encode(self, text: str) -> Tokens:
        if self.source.encode and text not in self.encoded:
            self.encoded[text] = await self.source.encode(text)
        return self.encoded.get(text, ())

    def _request(self, tokens: float = math.inf, **changes: Any) -> Sampling:
        seed = None if self.sampling.seed is None else self.sampling.seed + 7919 * self.calls
        self.calls, most = self.calls + 1, int(min(tokens, max(self.room - self.spent, 1)))
        missing = self._missing()
        wanted = [text for text in missing if text in self.placed] if self.placed else missing
        likelier = tuple((token, self.likelier) for token, text in self.begins.items() if text in wanted)
        own = {"seed": seed, "max_tokens": most, "banned": self.banned, "likelier": likelier}
        scored = self.sampling.logprobs or self.compares or bool(self.placed)
        return replace(self.sampling, **(own | {"logprobs": scored} | changes))

    async def _more(self, sampling: Sampling) -> Replies:
        before, first = self.spent, self.calls == 1
        async with aclosing(self._replies(self.draft.text, sampling)) as deltas:
            async for delta in deltas:
                self.draft.add(delta)
                self.unsteered = self.unsteered or delta.unsteered
                self.thought = self.thought or bool(delta.thought)
                self.spent += len(delta.tokens) or bool(delta.text)
                if delta.finish:
                    self.spent = before + (delta.completion_tokens or self.spent - before)
                    self.cached = (delta.cached_tokens or 0) if first else self.cached
                    self.over = delta if delta.finish not in ("stop", "max_tokens", "context") else None
                yield delta

    async def _replies(self, text: str, sampling: Sampling) -> Replies:
        try:
            async with aclosing(self.source.go_on(text, sampling)) as deltas:
                async for delta in deltas:
                    yield delta
        except ContextError:
            if not text:
                raise
            self.spent = self.room

    @property
    def _is_over(self) -> bool:
        return self.spent >= self.room or self.over is not None

    async def _one(self, **changes: Any) -> None:
        async for _ in self._more(self._request(1, likelier=(), **changes)):
            pass

    async def _likeliest(self, text: str) -> Likeliest:
        if self._is_over:
            return ()
        seen = SEEN * (20 if self.form.gap and self.source.encode else 1)  # a server may refuse more
        asked = self._request(1, logprobs=True, top_logprobs=seen, form=None, banned=frozenset(), likelier=())
        async with aclosing(self._replies(text, asked)) as deltas:
            found = [delta async for delta in deltas]
        self.spent += 1
        if self.calls == 1:
            self.cached = max((delta.cached_tokens or 0 for delta in found), default=0)
        return next((top for delta in found for top in delta.likeliest), ())

    async def _stretch(self, begin: int, mark: str, until: int, at_most: int) -> _Ended:
        """Continue until the model ends the text, exceeds a limit, repeats itself or writes a forbidden text.

        A required text is inserted where its first token appears. Also stop after a sentence once `until`
        tokens are spent. If `mark` is given, also stop at `mark`, and once `at_most` tokens are spent.
        """
        draft, old = self.draft, len(self.draft)
        if self._is_over:
            return _Ended("limit", len(draft))
        sampling = self._request(max(self.room - self.spent - self.kept, 1))
        async with aclosing(self._more(sampling)) as deltas:
            async for delta in deltas:
                if delta.tokens and delta.tokens[0] in dict(sampling.likelier):
                    break
                whole = delta.finish == "stop"
                if ended := self._ended(begin, old, mark, whole=whole):
                    return ended
                old = len(draft)
                if delta.finish:
                    return _Ended("model" if whole else "limit", len(draft), delta.stop_text)
                if not delta.text or not (delta.text[0].isspace() or delta.text[-1].isspace()):
                    continue
                at = max(begin, draft.sent)  # the end of a sentence, or the beginning
                last = max(draft.ends(at), default=at if at > begin else 0)
                late = last and self.spent > until and (mark or not self._is_low(draft.text[:last]))
                if late or (mark and not self.form.one and self.spent > at_most):
                    return _Ended("limit", len(draft))
                held = self.held or self.ends_sentence or self.form.layout.slots or self._missing()
                anew = self.compares and self.spent <= FEW  # a short text may be written again
                if not (held or anew) and last > draft.sent and self._fits(draft.text[:last]):
                    await draft.release(last)
            else:
                return _Ended("limit", len(draft))
        draft.cut(old)
        draft.give_word(self.begins[delta.tokens[0]])
        return await self._stretch(begin, mark, until, at_most)

    def _ended(self, begin: int, old: int, mark: str, *, whole: bool) -> _Ended | None:
        draft, text = self.draft, self.draft.text
        if (word := self._forbidden(text, old, whole=whole)) is not None:
            return _Ended("forbidden", word)
        if mark and (place := text.find(mark, max(begin, old - len(mark)))) >= 0:
            return _Ended("mark", place)
        for found in filter(None, (each.search(text, max(begin, old - LONG)) for each in self.closings)):
            said = text[begin : found.start()].rstrip(' \n"“(')
            if said and begin + len(said) in draft.ends(begin):
                return _Ended("model", begin + len(said))
            if self.form.postscript or not said:
                return _Ended("forbidden", len(text[: found.start()].rstrip(" ")))
        if (whole or not text[old:].isalnum()) and (again := draft.repeats(begin, whole=whole)) is not None:
            return _Ended("model" if again in draft.ends(begin) else "limit", again)
        return _Ended("limit", len(text)) if self._left(text) < 0 else None

    # Forbidden texts

    async def _bans(self) -> frozenset[int]:
        words = [text.strip() for text in self.form.lacks if len(text.split()) == 1][:BANNED]
        cases = sorted({case for word in words for case in (word.lower(), word.capitalize(), word.upper())})
        bare = (case for case in cases if len(case) > SHORT or case[0].isupper())
        found = await asyncio.gather(*map(self._encode, [*(f" {case}" for case in cases), *bare]))
        return frozenset(tokens[0] for tokens in found if len(tokens) == 1)

    def _forbidden(self, text: str, old: int, *, whole: bool = True) -> int | None:
        """Return the start of a forbidden phrase's last word, or None.

        The first `old` characters were already searched. If the text is not `whole`, a phrase at the end does
        not count, because the last word may still grow.
        """
        said = text.replace("’", "'") if self.lacks else ""
        for pattern in self.lacks:
            for found in pattern.finditer(said, max(0, old - LONG)):
                if found.end() > self.draft.sent and (found.end() < len(said) or whole):
                    place = found.end() - len(found[0].split()[-1])
                    return place - (said[place - 1 : place] == " ")
        return None

    async def _without(self, place: int) -> None:
        token, word = self.draft.token_at(place), self.draft.text[place:].split()[0].lower()
        self.draft.cut(place)
        if token and not self._is_over:
            return await self._one(banned=self.banned | token)
        top = [str(text) for text, _ in await self._likeliest(self.draft.text)]
        other = (text for text in top if text.strip() and not word.startswith(text.strip().lower()))
        return self.draft.give(next((text for text in other if self._fits(self.draft.text + text)), ""))

    # Limits

    def _tail(self, text: str) -> str:
        form = self.form
        texts = self._missing(text)
        missing = "".join(f" see {each} again" for each in texts)
        if not {*texts} <= {*self.placed}:
            missing = f" And here we will{missing}."
        postscript = f"\n\n{form.postscript} And here is one more word." if form.postscript else ""
        return self.to_come + missing + postscript + (f" {form.closing}" if form.closing else "")

    def _left(self, text: str) -> float:
        return self.form.left(text + self._tail(text))

    def _is_low(self, text: str) -> bool:
        return self.form.is_low(text + self._tail(text))

    def _fits(self, text: str, *, enough: bool = False) -> bool:
        allowed = self._left(text) >= 0 and self._forbidden(text, len(text)) is None
        return allowed and not (enough and self._is_low(text))

    async def _free(self, begin: int, mark: str = "", most: int | None = None) -> None:
        taken = longer = again = 0
        if most is None:
            most = max(int(self.room * CLOSE) - SENTENCE * len(self._missing()), self.room // 3) - self.spent
        while True:
            until = self.spent + most
            ended = await self._stretch(begin, mark, until, until + min(most or SENTENCE, SENTENCE))
            over = self._is_over or self.spent >= self.room - self.kept
            if ended.by == "forbidden" and taken < 4 * TRIES * max(len(self.lacks), 1):
                taken += 1
                await self._without(ended.place)
            elif ended.by in ("mark", "model"):
                self.stop_text, self.cut_short = ended.stop_text, False
                self.draft.cut(max(begin, len(self.draft.text[: ended.place].rstrip())))
                own = ended.place == len(self.draft) and re.search(r"\w", self.draft.text[begin:])
                ready = (own or self.draft.is_whole or longer) and not self._is_low(self.draft.text)
                thought = self.thought and not self.draft.text.strip()  # only thoughts
                if over or mark or ready or thought or ended.stop_text or longer == 4 * TRIES:
                    return
                longer += 1
                await self._one(unending=True)
            else:
                least = POSSIBLE / 10 if over else POSSIBLE if again < TRIES else -1
                self.cut_short = False
                self.draft.cut(max(begin, ended.place))
                if self._back(begin, enough=not mark) or await self._closed(begin, least, enough=not mark):
                    return
                one = bool(self.form.further[2]) and await self._closed(self.draft.last, least)
                found = one or self._back(begin) or (over and await self._closed(begin, least))
                over = over or self.spent >= self.room - self.kept  # the search for an end takes tokens, too
                if over or (again == TRIES and not one):
                    self.cut_short = over and not self.draft.is_whole
                    return
                if not found:
                    self.draft.cut(max(begin, self.draft.sent))
                again = 0 if one else again + 1

    @property
    def _dot(self) -> str:
        return "." * ("." not in self.form.without)

    def _back(self, begin: int, *, enough: bool = False) -> bool:
        text = self.draft.text
        for place in reversed(self.draft.ends(begin, whole=True)):
            if place >= self.draft.sent and self._fits(text[:place], enough=enough):
                self.draft.cut(place)
                return True
        return False

    async def _closed(self, begin: int, least: float, closing: str = "", *, enough: bool = False) -> bool:
        """End the text at the last place where the model is likely to stop (or to write `closing`).

        If no place is likely, take the likeliest. Return False, and change nothing, if no place fits the form
        and is likelier than `least`. With `enough`, the remaining text must reach the form's lower limits.
        """
        text, start, best, end = self.draft.text, max(begin, self.draft.sent), 0, self._dot
        places = [found.start() for found in re.finditer(r"(?<=\w)[ ,;:]", text)]
        places += [len(text.rstrip(STOPS))] * bool(closing)
        fits = partial(self._fits, enough=enough)
        fitting = [each for each in places if each > start and fits(text[:each] + self._dot)]
        fitting = [place for place in fitting if not closing or not self._missing(text[:place])]
        for place in reversed(fitting[-LOOKED_AT * (1 + bool(closing)) :]):
            if self.spent >= self.room:
                break
            top = await self._likeliest(text[:place])
            stop, mark = _chance(STOPS, top), 0.0 if self.schema is None else _chance('"', top)
            chance = math.exp(await begun(f" {closing}", top, self._encode)) if closing else stop + mark
            if chance > least:
                best, least, end = place, chance, self._dot * (stop >= mark and not closing)
            if chance > LIKELY:
                break
        if best:
            self.draft.cut(best)
            self.draft.give(end)
        return bool(best)

    # Given parts

    async def _words(self, mark: str, most: int) -> str:
        begin, held, self.held = len(self.draft), self.held, True
        await self._part(set(), self.banned, mark, most)
        self.held, said = held, self.draft.text[begin:]
        self.draft.cut(begin)
        return said

    async def _parts(self) -> None:
        layout, draft, said = self.form.layout, self.draft, set[str]()
        mark = "\n" if layout.between == "\n" else layout.between.strip() or "\n\n"
        for number in range(1, layout.parts + 1):
            start, rest, self.to_come = len(draft), layout.parts - number, ""
            part = f"{layout.between}{layout.mark.format(number)}One more word."
            if self._left(draft.text + part * (rest + 1)) >= 0:
                self.to_come = part * rest
            draft.give(layout.between * (number > 1) + layout.mark.format(number))
            draft.give(f"{layout.first[1].capitalize()} " * (layout.first[0] == number))
            left = int(self.room * (CLOSE if rest else 1)) - self.spent
            begin, most = len(draft), max(left // (rest + 1) - 8, 8)
            banned = self.banned
            if "{}" in layout.mark:  # models repeat the number
                again = [await self._encode(text) for text in (f"{number}", f" {number}")]
                banned |= {tokens[0] for tokens in again if tokens}
            how = (mark, most) if rest or not layout.more else ()
            if not await self._part(said, banned, *how, unending=number > 1):
                draft.cut(start)  # a mark without a part is removed
                self.cut_short, self.to_come = self._is_over, ""
                return
            said.add(draft.text[begin:].strip())

    async def _part(self, said: Set[str], banned: frozenset[int], *how: Any, unending: bool = True) -> bool:
        """Write a part that contains a word and is not in `said`. Each try begins with a different token.

        `how` gives the text that ends a part, and a token limit. Return False if all tries fail.
        """
        begin = len(self.draft)
        for _ in range(TRIES):
            if self._is_over:
                break
            await self._one(unending=unending, banned=banned)
            banned |= self.draft.token_at(begin)
            if 0 not in how or self.draft.text[begin:].strip():  # a sentence begins with a word
                await self._free(begin, *how)
            text = self.draft.text[begin:]
            new = text.strip() not in said or begin < self.draft.sent or self.spent > self.room // 2
            if new and re.search(r"\w", text):
                return True
            self.draft.cut(begin)
        return False

    async def _sentence(self) -> bool:
        if has := await self._part(set(), self.banned, "\n", 0):
            self._end_comma()
        return has

    # Required texts

    def _missing(self, text: str | None = None) -> list[str]:
        text = (self.draft.text if text is None else text).replace("’", "'")
        return [
            each
            for each in dict.fromkeys(self.form.has)
            for _ in range(self.form.has.count(each) - len(pattern_for(each, wanted=True).findall(text)))
        ]

    async def _complete(self) -> None:
        form, draft = self.form, self.draft
        if self.over or self.stop_text:
            return
        self._end_comma()
        may = draft.is_open and not form.closing and self._fits(f"{draft.text}.", enough=True)
        if may and self._dot and _chance(STOPS, await self._likeliest(draft.text)) > POSSIBLE:
            draft.give(".")
        lone = sum(map(draft.text.count, '"“”')) % 2 and not (form.quoted or form.layout.parts)
        if lone and self._fits(f'{draft.text}"', enough=True):
            draft.give('"')
        if (word := self._forbidden(draft.text, len(draft))) is not None:
            draft.cut(word)
        await self._put_missing()
        for slot in dict.fromkeys(form.layout.slots):
            await self._mark(slot, form.layout.slots.count(slot))
        if form.postscript:
            dot = "." * bool(re.search(r"\.\w\Z", form.postscript))
            draft.give(f"\n\n{form.postscript}{dot} ")
            self.kept //= 4
            await self._sentence()
            self.kept *= 4
        if form.closing and not pattern_for(form.closing.strip(), around=ENDS).search(draft.text):
            await self._close()

    def _end_comma(self) -> None:
        if self.draft.text.endswith((",", ";")) and self._dot:
            self.draft.cut(len(self.draft) - 1)
            self.draft.give(".")

    async def _close(self) -> None:
        draft, closing = self.draft, self.form.closing
        words, text = closing.rstrip(STOPS), draft.text.rstrip(STOPS)
        if words and text.endswith(words):
            draft.cut(len(text) - len(words))
            return draft.give(closing)
        if not words:  # punctuation, such as "?"
            draft.cut(len(text))
            return draft.give(closing)
        within = self.ends_sentence and await self._closed(draft.last, 0, closing, enough=True)
        if not within and self.ends_sentence and " " not in closing:
            draft.cut(len(text))
            within = True
        elif not within and self.cut_short:
            comma = max(map(draft.text.rfind, ",;:"))
            said = comma > max(draft.ends(0), default=0) and not self._missing(draft.text[:comma])
            draft.cut(comma if said else len(draft.text.rstrip()))
            draft.give("." * (not draft.is_whole))
        if not draft.text:
            return draft.give(closing)
        behind = draft.text.rstrip(CLOSERS)[-1:] in STOPS and not closing[:1].islower()
        apart = not within and not (behind and closing.rstrip()[-1:] in STOPS)
        return draft.give(f"\n\n{closing}" if apart and self._fits(f"{draft.text}\n\n") else f" {closing}")

    async def _put_missing(self) -> None:
        for _ in self._missing():
            text = self.draft.text
            if self._left(text) < 0 and self.room - self.spent > SENTENCE:  # remove the last sentence
                begin = max(self.draft.last, len(self.form.opening) + self.form.quoted)
                self.draft.cut(len(text[:begin].rstrip(" ")))
            if missing := self._missing():
                fits = self._left(f"{self.draft.text} And here we will see {missing[0]} again.") >= 0
                apart = fits and self.room - self.spent > SENTENCE * len(missing)
                await self._put(missing[:1] if apart else missing)

    async def _put(self, texts: list[str]) -> None:
        draft, found, self.placed = self.draft, list[tuple[tuple[int, bool, float], list[Delta]]](), texts
        apart = draft.text and not draft.is_whole and self.schema is None and self._fits(f"{draft.text}\n\n")
        draft.give("\n\n" * bool(apart))  # for example, after a heading
        begin, count = len(draft), len(draft.pieces)
        until = self.spent + (self.room - self.spent) // (1 + len({*self._missing()} - {*texts}))
        for _ in range(TRIES):
            draft.cut(begin)
            self.likelier, before = self.likelier + LIKELIER, self.spent
            await self._sentence()
            for number, text in enumerate(texts):
                if text in self._missing() and not self._is_over:
                    draft.cut(len(draft.text.rstrip(STOPS)) if number else begin)
                    draft.give_word(text)
                    await self._sentence()
            lost, whole, chance = self._quality(texts, count)
            whole = whole and len(draft.text[begin:].split()) > STUB + len(texts)
            found.append(((lost, whole, chance), draft.pieces[count:]))
            if 2 * self.spent - before > until or self.over or found[-1][0] > GOOD:  # no room for another try
                break
        draft.put(begin, max(found, key=itemgetter(0))[1])
        draft.cut(len(draft.text.rstrip(",;: ")))
        draft.give("." * (not draft.is_whole))
        self.placed, self.likelier = [], LIKELIER

    async def _mark(self, slot: str, count: int) -> None:
        draft = self.draft
        if slot == "[…]":
            for _ in range(count - len(re.findall(r"\[[^\n\]]*\]", draft.text))):
                draft.give("\n[")
                name = re.split(r"[^\w' -]", await self._words("]", 8))[0].strip()
                draft.give(f"{name or 'name'}]")
            return
        draft.put(0, [Delta(text=marked(draft.text, capitals=slot == "ABC", count=count))])

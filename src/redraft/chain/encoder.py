"""Turn chains into training examples: token ids, with a mask of the tokens that carry loss.

A text is tokenised as a whole, except where the prompt's tokens would then depend on the answer. There, the
text is split after the prompt, because at inference the prompt is tokenised before any answer exists. A token
carries loss if all characters of the token do.

A record that is too long is cut at the end, as in the trainers of SelFee, Alpaca and FastChat. The stop token
is dropped too, because the model must not learn to stop at the cut. If the prompt is long, up to half of the
length is reserved for the first turn with loss, and the longest user or system text is cut in the middle.

A `Vocabulary` is copied once from a transformers tokenizer, so that workers load transformers and torch only
to render chat templates. Control tokens typed by users must stay text, but the tokenizers library reads
either all control tokens or none. So each control token gets a second name, a mark: the token's id between
code points that no text may contain (U+FDD0 and U+FDD1). Formats write marks for control tokens.
"""

# ruff: noqa: A002  (`format` is an option)
from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, pairwise
from itertools import chain as flattened
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from redraft.chain import Chain, Prompt, Step, is_blank, meta_of, thoughts_of
from redraft.chain import whole as without_surrogates
from redraft.chain.chat import BREAK, ChatTemplate, Messages
from redraft.chain.loss_mask import WHOLE, Span, ending_in_answer, first_alone
from redraft.chain.read.records import RawRecord
from redraft.chain.selfee import feedback_heading
from redraft.chain.spans import check_parts, leaves_answers, spans_of
from redraft.chain.thoughts import together
from redraft.chain.write import NO_ANSWER, Unfit, to_preference
from redraft.errors import ModelError, RecordError, UsageError
from redraft.jobs.formats import Objective, TrainingFormat

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerBase


OPEN, CLOSE = "\ufdd0", "\ufdd1"
"""Noncharacters, which Unicode reserves for use inside programs."""


class Tokens(NamedTuple):
    """A text as tokens: ids, and the start and end of each token in characters, all of shape [n]."""

    ids: NDArray[np.uint32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer that can be pickled."""

    first: NDArray[np.uint32]  # ids that the tokenizer puts before every text, such as beginning-of-text
    stop: str  # the mark of the stop token
    marks: dict[str, str]  # maps the text of each control token to its mark
    template: ChatTemplate | None
    fingerprint: str  # a hash of everything that decides a text's ids
    _backend: Tokenizer
    _meant: NDArray[np.uint32]
    _control: NDArray[np.bool_]
    _lead: str
    _controls: re.Pattern[str]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Read a transformers tokenizer."""
        if (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
            lacks = "has no tokenizer.json, which training needs to match tokens to text"
            hint = (
                "Save a fast tokenizer into the folder: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
            )
            raise ModelError(f"{tokenizer.name_or_path}: its tokenizer {lacks}.", hint=hint)
        written = str(backend.to_str())
        added = tokenizer.added_tokens_decoder.items()
        controls = {token.content: (number, token) for number, token in added if token.special}
        stop = str(tokenizer.eos_token)
        marks = {text: f"{OPEN}{number}{CLOSE}" for text, (number, _) in controls.items()}
        if stop not in marks:
            why = f"eos_token is {tokenizer.eos_token!r:.60}, which is not a control token"
            message = f"the tokenizer's {why}. So a model would never learn to stop."
            hint = 'Set "eos_token" in tokenizer_config.json to a stop token'
            raise ModelError(message, hint=f"{hint}, and add the token to added_tokens in tokenizer.json.")
        backend = _backend(written, {marks[text]: token for text, (_, token) in controls.items()})
        meant = _meant(backend, {marks[text]: number for text, (number, _) in controls.items()})
        control = np.zeros(len(meant), np.bool_)
        unknown = tokenizer.unk_token_id  # any text may contain it
        control[[number for number, _ in controls.values() if number != unknown]] = True
        ids, alone = (list(tokenizer("a", add_special_tokens=each).input_ids) for each in (True, False))
        first = ids[: next((i for i in range(len(ids)) if ids[i : i + len(alone)] == alone), 0)]
        given = tokenizer.chat_template
        templates = given if isinstance(given, dict) else {"default": given}
        template = templates.get("default")
        with_tools = templates.get("tool_use", template)  # transformers' template for prompts with tools
        named = {name: str(text) for name, text in tokenizer.special_tokens_map.items()}
        decides = [written, first, template, with_tools, named]
        render = partial(_rendered, template=template or "", with_tools=with_tools or "", named=named)
        return cls(
            first=np.array(first, np.uint32),
            stop=marks[stop],
            marks=marks,
            template=None if template is None else ChatTemplate(render, tuple(marks)),
            fingerprint=hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest(),
            _backend=backend,
            _meant=meant,
            _control=control,
            _lead=_lead(backend, marks[stop]),
            _controls=ChatTemplate(render, tuple(marks)).found,
        )

    def encode(self, text: str, *, within: bool = False) -> Tokens:
        """Tokenise a text in which marks stand for the control tokens. No beginning-of-text token is added.

        If `within`, the text continues another text, so no space is added at the start.

        Raises:
            RecordError: The tokenizer finds a control token where the text has no mark.
        """
        lead = self._lead if within else ""
        self._backend.encode_special_tokens = True  # pickling drops this setting
        encoding = self._backend.encode(lead + text, add_special_tokens=False)
        ids = np.array(encoding.ids, np.int64)
        places = np.fromiter(flattened.from_iterable(encoding.offsets), np.int64, 2 * len(encoding))
        starts, ends = places.reshape(-1, 2).T
        if lead:
            own = ends > len(lead)
            ids = ids[own]
            starts, ends = (np.maximum(each[own] - len(lead), 0) for each in (starts, ends))
        if self._control[ids].any():
            raise RecordError("the tokenizer finds a control token in a text")
        meant = self._meant[ids]
        marked = meant != ids
        if marked.any():  # some control tokens absorb spaces, so the marks' own positions are used
            found = [mark.span() for mark in _MARK.finditer(text)]
            starts, ends = starts.copy(), ends.copy()
            starts[marked], ends[marked] = np.array(found, np.int64).T
        return Tokens(meant, starts, ends)

    def mark_controls(self, text: str) -> str:
        """Replace control tokens with marks. A token split by a `BREAK` (`chain.chat`) becomes plain text."""
        return self._controls.sub(lambda control: self.marks[control[0]], text).replace(BREAK, "")


def _rendered(
    messages: Messages,
    template: str,
    with_tools: str,
    named: dict[str, Any],
    *,
    tools: list[Any] | None = None,
    answer_follows: bool = False,
) -> str:
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered = render_jinja_template(
            [messages],
            tools=tools,
            chat_template=with_tools if tools else template,
            add_generation_prompt=answer_follows,
            **named,
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise RecordError(f"the model's chat template refuses the messages: {error!s:.80}") from None
    return str(rendered[0][0])


def _backend(written: str, marks: Mapping[str, AddedToken]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer

    backend = Tokenizer.from_str(written)
    backend.no_truncation()
    backend.no_padding()
    backend.post_processor = None  # the processor would leave spaces out of offsets
    added = partial(AddedToken, normalized=False, special=False)
    backend.add_tokens([added(mark, lstrip=each.lstrip, rstrip=each.rstrip) for mark, each in marks.items()])
    return backend


def _meant(backend: Tokenizer, marks: Mapping[str, int]) -> NDArray[np.uint32]:
    ids = {mark: backend.token_to_id(mark) for mark in marks}
    meant = np.arange(1 + max(*backend.get_vocab(with_added_tokens=True).values(), *marks.values()))
    for mark, number in marks.items():
        meant[ids[mark]] = number
    return meant.astype(np.uint32)


def _lead(backend: Tokenizer, mark: str) -> str:
    """Return a prefix that keeps SentencePiece from adding a space, or an empty text if not needed.

    A mark is such a prefix, except with older tokenizer files. With older files, a line break works, because
    a line break is a byte token and merges with no other token.
    """
    alone = backend.encode("a")
    if "".join(alone.tokens) == "a":
        return ""
    return "\n" if backend.encode(f"{mark}a").ids[1:] == alone.ids else mark


_MARK = re.compile(f"{OPEN}[0-9]+{CLOSE}")


SHORTEST = 16  # the smallest length limit, in tokens; also the fewest tokens of a shortened question

NO_ROOM = "the prompt leaves no room for an answer"


Place = tuple[int, int]  # start and end


class Cut(NamedTuple):
    """The number of tokens and answers that the length limit cut from an example."""

    tokens: int = 0
    prompt: int = 0  # tokens dropped from the prompt; the rest of `tokens` was dropped from the end
    lost: int = 0  # answers that were dropped as a whole
    broken: int = 0  # 1 if the example ends within an answer


@dataclass(frozen=True, eq=False)
class Example:
    """A chain as tokens."""

    ids: NDArray[np.uint32]  # token ids, shape [n]
    trained: NDArray[np.bool_]  # which tokens carry loss, shape [n]
    cut: Cut = field(default_factory=Cut)
    leaves: bool = False  # whether earlier answers carry no loss because of the format or the template
    unanswered: bool = False  # whether only feedback carries loss, because every answer was rejected or cut
    nested: bool = False  # whether feedback is inside the answer's text, where native mode does not find it
    plain: bool = False  # whether the text is in SelFee's format, but has no feedback
    revised: bool = False  # whether the first answer is followed by another, in SelFee's format


@dataclass(frozen=True)
class Skipped:
    """The reason why a chain yields no example."""

    reason: str


@dataclass(frozen=True, eq=False)
class Uncut:
    """An example that is not yet cut to the length limit. Positions are in tokens."""

    ids: NDArray[np.uint32]
    trained: NDArray[np.bool_]
    asked: Sequence[Place]  # positions of user and system texts before the model's first turn
    answers: Sequence[Place]
    turns: Sequence[int]

    @property
    def first(self) -> int:
        """The index of the first token with loss."""
        return int(np.argmax(self.trained[1:])) + 1  # token 0 is never predicted

    @property
    def learnt(self) -> int:
        """The number of tokens from `first` to the last token with loss in the same turn."""
        turn = next(end for end in self.turns if end > self.first)
        return int(np.flatnonzero(self.trained[self.first : turn])[-1]) + 1

    def fitted(self, limit: int, learnt: int | None = None) -> Example | Skipped:
        """Return the example, cut to `limit` tokens.

        First, the prompt's longest text is cut to make room for `learnt` tokens from `first` on, then the end
        of the example is cut. `learnt` is `self.learnt` by default, and counts up to `limit // 2`.
        """
        if not self.trained[1:].any():
            return Skipped("there is no token to train on")
        over = max(0, self.first + min(self.learnt if learnt is None else learnt, limit // 2) - limit)
        size = len(self.ids)
        if not over and size <= limit:
            return Example(self.ids, self.trained)
        kept = np.arange(size)
        if over:
            start, end = max(self.asked, key=lambda place: place[1] - place[0], default=(0, 0))
            if end - start - over < SHORTEST:
                return Skipped(NO_ROOM)
            middle = start + (end - start - over) // 2
            kept = np.r_[0:middle, middle + over : size]
        kept, last = kept[:limit], limit + over  # the new end, in tokens of the uncut text
        lost = sum(last <= start < end for start, end in self.answers)
        broken = sum(start < last < end for start, end in self.answers)
        return Example(self.ids[kept], self.trained[kept], Cut(size - len(kept), over, lost, broken))


class Encoder:
    """Turn chains into examples, deterministically."""

    wanted = (
        "Choose a --format and a --training_objective that fit the data. A record with an answer is "
        '{"instruction": "…", "output": "…"}.'
    )

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        format: TrainingFormat = "selfee",
        objective: Objective = "accepted",
        max_length: int = 2048,
        *,
        first: bool = False,
    ) -> None:
        """Read the tokenizer. With `first`, only answer 0 is trained on, even if rejected."""
        check_parts(format, objective)
        if max_length < SHORTEST:
            raise UsageError(f"--model_max_length {max_length} is too short: it must be at least {SHORTEST}.")
        self.vocabulary = Vocabulary.of(tokenizer)
        self.format: TrainingFormat = format
        self.objective: Objective = objective
        self.max_length, self.first = max_length, first
        if format == "chat":  # raise before any record is read, if the template is unusable
            probe = Chain(prompt=Prompt(instruction="a"), steps=(Step(answer="b"),))
            spans_of(probe, "chat", "answer", self.vocabulary.template)

    @property
    def fingerprint(self) -> str:
        """A hash of all settings that affect the examples. The code is not hashed."""
        parts = [self.vocabulary.fingerprint, self.format, self.objective, self.max_length, self.first]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def chains(self, record: RawRecord) -> Iterable[Chain]:
        """Return the chains of a record."""
        return (record.chain(),)

    def encode(self, chain: Chain) -> Example | Skipped:
        """Return a chain's example, or the reason why the chain is skipped."""
        try:
            chain = ending_in_answer(first_alone(chain) if self.first else chain)
            spans = spans_of(chain, self.format, self.objective, self.vocabulary.template)
            found = self.uncut(spans).fitted(self.max_length)
            if isinstance(found, Skipped):
                return found
            unanswered = self.objective in WHOLE and not any(span.answer and span.trained for span in spans)
            leaves = leaves_answers(chain, self.format, self.objective, spans)
            judged = any(span.text == feedback_heading(1) for span in spans)
            nested = judged and self.format != "selfee"
            plain = not judged and self.format == "selfee" and self.objective != "answer"
            found = replace(found, leaves=leaves, unanswered=unanswered, nested=nested, plain=plain)
            return replace(found, revised=judged and self.format == "selfee" and len(chain.steps) > 1)
        except RecordError as error:
            return Skipped(error.message)

    def uncut(self, spans: Sequence[Span]) -> Uncut:
        """Return rendered spans as tokens, without a length limit."""
        text, places, borders = _placed(spans, self.vocabulary)
        tokens, first = self._tokens(text, borders), self.vocabulary.first
        if np.array_equal(tokens.ids[: len(first)], first):  # a chat template wrote these tokens
            first = first[:0]
        trained = np.zeros(len(tokens.ids), np.bool_)
        for start, end in _joined((start, end) for span, start, end in places if span.trained):
            trained[slice(*_inside(tokens, start, end))] = True

        def moved(of: Iterable[Place]) -> list[Place]:
            return [(len(first) + a, len(first) + b) for a, b in (_inside(tokens, *each) for each in of)]

        before = borders[0] if borders else 0
        asked = ((a, b) for span, a, b in places if span.given and not span.control and b <= before)
        turns = [start for (last, _, _), (span, start, _) in pairwise(places) if span.given > last.given]
        return Uncut(
            np.concatenate([first, tokens.ids]),
            np.concatenate([first < 0, trained]),
            asked=moved(asked),
            answers=moved((start, end) for span, start, end in places if span.answer and not span.given),
            turns=[end for _, end in moved((0, end) for end in (*turns, len(text)))],
        )

    def _tokens(self, text: str, borders: Sequence[int]) -> Tokens:
        whole = self.vocabulary.encode(text)
        if not (cuts := [border for border in borders if not self._clean(text, border, whole)]):
            return whole
        encode, parts = self.vocabulary.encode, pairwise([0, *cuts, len(text)])
        pieces = [(start, encode(text[start:end], within=start > 0)) for start, end in parts]
        return Tokens(
            np.concatenate([piece.ids for _, piece in pieces]),
            np.concatenate([piece.starts + start for start, piece in pieces]),
            np.concatenate([piece.ends + start for start, piece in pieces]),
        )

    def _clean(self, text: str, border: int, whole: Tokens) -> bool:
        start = max(text.rfind(OPEN, 0, border), 0)
        first, end = np.searchsorted(whole.starts, (start, border))
        if end and whole.ends[end - 1] > border:
            return False
        return np.array_equal(self.vocabulary.encode(text[start:border]).ids, whole.ids[first:end])


LONGEST = 1 << 20  # maximum characters of a text: tokenising needs hundreds of bytes for each token


def _placed(
    spans: Sequence[Span], vocabulary: Vocabulary
) -> tuple[str, list[tuple[Span, int, int]], list[int]]:
    texts = [_text_of(span, vocabulary) for span in spans]
    ends = list(accumulate(map(len, texts)))
    if ends[-1] > LONGEST:
        raise RecordError(f"the text has over {LONGEST:,} characters")
    places = [(span, end - len(text), end) for span, text, end in zip(spans, texts, ends, strict=True)]
    borders = [start for (before, _, _), (span, start, _) in pairwise(places) if before.given > span.given]
    return "".join(texts), places, borders


def _text_of(span: Span, vocabulary: Vocabulary) -> str:
    if span.stop:
        return vocabulary.stop
    if span.control:
        return without_surrogates(vocabulary.mark_controls(span.text))
    if OPEN in span.text:
        raise RecordError(f"a text has U+{ord(OPEN):04X}, which is not a character")
    return without_surrogates(span.text)  # JSON allows surrogates, but tokenizers do not


def _joined(places: Iterable[Place]) -> list[Place]:
    joined: list[Place] = []
    for start, end in places:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _inside(tokens: Tokens, start: int, end: int) -> Place:
    first = int(np.searchsorted(tokens.starts, start))
    return first, max(first, int(np.searchsorted(tokens.ends, end, "right")))


class PromptEncoder(Encoder):
    """Turn chains into the tokens of the prompts, without answers."""

    wanted = 'A record is {"instruction": "…"}, or a conversation.'

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, format: TrainingFormat, max_length: int, room: int
    ) -> None:
        """Read the tokenizer. A prompt may have at most `max_length - room` tokens."""
        super().__init__(tokenizer, format, "answer", max_length)
        self._most = max_length - room

    @property
    def fingerprint(self) -> str:
        """A hash of all settings that affect the prompts. The code is not hashed."""
        return hashlib.sha256(f"prompts {super().fingerprint} {self._most}".encode()).hexdigest()

    def encode(self, chain: Chain) -> Example | Skipped:
        """Return the tokens of a chain's prompt, or the reason why the chain is skipped."""
        vocabulary = self.vocabulary
        try:
            spans = spans_of(_answered(chain, "a"), self.format, "answer", vocabulary.template)
            text, _, borders = _placed(spans, vocabulary)
            ids = vocabulary.encode(text[: borders[-1]]).ids
        except RecordError as error:
            return Skipped(error.message)
        first = vocabulary.first
        if not np.array_equal(ids[: len(first)], first):
            ids = np.concatenate([first, ids])
        return Skipped(NO_ROOM) if len(ids) > self._most else Example(ids, np.zeros(len(ids), np.bool_))


def _answered(chain: Chain, answer: str) -> Chain:
    source = {"source": chain.meta["source"]} if "source" in chain.meta else {}
    return Chain(prompt=chain.prompt, steps=(Step(answer=answer),), best=0, meta=source)


Pair = tuple[Example, Example]  # the chosen answer and the rejected one, each with its prompt


class PairEncoder:
    """Turn chains into preference pairs, deterministically."""

    wanted = 'A pair is {"prompt": "…", "chosen": "…", "rejected": "…"}.'

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, format: TrainingFormat = "chat", max_length: int = 2048
    ) -> None:
        self._encoder = Encoder(tokenizer, format, "answer", max_length)

    @property
    def fingerprint(self) -> str:
        """A hash of all settings that affect the pairs. The code is not hashed."""
        return hashlib.sha256(repr(["pairs", self._encoder.fingerprint]).encode()).hexdigest()

    def chains(self, record: RawRecord) -> Iterable[Chain]:
        """Return a record's chains. An OASST1 tree yields a chain for each pair of ranked replies."""
        return record.pairs()

    def encode(self, chain: Chain) -> Pair | Skipped:
        """Return a chain's pair, or the reason why the chain is skipped."""
        try:
            chosen, rejected = answers_of(chain)
            uncut = [self._uncut(_answered(chain, answer)) for answer in (chosen, rejected)]
            longest = max(each.learnt for each in uncut)
            found = [each.fitted(self._encoder.max_length, longest) for each in uncut]
        except RecordError as error:
            return Skipped(error.message)
        if skipped := next((each for each in found if isinstance(each, Skipped)), None):
            return skipped
        return _parted(*found)  # type: ignore[arg-type]  # none is skipped

    def read(self, prompt: Prompt, answer: str) -> Example:
        """Return the tokens of a prompt and an answer. For an empty answer, only the stop token is added."""
        empty = is_blank(answer)
        # Formats reject empty answers, so the answer is "a", whose tokens are then removed.
        uncut = self._uncut(_answered(Chain(prompt=prompt), "a" if empty else answer))
        if empty:
            place = slice(*uncut.answers[-1])
            uncut = replace(uncut, ids=np.delete(uncut.ids, place), trained=np.delete(uncut.trained, place))
        found = uncut.fitted(self._encoder.max_length)
        if isinstance(found, Skipped):
            raise RecordError(found.reason)
        return found

    def _uncut(self, chain: Chain) -> Uncut:
        encoder = self._encoder
        spans = spans_of(chain, encoder.format, "answer", encoder.vocabulary.template)
        end = max(number for number, span in enumerate(spans) if not span.given) + 1
        start = max(number for number, span in enumerate(spans[:end]) if span.given) + 1
        # Everything before the last answer is its prompt.
        before = [replace(span, trained=False, given=True) for span in spans[:start]]
        uncut = encoder.uncut([*before, *spans[start:end]])
        asked = [(min(uncut.asked)[0], max(uncut.asked)[1])] if uncut.asked else []
        return replace(uncut, asked=asked)  # the dropped middle may span several turns


def answers_of(chain: Chain) -> tuple[str, str]:
    """Return the answers that `to_preference` chooses and rejects. Raise a RecordError if there are none."""
    if isinstance(meta_of(chain, "source").get("chosen"), list):
        raise RecordError("a pair has a tool call or thoughts, but this training supports only text")
    if any(is_blank(step.answer) for step in chain.steps):
        raise RecordError("an empty answer")
    record = to_preference(chain)
    if isinstance(record, Unfit):
        pair = chain.meta.get("preference") is True
        reason = "no pair of a chosen and a rejected answer" if record == NO_ANSWER else record.reason
        raise RecordError("chosen and rejected are equal" if pair else reason)
    return _written(record["chosen"][0]), _written(record["rejected"][0])


def _written(message: Mapping[str, Any]) -> str:
    return together(thoughts_of(message), message["content"])


def _parted(chosen: Example, rejected: Example) -> Pair | Skipped:
    shorter = min(len(chosen.ids), len(rejected.ids))
    differs = np.flatnonzero(chosen.ids[:shorter] != rejected.ids[:shorter])
    if not len(differs) and len(chosen.ids) == len(rejected.ids):
        return Skipped("chosen and rejected are equal up to the length limit")
    parts = int(differs[0]) if len(differs) else shorter
    marked = (replace(each, trained=np.arange(len(each.ids)) >= parts) for each in (chosen, rejected))
    return next(marked), next(marked)

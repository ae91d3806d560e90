"""A model's tokenizer for training: texts to ids and places, with control tokens only where intended.

Everything is copied from a tokenizer of transformers once, so that workers load neither transformers nor
torch, unless they render a chat template. Users may type control tokens, which are text. The tokenizers
library reads either all of them as control tokens or none. So each control token gets a second name, a mark
of code points that no text may contain (U+FDD0 and U+FDD1), and the mark stands where the format means the
token.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from redraft.chain.chat import BREAK, ChatTemplate, Messages
from redraft.errors import ModelError, RecordError

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "\ufdd0", "\ufdd1"
"""Noncharacters: Unicode reserves them for a program's own use."""


class Tokens(NamedTuple):
    """A text as tokens: ids, and each token's start and end in characters, all of shape [n]."""

    ids: NDArray[np.uint32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer that can be pickled."""

    first: NDArray[np.uint32]  # ids that the tokenizer puts before every text, such as beginning-of-text
    stop: str  # the mark of the stop token
    marks: dict[str, str]  # the text of each control token to its mark
    template: ChatTemplate | None
    fingerprint: str  # a hash of all that decides the ids of a text
    _backend: Tokenizer
    _meant: NDArray[np.uint32]
    _control: NDArray[np.bool_]
    _lead: str
    _controls: re.Pattern[str]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Read a tokenizer of transformers."""
        written = _written(tokenizer)
        controls = {
            token.content: (number, token)
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special
        }
        stop = str(tokenizer.eos_token)
        marks = {text: f"{OPEN}{number}{CLOSE}" for text, (number, _) in controls.items()}
        if stop not in marks:
            raise ModelError(
                "the tokenizer has no stop token, so a model would never learn to stop: its eos_token "
                f"is {tokenizer.eos_token!r:.60}, which is not one of its control tokens.",
                hint='Name it as "eos_token" in the folder\'s tokenizer_config.json, and again in '
                "added_tokens of tokenizer.json.",
            )
        backend = _backend(written, {marks[text]: token for text, (_, token) in controls.items()})
        meant = _meant(backend, {marks[text]: number for text, (number, _) in controls.items()})
        control = np.zeros(len(meant), np.bool_)
        unknown = tokenizer.unk_token_id  # any text may contain it
        control[[number for number, _ in controls.values() if number != unknown]] = True
        first = _first(tokenizer)
        given = tokenizer.chat_template
        templates = given if isinstance(given, dict) else {"default": given}
        template = templates.get("default")
        with_tools = templates.get("tool_use", template)  # a second template, which transformers knows
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
        """Tokenise a text in which marks stand for control tokens, without adding beginning-of-text.

        With `within` the text continues another one, so the tokenizer adds no space before it.

        Raises:
            RecordError: The text contains a control token that the tokenizer insists on reading as one.
        """
        lead = self._lead if within else ""
        self._backend.encode_special_tokens = True  # pickling drops it
        encoding = self._backend.encode(lead + text, add_special_tokens=False)
        ids = np.array(encoding.ids, np.int64)
        places = np.fromiter(chain.from_iterable(encoding.offsets), np.int64, 2 * len(encoding))
        starts, ends = places.reshape(-1, 2).T
        if lead:
            own = ends > len(lead)
            ids = ids[own]
            starts, ends = (np.maximum(each[own] - len(lead), 0) for each in (starts, ends))
        if self._control[ids].any():
            raise RecordError("a text that is read as a control token")
        meant = self._meant[ids]
        marked = meant != ids
        if marked.any():  # without the spaces that some control tokens absorb
            found = [mark.span() for mark in _MARK.finditer(text)]
            starts, ends = starts.copy(), ends.copy()
            starts[marked], ends[marked] = np.array(found, np.int64).T
        return Tokens(meant, starts, ends)

    def mark_controls(self, text: str) -> str:
        """Replace control tokens in a format's own text by their marks. Broken ones are text."""
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
    """Render a chat template by transformers, in its sandbox. `named` has `bos_token` and so on."""
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
        raise RecordError(f"the model's chat template refuses it: {error!s:.80}") from None
    return str(rendered[0][0])


def _written(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{tokenizer.name_or_path}: its tokenizer has no tokenizer.json, which training needs to match "
            "tokens to text.",
            hint="Save a fast tokenizer into the folder: AutoTokenizer.from_pretrained(…).save_pretrained(…)",
        )
    return str(backend.to_str())


def _backend(written: str, marks: Mapping[str, AddedToken]) -> Tokenizer:
    """Return a tokenizer without truncation and post-processing, with the marks as tokens."""
    from tokenizers import AddedToken, Tokenizer

    backend = Tokenizer.from_str(written)
    backend.no_truncation()
    backend.no_padding()
    backend.post_processor = None  # it would leave spaces out of the places
    backend.add_tokens(
        [
            AddedToken(mark, lstrip=token.lstrip, rstrip=token.rstrip, normalized=False, special=False)
            for mark, token in marks.items()
        ]
    )
    return backend


def _meant(backend: Tokenizer, marks: Mapping[str, int]) -> NDArray[np.uint32]:
    """Return the id that each id stands for: of a mark, its control token; of any other, itself."""
    ids = {mark: backend.token_to_id(mark) for mark in marks}
    meant = np.arange(1 + max(*backend.get_vocab(with_added_tokens=True).values(), *marks.values()))
    for mark, number in marks.items():
        meant[ids[mark]] = number
    return meant.astype(np.uint32)


def _first(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that the tokenizer puts before a text."""
    ids = list(tokenizer("a").input_ids)
    alone = list(tokenizer("a", add_special_tokens=False).input_ids)
    at = next((i for i in range(len(ids)) if ids[i : i + len(alone)] == alone), 0)
    return ids[:at]


def _lead(backend: Tokenizer, mark: str) -> str:
    """Return what to put before a text so that SentencePiece adds no space to it.

    After a mark it adds none, except with older files. For these, a line break helps: it is a byte token
    there and merges with nothing.
    """
    alone = backend.encode("a")
    if "".join(alone.tokens) == "a":
        return ""
    return "\n" if backend.encode(f"{mark}a").ids[1:] == alone.ids else mark


_MARK = re.compile(f"{OPEN}[0-9]+{CLOSE}")

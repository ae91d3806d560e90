"""The tokenizer and chat template of a GGUF file, without transformers.

`GGUFTokenizer` has the calls of transformers' tokenizers that `engines.text.Tokenizer` makes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from redraft.weights.gguf.reader import GGUFHeader
from redraft.weights.tokenizers.from_gguf import tokenizer_files

_ENDS = (
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
)
"""Control tokens that end a text besides the one that a file names, as in llama.cpp (src/llama-vocab.cpp)."""


class GGUFTokenizer:
    """The tokenizer of a GGUF file whose header was read as a whole."""

    def __init__(self, header: GGUFHeader) -> None:
        import tokenizers

        files = tokenizer_files(header.metadata)
        kind: Any = tokenizers.Tokenizer
        self._fast = kind.from_str(json.dumps(files["tokenizer.json"], ensure_ascii=False))
        special = files["tokenizer_config.json"]
        self.eos_token: str | None = special.get("eos_token")
        self._special = {name: text for name, text in special.items() if name.endswith("_token")}
        self.chat_template = header.text("tokenizer.chat_template")

    def get_vocab(self) -> dict[str, int]:
        """Return the ids of the tokens."""
        vocabulary: dict[str, int] = self._fast.get_vocab()
        return vocabulary

    def ends(self) -> frozenset[int]:
        """Return the tokens that end a text."""
        found = map(self._fast.token_to_id, (*_ENDS, self.eos_token or ""))
        return frozenset(token for token in found if token is not None)

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> dict[str, Any]:
        """Return the token ids of a text."""
        self._fast.encode_special_tokens = split_special_tokens
        return {"input_ids": self._fast.encode(text, add_special_tokens=add_special_tokens).ids}

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool, **_: bool) -> str:
        """Return the text of token ids."""
        text: str = self._fast.decode(tokens, skip_special_tokens=skip_special_tokens)
        return text

    def apply_chat_template(self, messages: Sequence[Any], **told: Any) -> str:
        """Render messages as transformers does."""
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        jinja.filters["tojson"] = _json
        jinja.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        template = jinja.from_string(self.chat_template or "")
        return template.render(messages=messages, **self._special, **told)


def _json(value: Any, indent: int | None = None, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **how)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _now(layout: str) -> str:
    return datetime.now().strftime(layout)  # noqa: DTZ005  (templates ask for the day here)

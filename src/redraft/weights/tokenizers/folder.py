"""Read the tokenizer files of a Hugging Face folder into one vocabulary.

A vocabulary is spread over tokenizer.json or tokenizer.model, and up to four files with added and special
tokens. The files are combined as in transformers. Contradictions between the files or with the embedding
raise a `ModelError`. The files are untrusted, so each value is checked before use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from redraft.errors import ModelError
from redraft.weights.checkpoint import read_json, read_small
from redraft.weights.header import AGAIN
from redraft.weights.tokenizers import sentencepiece as sp

ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Maps the names of special tokens in transformers to GGUF's names."""

GENERATION = "generation_config.json"

ELSEWHERE = "Try llama.cpp's convert_hf_to_gguf.py: it supports more tokenizers."


@dataclass
class TokenizerFolder:
    """A folder, and the vocabulary collected so far from the folder's files."""

    folder: Path
    rows: int  # rows of the embedding
    texts: dict[int, str] = field(default_factory=dict)  # tokens by id
    kinds: dict[int, int] = field(default_factory=dict)  # GGUF's token types by id
    ids: dict[str, int] = field(default_factory=dict)  # ids by token

    @cached_property
    def fast(self) -> Mapping[str, Any]:
        """The content of tokenizer.json; empty if the file does not exist."""
        return read_json(self.folder / "tokenizer.json")

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The content of tokenizer_config.json; empty if the file does not exist."""
        return read_json(self.folder / "tokenizer_config.json")

    @cached_property
    def special(self) -> Mapping[str, Any]:
        """The content of special_tokens_map.json; empty if the file does not exist."""
        return read_json(self.folder / "special_tokens_map.json")

    @cached_property
    def pieces(self) -> sp.SentencePiece | None:
        """The content of tokenizer.model, or None if the file does not exist."""
        path = self.folder / "tokenizer.model"
        return sp.read_sentencepiece(path) if path.exists() else None

    @property
    def model(self) -> Mapping[str, Any]:
        """The field `model` of tokenizer.json."""
        return as_object(self.fast.get("model"))

    def bad(self, what: str, hint: str | None = AGAIN) -> NoReturn:
        """Raise a `ModelError` about the folder."""
        raise ModelError(f"{self.folder}: {what}.", hint=hint)

    def elsewhere(self, what: str) -> NoReturn:
        """Raise a `ModelError` whose hint names a tool that supports more tokenizers."""
        raise ModelError(f"{self.folder}: {what}.", hint=ELSEWHERE)

    def put(self, number: object, text: object, kind: int) -> None:
        """Add a token, or change the type of an existing token."""
        if not isinstance(number, int) or isinstance(number, bool) or not isinstance(text, str):
            self.bad(f"the vocabulary has {text!r:.60} with the id {number!r:.20}")
        if not 0 <= number < self.rows:
            or_else = "the embedding was not resized for added tokens"
            what = f"the token {text!r:.60} has the id {number}, but the embedding has {self.rows} rows"
            self.bad(what, hint=f"Weights and tokenizer belong to different models, or {or_else}.")
        if self.texts.get(number, text) != text:
            self.bad(f"the id {number} is both {self.texts[number]!r:.60} and {text!r:.60}")
        if self.ids.get(text, number) != number:
            self.bad(f"the token {text!r:.60} has two ids: {self.ids[text]} and {number}")
        self.texts[number], self.kinds[number], self.ids[text] = text, kind, number

    def put_added(self) -> None:
        """Add the tokens that the folder's files list as added, such as control tokens."""
        for number, text, special in self._added():
            if not self.fast and text not in self.ids and number in self.texts:
                # The added token replaces a piece of tokenizer.model, as in transformers.
                del self.ids[self.texts.pop(number)]
            if self.ids.get(text) != number or self.kinds[number] not in (sp.UNKNOWN, sp.BYTE):
                self.put(number, text, sp.CONTROL if special else sp.USER_DEFINED)

    def filled(self) -> tuple[list[str], list[int]]:
        """Return the tokens and types of all embedding rows. A row without a token gets an unused token."""
        texts: list[str] = []
        for row in range(self.rows):
            unused = f"[PAD{row}]"
            while unused in self.ids:
                unused += "_"
            texts.append(self.texts.get(row, unused))
        return texts, [self.kinds.get(row, sp.UNUSED) for row in range(self.rows)]

    def special_id(self, role: str) -> int | None:
        """Return the id of the `bos`, `eos`, `unk` or `pad` token, or None if no file defines the token."""
        for place in (self.config, self.special):
            text = _text_of(place.get(f"{role}_token"))
            if text in self.ids:
                return self.ids[text]
        if not self.fast and self.pieces and role in self.pieces.ids:
            return self.pieces.ids[role]
        number = read_json(self.folder / "config.json").get(f"{role}_token_id")
        # A chat model may have several end tokens. The first is the main one.
        number = number[0] if isinstance(number, list) and number else number
        return number if isinstance(number, int) and 0 <= number < self.rows else None

    def ends(self) -> list[int]:
        """Return the list of end token ids in generation_config.json or, if missing, in config.json."""
        found = [read_json(self.folder / name).get("eos_token_id") for name in (GENERATION, "config.json")]
        listed = next((each for each in found if isinstance(each, list)), [])
        return [each for each in listed if isinstance(each, int) and 0 <= each < self.rows]

    def put_around(self, role: str) -> bool:
        """Return whether the tokenizer prepends BOS (role `bos`) or appends EOS (role `eos`) to each text."""
        setting = self.config.get(f"add_{role}_token")
        if isinstance(setting, bool):
            return setting
        if not self.fast:
            return role == "bos"  # as in training of Llama's SentencePiece models
        end = self._template_end(0 if role == "bos" else -1)
        if end and self.ids.get(end) != self.special_id(role):
            self.elsewhere(f"tokenizer.json adds {end!r:.40} to each text, but that is not the {role} token")
        return bool(end)

    def template(self) -> str | None:
        """Return the chat template, from chat_template.jinja, tokenizer_config.json or chat_template.json."""
        try:
            return read_small(self.folder / "chat_template.jinja").decode("utf-8")
        except FileNotFoundError:
            pass
        except UnicodeDecodeError as error:
            self.bad(f"chat_template.jinja is not UTF-8: {error.reason} at byte {error.start}")
        template = self.config.get("chat_template")
        for each in map(as_object, as_list(template)):
            if each.get("name") == "default":
                template = each.get("template")
        if template is None:
            template = read_json(self.folder / "chat_template.json").get("chat_template")
        return template if isinstance(template, str) else None

    def _added(self) -> Iterator[tuple[int, str, bool]]:
        tokens = list(map(as_object, as_list(self.fast.get("added_tokens"))))
        for key, token in as_object(self.config.get("added_tokens_decoder")).items():
            tokens.append({**as_object(token), "id": int(key) if key.isdecimal() and len(key) < 10 else None})
        named: list[object] = []
        for file in (self.config, self.special):
            named += [file.get(f"{role}_token") for role in ROLES]
            named += as_list(file.get("additional_special_tokens"))
        special = set(map(_text_of, named))
        for word, at in read_json(self.folder / "added_tokens.json").items():
            tokens.append({"content": word, "id": at, "special": word in special})
        seen: set[str] = set()
        for token in tokens:
            text, number = token.get("content"), token.get("id")
            if not isinstance(text, str) or not isinstance(number, int):
                self.bad(f"an added token is {text!r:.60} with the id {number!r:.20}")
            if text not in seen:
                yield number, text, token.get("special") is True
            seen.add(text)

    def _template_end(self, at: int) -> str:
        processor = as_object(self.fast.get("post_processor"))
        for part in [processor, *map(as_object, as_list(processor.get("processors")))]:
            single = as_list(part.get("single"))
            if part.get("type") == "TemplateProcessing" and single:
                text = as_object(as_object(single[at]).get("SpecialToken")).get("id")
                return text if isinstance(text, str) else ""
        return ""


def as_object(value: object) -> Mapping[str, Any]:
    """Return a value if it is a JSON object, otherwise an empty object."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> Sequence[Any]:
    """Return a value if it is a JSON array, otherwise an empty array."""
    return value if isinstance(value, list) else []


def _text_of(token: object) -> str | None:
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None

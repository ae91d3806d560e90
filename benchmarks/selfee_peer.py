"""The peer of `row_chains`: makes chains like the released SelFee code, in words of our own.

One prompt at a time runs through transformers with a KV cache. For every new token, the whole text is decoded
again, prompt included, and searched for the phrases that end a chain. Until the requested number of revisions
is reached, `Revision is needed` replaces such a phrase. The text ends with the end-of-text token, or at the
limit.

One thing is faster than in the original: the cache is rewound to the right place, and only the new tokens run
through the model after that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PHRASES = (
    "Revision is not needed", "revision is not needed", "No revision is needed", "no revision is needed",
    "No revisions needed", "no revisions needed",
)  # fmt: skip
"""The six phrases that the released server searches for."""

TEMPERATURE = 0.7  # the released default


class Sampler(Protocol):
    end: int

    def encode(self, text: str, *, start: bool) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def feed(self, tokens: Sequence[int]) -> int: ...

    def rewind(self, tokens: int) -> None: ...


def write_chain(model: Sampler, prompt: str, *, revisions: int, limit: int) -> tuple[str, int]:
    """Write one chain.

    Args:
        model: A model with an empty cache.
        prompt: A prompt in SelFee's format.
        revisions: The number of times that a phrase that ends the chain is replaced.
        limit: The maximum number of new tokens.

    Returns:
        The text after the prompt, and the number of generated tokens.
    """
    written = model.encode(prompt, start=True)
    searched = len(model.decode(written))
    begin, generated = searched, 0
    token = model.feed(written)
    while token != model.end and generated < limit:
        written.append(token)
        generated += 1
        text = model.decode(written)
        phrase = min((at for each in PHRASES if (at := text.find(each, searched)) >= 0), default=None)
        fresh = [token]
        if phrase is not None and revisions > 0:
            revisions -= 1
            kept = len(written)
            while len(model.decode(written[:kept])) > phrase:
                kept -= 1
            model.rewind(len(written) - 1 - kept)
            fresh = model.encode("Revision is needed", start=False)
            written[kept:] = fresh
            searched = phrase
        token = model.feed(fresh)
    return model.decode(written)[begin:], generated


@dataclass
class TorchSampler:
    model: Any
    tokenizer: Any
    end: int
    cache: Any = None

    def encode(self, text: str, *, start: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=start).input_ids)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def feed(self, tokens: Sequence[int]) -> int:
        import torch

        with torch.inference_mode():
            ids = torch.tensor([list(tokens)])
            out = self.model(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            self.cache = out.past_key_values
            chances = torch.softmax(out.logits[0, -1].float() / TEMPERATURE, dim=-1)
            return int(torch.multinomial(chances, 1))

    def rewind(self, tokens: int) -> None:
        self.cache.crop(-tokens)

    def fresh(self) -> TorchSampler:
        return TorchSampler(self.model, self.tokenizer, self.end)


def load(path: Path, threads: int | None) -> TorchSampler:
    """Load the weights of a GGUF file, unpacked to bfloat16.

    Args:
        path: The file.
        threads: The number of threads; None for the default of torch.

    Raises:
        ImportError: torch, transformers, gguf or accelerate is not installed.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    torch.manual_seed(1)
    torch.set_num_threads(threads or torch.get_num_threads())
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16, quantization_config=unpacked
    )
    return TorchSampler(model, tokenizer, tokenizer.eos_token_id)

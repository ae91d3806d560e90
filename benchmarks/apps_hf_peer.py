"""The peer of `redraft answer`: answers a file of prompts with batched `generate` of transformers.

    python benchmarks/apps_hf_peer.py FOLDER PROMPTS BATCH TOKENS DTYPE

It prints the number of new tokens, without padding, and the seconds since the model was loaded.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

TEMPERATURE = 0.7


def main(folder: str, prompts: str, batch: str, most: str, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    asked = [json.loads(line)["prompt"] for line in Path(prompts).read_text("utf-8").splitlines()]
    made, size, start = 0, int(batch), time.perf_counter()
    for first in range(0, len(asked), size):
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            for question in asked[first : first + size]
        ]
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            rows = model.generate(
                **tokens,
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                max_new_tokens=int(most),
                pad_token_id=tokenizer.pad_token_id,
            )
        made += int((rows[:, tokens.input_ids.shape[1] :] != tokenizer.pad_token_id).sum())
    print(made, time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])

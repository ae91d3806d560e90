"""The peer: OpenVINO GenAI's own pipeline on batches of prompts, in a process of its own.

    python benchmarks/cpu_pipeline.py MODEL PROMPTS BATCH TOKENS

It prints how many new tokens it made, and the seconds that they took after the model was loaded.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

TEMPERATURE = 0.7


def main(model: str, prompts: str, batch: str, most: str) -> None:
    """Answers all prompts, `batch` at a time, with at most `most` new tokens each."""
    import openvino_genai

    pipe = openvino_genai.LLMPipeline(model, "CPU")
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.do_sample, config.temperature = int(most), True, TEMPERATURE
    config.apply_chat_template = True
    asked = [json.loads(line)["prompt"] for line in Path(prompts).read_text("utf-8").splitlines()]
    pipe.generate(asked[:1], config)
    made, size, start = 0, int(batch), time.perf_counter()
    for first in range(0, len(asked), size):
        made += pipe.generate(asked[first : first + size], config).perf_metrics.get_num_generated_tokens()
    print(made, time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])

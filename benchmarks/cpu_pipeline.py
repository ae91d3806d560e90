"""The peer of `row_engines`: answers batches of prompts with OpenVINO GenAI's own pipeline.

    python benchmarks/cpu_pipeline.py MODEL PROMPTS BATCH TOKENS

It prints the number of new tokens, and the seconds since the model was loaded.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

TEMPERATURE = 0.7


def main(model: str, prompts: str, batch: str, most: str) -> None:
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

r"""optillm's best of N as a way of `redraft arbiter`: the model rates its own answers.

pip install optillm
redraft arbiter DIR --models http://127.0.0.1:8321/v1#default-base --tasks count \
    --ways one,best,with_optillm:optillm_bon
"""

from collections.abc import Sequence
from typing import Any

import httpx
from openai import OpenAI
from optillm.bon import best_of_n_sampling

import redraft
from redraft.evaluation.arbiter.peers import server_of

TEXTS = 2  # answers; each is rated in a request of its own
SYSTEM = "You are a helpful assistant."


def optillm_bon(
    prompt: str, _checks: Sequence[redraft.Check], *, model: str, **sampling: Any
) -> tuple[str, int]:
    """It sees no check, draws at temperature 1, and takes no seed."""
    sampling.pop("seed")
    tokens = []

    def count(reply: httpx.Response) -> None:  # optillm's own count leaves out answers that were cut
        reply.read()
        if reply.is_success:
            tokens.append(reply.json()["usage"]["completion_tokens"])

    server = server_of(model)
    with httpx.Client(event_hooks={"response": [count]}, timeout=600) as http:
        client = OpenAI(base_url=server.url, api_key=server.key, http_client=http)
        answer, _ = best_of_n_sampling(SYSTEM, prompt, client, server.model, TEXTS, sampling)
    return answer, sum(tokens)

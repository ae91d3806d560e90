"""FastChat."""

import json
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tried import Replies, main, tries

HOME = Path(find_spec("fastchat").origin or "").parent


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    from fastchat.conversation import get_conv_template

    talk = get_conv_template("vicuna_v1.1")
    for role, text in ((0, "Hi."), (1, "Hello."), (0, "Again."), (1, None)):
        talk.append_message(talk.roles[role], text)
    assert talk.get_prompt().endswith("USER: Again. ASSISTANT:")


@tries("an API like OpenAI's")
def _(server: Replies) -> str:
    ports = {"controller": 28901, "openai_api_server": 28902}
    running = [
        subprocess.Popen([sys.executable, "-m", f"fastchat.serve.{name}", "--port", str(port), "--host", "127.0.0.1",
                          *(["--controller-address", "http://127.0.0.1:28901"] if "api" in name else [])])
        for name, port in ports.items()
    ]  # fmt: skip
    try:
        for _ in range(600):
            try:
                reply = urllib.request.urlopen("http://127.0.0.1:28902/v1/models", timeout=5).read()
                break
            except OSError:
                time.sleep(0.5)
        assert json.loads(reply)["object"] == "list"
    finally:
        for process in running:
            process.kill()
    return "it starts and lists its models; no worker with a model was tried"


@tries("conversations are cleaned and deduplicated")
def _(server: Replies) -> str:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "So:\n1. a\n1. b"}]
    with TemporaryDirectory() as folder:
        Path(folder, "a.json").write_text(json.dumps([{"id": "1", "conversations": turns}]))
        module = "fastchat.data.filter_wrong_format"
        command = [sys.executable, "-m", module, "--in", f"{folder}/a.json", "--out", f"{folder}/b.json"]
        subprocess.run(command, check=True, capture_output=True)
        assert json.loads(Path(folder, "b.json").read_text()) == []
    return "scripts for ShareGPT, of which one filter was tried; no duplicates by likeness"


@tries("deltas of weights, GGUF files")
def _(server: Replies) -> str:
    assert (HOME / "model" / "apply_delta.py").is_file()
    return "deltas, not tried; no GGUF"


@tries("supervised fine-tuning")
def _(server: Replies) -> str:
    assert (HOME / "train" / "train.py").is_file()
    return "train.py needs transformers of its time and GPUs; not tried"


@tries("a judge compares two models, in both orders")
@tries("published tasks, scored")
def _(server: Replies) -> str:
    assert (
        Path(
            find_spec("fastchat.llm_judge").origin
            or find_spec("fastchat.llm_judge").submodule_search_locations[0]
        )
    ).exists()
    return "MT-bench by GPT-4, with openai 0.28; not tried"


@tries("a ranking of models (Elo, Bradley–Terry)")
@tries("scores with intervals")
def _(server: Replies) -> str:
    assert [*(HOME / "serve").glob("monitor*")]
    return "of its arena's votes, by elo_analysis.py; not tried"


@tries("votes by people")
@tries("a web page to chat")
def _(server: Replies) -> str:
    assert [*(HOME / "serve").glob("gradio_web_server*")]
    return "its pages need the extra webui; not tried"


@tries("a command for the terminal")
def _(server: Replies) -> str:
    assert [*(HOME / "serve").glob("cli*")]
    return "`python -m fastchat.serve.cli`, with a model; not tried"


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> str:
    assert [*(HOME / "serve").glob("api_provider*")]
    return "for its arena; not tried"


LACKS = {
    "the best answer is kept if none passes": "",
    "the invalid part is filtered out": "",
    "a check steers the model word by word": "",
    "a program of fixed text and generated parts": "",
    "partial objects while they are written": "",
    "pictures in a prompt": "in its arena, not tried",
    "async": "",
    "prompts are optimised on examples": "",
    "replies are cached in a file": "",
    "a file of prompts becomes a file of answers": "`gen_model_answer.py`, for questions of MT-bench, not tried",
    "keys for users": "`openai_api_server --api-keys`, not tried",
    "DPO": "",
    "PPO, RLOO or GRPO": "",
    "the model criticises itself, then revises": "",
    "the API's answers are checked and revised": "",
    "goes on after kill -9 without paying twice": "",
    "a failed answer goes back with what is wrong": "",
    "a model judges an answer by a sentence": "only as an evaluation",
    "another model criticises": "",
    "every draft is kept, with what was said of it": "",
    "tools are called, and their results go back": "",
    "a call is ended from outside and keeps what it has": "",
    "training on chains of answer, criticism and revision": "",
    "a grammar or regular expression of yours steers": "",
    "best of several samples": "",
    "a budget of money": "",
    "an object of a pydantic type": "",
    "a function of yours as a check": "",
    "batches of a provider at half the price": "",
}

if __name__ == "__main__":
    main(LACKS)

"""redraft."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from pydantic import BaseModel
from tried import Replies, call_of, main, tries

import redraft

ADA = '{"name": "Ada", "born": 1815}'
RAIN = "Describe rain."
LONG = "Rain is wet and cold."


class Person(BaseModel):
    name: str
    born: int


def ask(server: Replies, *replies: object, **options: object) -> redraft.Chain:
    if replies:
        server.says(*replies)
    return redraft.revise(RAIN, model=f"{server.url}#m", **options)


def typed(folder: str, *words: str, **env: str) -> str:
    """What a command prints, in a folder."""
    done = subprocess.run([sys.executable, "-m", "redraft", *words], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, **env})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def kept(folder: str, name: str, *lines: object) -> str:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    Path(folder, name).write_text(text, "utf-8")
    return name


@tries("an object of a pydantic type")
def _(server: Replies) -> None:
    assert ask(server, ADA, output=Person).value == Person(name="Ada", born=1815)


@tries("a failed answer goes back with what is wrong")
@tries("checks by a short name, such as words<=50")
def _(server: Replies) -> None:
    chain = ask(server, LONG, "Rain.", checks=["words<=3"], tell_checks=False, mode="verified")
    assert chain.answer == "Rain."
    assert "at most 3" in server.last


@tries("the best answer is kept if none passes")
def _(server: Replies) -> None:
    chain = ask(server, "A b c d.", "A b c d e f.", "A b c d e.", checks=["words<=3"], max_revisions=2)
    assert chain.answer == "A b c d."
    assert chain.passed is False


@tries("a function of yours as a check")
def _(server: Replies) -> None:
    assert ask(server, LONG, "Rain.", checks=[lambda text: "cold" not in text]).answer == "Rain."


@tries("a model judges an answer by a sentence")
def _(server: Replies) -> None:
    judge = redraft.ScriptedEngine(["It is rude.\nScore: 2", "It is polite.\nScore: 9"])
    chain = ask(server, "Go!", "Please go.", checks=["judge:It is polite."], judge=judge)
    assert chain.answer == "Please go."


@tries("the model criticises itself, then revises")
def _(server: Replies) -> None:
    chain = ask(
        server, LONG, "Say less. Revision is needed.", "Rain.", "Revision is not needed.", mode="prompted"
    )
    assert chain.answer == "Rain."


@tries("another model criticises")
def _(server: Replies) -> None:
    critic = redraft.ScriptedEngine(["Say less. Revision is needed.", "Revision is not needed."])
    assert ask(server, LONG, "Rain.", mode="prompted", critic=critic).answer == "Rain."


@tries("best of several samples")
def _(server: Replies) -> None:
    chain = ask(server, LONG, "Rain.", LONG, mode="best-of", drafts=3, checks=["words<=3"])
    assert chain.answer == "Rain."


@tries("a new draft that is told what failed, without the draft")
def _(server: Replies) -> None:
    ask(server, LONG, "Rain.", mode="repair", checks=["lacks:cold"], tell_checks=False)
    assert "cold" in server.last
    assert LONG not in server.last


@tries("the next text is chosen by what failed")
def _(server: Replies) -> None:
    chain = ask(server, LONG, "Rain.", checks=["words<=3"])
    assert len(chain.steps) > 1


@tries("form is mended without the model")
def _(server: Replies) -> None:
    chain = ask(server, "Rain.", checks=["starts:Hello."], tell_checks=False, fix=True)
    assert chain.passed
    assert len(server.requests) == 1


@tries("a check steers the model word by word")
def _(server: Replies) -> None:
    chain = redraft.revise("Describe a lighthouse.", model="default", checks=["words<=5"], max_tokens=40)
    assert chain.steps[0].steered
    assert chain.passed


@tries("a grammar or regular expression of yours steers")
def _(server: Replies) -> str:
    chain = redraft.revise("Name a number.", model="default", checks=[r"matches:^\d{3}$"], max_tokens=20)
    assert chain.steps[0].steered
    assert chain.passed
    return "a regular expression, by the check `matches`; no grammar"


@tries("tools are called, and their results go back")
def _(server: Replies) -> str:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert ask(server, call_of("f", {}), tools=[tool]).steps[-1].tool_calls
    return "the calls come back; running them and asking again is left to you"


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    said = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
    ]
    server.says("D")
    assert redraft.revise(said, model=f"{server.url}#m").answer == "D"
    assert len(server.requests[0]["messages"]) == 3


@tries("pictures in a prompt")
def _(server: Replies) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    server.says("A dot.")
    said = [{"role": "user", "content": [{"type": "text", "text": "What?"}, picture]}]
    redraft.revise(said, model=f"{server.url}#m")
    assert "image_url" in server.last


@tries("partial objects while they are written")
def _(server: Replies) -> None:
    async def parts() -> list[object]:
        server.says(ADA)
        events = redraft.stream(RAIN, model=f"{server.url}#m", output=Person)
        return [event.value async for event in events if isinstance(event, redraft.Text)]

    found = [value for value in asyncio.run(parts()) if value]
    assert len(found) > 1


@tries("a text while it is written")
@tries("async")
def _(server: Replies) -> None:
    async def texts() -> list[str]:
        server.says("Rain is water.")
        events = redraft.stream(RAIN, model=f"{server.url}#m")
        return [event.text async for event in events if isinstance(event, redraft.Text)]

    assert len(asyncio.run(texts())) > 1


@tries("searches such as trees or majority votes")
def _(server: Replies) -> str:
    with TemporaryDirectory() as folder:
        kept(folder, "p.jsonl", {"prompt": "2+2?", "checks": ["number=4"]})
        kept(folder, "r.jsonl", *["It is 4."] * 30)
        ways = ("--seeds", "1", "--samples", "3", "--model", "script:r.jsonl", "-j", "1", "--quiet")
        typed(folder, "diagnose", "--run", "checks", "p.jsonl", "-o", "runs", *ways)
    return "majority votes are measured by `diagnose --run`; an answer is not made by them"


@tries("a budget of tokens for one answer")
def _(server: Replies) -> None:
    chain = ask(server, LONG, checks=["words<=2"], budget=redraft.Budget(tokens=6))
    assert chain.stop == "budget"


@tries("a budget of money")
def _(server: Replies) -> None:
    budget, price = redraft.Budget(usd=1e-6), redraft.Price(1, 1)
    assert ask(server, LONG, checks=["words<=2"], budget=budget, price=price).stop == "budget"


@tries("a call is ended from outside and keeps what it has")
def _(server: Replies) -> None:
    token = redraft.CancelToken()
    chain = ask(
        server,
        LONG,
        checks=["words<=2"],
        cancel=token,
        on_event=lambda e: isinstance(e, redraft.StepDone) and token.cancel(),
    )
    assert (chain.stop, chain.answer) == ("cancelled", LONG)


@tries("every draft is kept, with what was said of it")
def _(server: Replies) -> None:
    chain = ask(server, LONG, "Rain.", checks=["words<=3"])
    assert [(step.passed, bool(step.checks)) for step in chain.steps] == [(False, True), (True, True)]


@tries("a busy server is asked again")
def _(server: Replies) -> None:
    assert ask(server, 429, "Rain.").answer == "Rain."


@tries("replies are cached in a file")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        for _ in range(2):
            ask(server, cache=f"{folder}/replies.db", max_revisions=0, seed=1, temperature=0)
    assert len(server.requests) == 1


@tries("tests without a model")
def _(server: Replies) -> None:
    assert redraft.revise(RAIN, model=redraft.ScriptedEngine(["Rain."])).answer == "Rain."


@tries("traces by OpenTelemetry")
def _(server: Replies) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    seen, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    ask(server, trace=provider)
    assert seen.get_finished_spans()


@tries("a file of prompts becomes a file of answers")
@tries("a command for the terminal")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "p.jsonl", {"prompt": "A"}, {"prompt": "B"})
        typed(folder, "answer", "p.jsonl", "-o", "a.jsonl", "--model", f"{server.url}#m", "-j", "2")
        assert len(list(redraft.read_jsonl(f"{folder}/a.jsonl"))) == 2


@tries("goes on after kill -9 without paying twice")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "p.jsonl", *({"prompt": f"Say {n}."} for n in range(200)))
        server.says("Rain.")
        words = (
            "answer",
            "p.jsonl",
            "-o",
            "a.jsonl",
            "--model",
            f"{server.url}#m",
            "-j",
            "1",
            "--max-revisions",
            "0",
            "--journal",
            "j.db",
        )
        with subprocess.Popen([sys.executable, "-m", "redraft", *words], cwd=folder) as run:
            while len(server.requests) < 20:
                time.sleep(0.01)
            run.send_signal(signal.SIGKILL)
        typed(folder, *words)
        assert len(list(redraft.read_jsonl(f"{folder}/a.jsonl"))) == 200
        assert len(server.requests) <= 201, len(server.requests)  # the one that was under way


@tries("batches of a provider at half the price")
def _(server: Replies) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.engines.batch_server import BatchServer

    with TemporaryDirectory() as folder, BatchServer(swift=True) as batches:
        kept(folder, "p.jsonl", {"prompt": "A"}, {"prompt": "B"})
        typed(folder, "answer", "p.jsonl", "-o", "a.jsonl", "--model", f"{batches.root}/v1#m", "--batch")
        assert len(list(redraft.read_jsonl(f"{folder}/a.jsonl"))) == 2


@tries("runs a GGUF file")
def _(server: Replies) -> None:
    assert redraft.revise(RAIN, model="default", max_tokens=20).answer


@contextmanager
def serving(folder: str, *words: str) -> Iterator[str]:
    command = [sys.executable, "-m", "redraft", "serve", "--port", "0", *words]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        try:
            yield next(line.split(" at ")[1].strip() for line in server.stderr if "/v1" in line)
        finally:
            server.kill()


@tries("an API like OpenAI's")
@tries("the API's answers are checked and revised")
def _(server: Replies) -> None:
    server.says(LONG, "Rain.")
    with (
        TemporaryDirectory() as folder,
        serving(folder, "--model", f"{server.url}#m", "--check", "words<=3") as url,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": RAIN}]}
        name = httpx.get(f"{url}/models").json()["data"][-1]["id"]
        reply = httpx.post(f"{url}/chat/completions", json={**body, "model": name}, timeout=60).json()
    assert reply["choices"][0]["message"]["content"] == "Rain."


@tries("a web page to chat")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder, serving(folder, "--model", f"{server.url}#m") as url:
        assert 'id="box"' in httpx.get(url.removesuffix("v1")).text


@tries("keys for users")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        Path(folder, "redraft.keys").write_text("a-long-key-of-ann-0123456789abcdef name=ann\n")
        with serving(folder, "--model", f"{server.url}#m", "--api-key-file", "redraft.keys") as url:
            assert httpx.get(f"{url}/models").status_code == 401
            key = {"Authorization": "Bearer a-long-key-of-ann-0123456789abcdef"}
            assert httpx.get(f"{url}/models", headers=key).status_code == 200


@tries("tools for agents by MCP")
def _(server: Replies) -> str:
    said = subprocess.run(
        [sys.executable, "-m", "redraft", "mcp", "--help"], capture_output=True, text=True
    ).stdout
    assert "Model Context Protocol" in said
    return "it gives two tools; their test is tests/bridges/test_mcp.py"


@tries("published tasks, scored")
@tries("scores with intervals")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "g.jsonl", {"question": "2+2?", "answer": "It is 4.\n#### 4"})
        server.says("The answer is 4.")
        said = typed(folder, "eval", "gsm8k", "g.jsonl", "-o", "a.jsonl", "--model", f"{server.url}#m")
        assert "100" in said
        assert " to " in said


@tries("a judge compares two models, in both orders")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        for name, text in (("a", "Rain."), ("b", LONG)):
            chain = redraft.revise(RAIN, model=redraft.ScriptedEngine([text], name=name), id="1")
            redraft.write_jsonl(f"{folder}/{name}.jsonl", [chain])
        server.says(*[json.dumps({"review": "It is short.", "score_1": 8, "score_2": 4})] * 2)
        typed(folder, "judge", "a.jsonl", "b.jsonl", "-o", "r.jsonl", "-m", f"{server.url}#m")
        assert len(server.requests) == 2


@tries("a ranking of models (Elo, Bradley–Terry)")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        for name in "abc":
            chain = redraft.revise(RAIN, model=redraft.ScriptedEngine(["Rain."], name=name), id="1")
            redraft.write_jsonl(f"{folder}/{name}.jsonl", [chain])
        server.says(*[json.dumps({"review": "It is short.", "score_1": 8, "score_2": 4})] * 4)
        for pair in ("ab", "bc"):
            words = [f"{name}.jsonl" for name in pair]
            typed(folder, "judge", *words, "-o", f"{pair}.jsonl", "-m", f"{server.url}#m")
        assert "Bradley and Terry" in typed(folder, "report", "ab.jsonl", "bc.jsonl")


@tries("votes by people")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        for name, text in (("a", "Rain."), ("b", LONG)):
            chain = redraft.revise(RAIN, model=redraft.ScriptedEngine([text], name=name), id="1")
            redraft.write_jsonl(f"{folder}/{name}.jsonl", [chain])
        command = [sys.executable, "-m", "redraft", "vote", "a.jsonl", "b.jsonl", "-o", "votes.jsonl"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as page:
            assert page.stderr
            url = page.stderr.readline().split(" at ")[1].partition("#")[0]
            assert httpx.get(url).status_code == 200
            page.kill()


@tries("whether revising pays at equal tokens")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "p.jsonl", *({"prompt": f"Say {n}.", "checks": ["words<=3"]} for n in range(3)))
        kept(folder, "r.jsonl", *[LONG, "Rain."] * 60)
        ways = ("--seeds", "1", "--samples", "2", "--model", "script:r.jsonl", "-j", "1", "--quiet")
        typed(folder, "diagnose", "--run", "checks", "p.jsonl", "-o", "runs", *ways)
        assert "tokens" in typed(folder, "diagnose", "runs")


@tries("a share of answers as a test of pytest")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "r.jsonl", *["Rain."] * 10)
        test = '@pytest.mark.redraft("A", checks=["words<=3"], model="script:r.jsonl", times=5, share=0.5)'
        Path(folder, "test_a.py").write_text(
            f"import pytest\n{test}\ndef test_a(chains): assert len(chains) == 5\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "test_a.py"], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


SUMS = {"instruction": "Add 1 and 2.", "outputs": [
    {"output": "4", "feedback": "Wrong. Revision is needed."},
    {"output": "3", "feedback": "Right. Revision is not needed."}]}  # fmt: skip
STEPS = {"max_steps": 1, "per_device_train_batch_size": 1, "model_max_length": 256}


def small(folder: str) -> str:
    """A model of some thousand weights by chance, so that a step takes no time."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.engines import hf_folders

    return str(hf_folders.folder(Path(folder, "small")))


PAIRS = [{"prompt": "Add 1 and 2.", "chosen": "3", "rejected": "4"}] * 4


@tries("supervised fine-tuning")
@tries("training on chains of answer, criticism and revision")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "s.jsonl", *[SUMS] * 4)
        redraft.train_sft(
            model_name_or_path=small(folder),
            data_path=[f"{folder}/s.jsonl"],
            output_dir=f"{folder}/out",
            **STEPS,
        )
        assert list(Path(folder, "out").glob("*.safetensors"))


@tries("a reward model")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "s.jsonl", *PAIRS)
        redraft.train_reward(
            model_name_or_path=small(folder),
            data_path=[f"{folder}/s.jsonl"],
            output_dir=f"{folder}/out",
            **STEPS,
        )
        assert list(Path(folder, "out").glob("*.safetensors"))


@tries("DPO")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "s.jsonl", *PAIRS)
        redraft.train_dpo(
            model_name_or_path=small(folder),
            data_path=[f"{folder}/s.jsonl"],
            output_dir=f"{folder}/out",
            **STEPS,
        )
        assert list(Path(folder, "out").glob("*.safetensors"))


@tries("PPO, RLOO or GRPO")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "s.jsonl", *({"prompt": f"Say {n}."} for n in range(4)))
        few = {"num_rollouts": 4, "chunk_size": 4, "max_new_tokens": 8, "reward": ["words<=5"]}
        redraft.train_ppo(
            model_name_or_path=small(folder),
            data_path=[f"{folder}/s.jsonl"],
            output_dir=f"{folder}/out",
            **STEPS,
            **few,
        )
        assert list(Path(folder, "out").glob("*.safetensors"))


@tries("instructions are generated from seeds")
def _(server: Replies) -> None:
    task = "Instruction: Name three rivers of Peru.\nInput: <noinput>\nOutput: The Amazon and two more."
    with TemporaryDirectory() as folder:
        engine = redraft.ScriptedEngine([f"Task 4\n{task}"])
        redraft.generate_instructions(f"{folder}/tasks.jsonl", model=engine, count=1, quiet=True)
        assert "Peru" in Path(folder, "tasks.jsonl").read_text("utf-8")


@tries("conversations are cleaned and deduplicated")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        talk = {
            "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello, friend."}]
        }
        kept(folder, "c.jsonl", {"id": "1", **talk}, {"id": "2", **talk})
        redraft.clean(f"{folder}/c.jsonl", f"{folder}/clean.jsonl")
        redraft.dedupe(f"{folder}/clean.jsonl", f"{folder}/one.jsonl")
        assert len(list(redraft.read_jsonl(f"{folder}/one.jsonl"))) == 1


@tries("deltas of weights, GGUF files")
def _(server: Replies) -> str:
    with TemporaryDirectory() as folder:
        base = small(folder)
        typed(folder, "weights", "diff", base, base, "-o", "delta")
        typed(folder, "weights", "apply", base, "delta", "-o", "again")
        assert list(Path(folder, "again").glob("*.safetensors"))
    return "deltas; GGUF files by the page docs/weights.md, which runs as a test"


@tries("a whole system by one recipe, resumed")
def _(server: Replies) -> None:
    with TemporaryDirectory() as folder:
        kept(folder, "q.jsonl", {"prompt": "A"})
        kept(folder, "r.jsonl", "Rain.")
        stage = {"verb": "answer", "out": "a.jsonl", "options": {"source": "{q}", "model": "script:r.jsonl"}}
        Path(folder, "s.yaml").write_text(
            json.dumps({"files": {"q": "q.jsonl"}, "stages": {"answers": stage}})
        )
        typed(folder, "run", "s.yaml")
        typed(folder, "run", "s.yaml")
        assert Path(folder, "s", "index.html").is_file()


LACKS = {
    "the invalid part is filtered out": "",
    "a program of fixed text and generated parts": "",
    "protocols of providers other than OpenAI's": "a proxy such as litellm's stands between",
    "prompts are optimised on examples": "",
    "a graph of steps with kept state": "",
}

if __name__ == "__main__":
    main(LACKS)

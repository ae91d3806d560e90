"""DSPy."""

import asyncio

import dspy
from pydantic import BaseModel
from tried import Replies, main, tries

dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
FIELD = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"
LONG, SHORT = FIELD.format("Rain is wet and cold."), FIELD.format("Rain.")


class Person(BaseModel):
    name: str
    born: int


def using(server: Replies, *replies: object, **options: object) -> dspy.LM:
    server.says(*replies)
    model = dspy.LM("openai/m", api_base=server.url, api_key="none", num_retries=2, **options)
    dspy.configure(lm=model, track_usage=True)
    return model


def few(_: object, found: dspy.Prediction) -> float:
    return float(len(found.answer.split()) <= 3)


@tries("an object of a pydantic type")
def _(server: Replies) -> None:
    using(server, FIELD.format('{"name": "Ada", "born": 1815}'))

    class Who(dspy.Signature):
        question: str = dspy.InputField()
        answer: Person = dspy.OutputField()

    assert dspy.Predict(Who)(question="Who?").answer.born == 1815


@tries("a function of yours as a check")
@tries("best of several samples")
def _(server: Replies) -> None:
    using(server, LONG, SHORT)
    best = dspy.BestOfN(module=dspy.Predict("question -> answer"), N=2, reward_fn=few, threshold=1.0)
    assert best(question="Describe rain.").answer == "Rain."


@tries("the best answer is kept if none passes")
def _(server: Replies) -> None:
    using(server, LONG)
    best = dspy.BestOfN(module=dspy.Predict("question -> answer"), N=2, reward_fn=few, threshold=1.0)
    assert best(question="Describe rain.").answer.startswith("Rain is wet")


@tries("a failed answer goes back with what is wrong")
@tries("the model criticises itself, then revises")
@tries("another model criticises")
def _(server: Replies) -> str:
    advice = '[[ ## discussion ## ]]\nx\n\n[[ ## advice ## ]]\n{"self": "Say less."}\n\n[[ ## completed ## ]]'
    using(server, LONG, advice, SHORT)
    module = dspy.Refine(module=dspy.Predict("question -> answer"), N=2, reward_fn=few, threshold=1.0)
    assert module(question="Describe rain.").answer == "Rain."
    assert "Say less." in server.last
    return (
        "Refine: a model reads the code of the check and the failed trial, and gives advice to the next trial"
    )


@tries("a new draft that is told what failed, without the draft")
def _(server: Replies) -> str:
    advice = '[[ ## discussion ## ]]\nx\n\n[[ ## advice ## ]]\n{"self": "Say less."}\n\n[[ ## completed ## ]]'
    using(server, LONG, advice, SHORT)
    module = dspy.Refine(module=dspy.Predict("question -> answer"), N=2, reward_fn=few, threshold=1.0)
    module(question="Describe rain.")
    assert "wet and cold" not in server.last
    return "Refine: the advice alone goes into the next trial"


@tries("a model judges an answer by a sentence")
def _(server: Replies) -> str:
    judge = dspy.Predict("sentence, text -> holds: bool")
    using(server, "[[ ## holds ## ]]\nFalse\n\n[[ ## completed ## ]]")
    assert judge(sentence="It is polite.", text="Go!").holds is False
    return "as a module of yours within a reward"


@tries("tools are called, and their results go back")
def _(server: Replies) -> None:
    step = "[[ ## next_thought ## ]]\nx\n\n[[ ## next_tool_name ## ]]\n{}\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]"
    end = "[[ ## reasoning ## ]]\nx\n\n" + FIELD.format("It is wet.")
    using(server, step.format("weather", '{"place": "Kent"}'), step.format("finish", "{}"), end)

    def weather(place: str) -> str:
        return f"rain in {place}"

    assert dspy.ReAct("question -> answer", tools=[weather])(question="Weather?").answer == "It is wet."
    assert "rain in Kent" in server.last


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    class Turn(dspy.Signature):
        question: str = dspy.InputField()
        history: dspy.History = dspy.InputField()
        answer: str = dspy.OutputField()

    using(server, SHORT)
    before = dspy.History(messages=[{"question": "Hi.", "answer": "Hello."}])
    dspy.Predict(Turn)(question="Again.", history=before)
    assert "Hello." in server.last


@tries("pictures in a prompt")
def _(server: Replies) -> None:
    class Look(dspy.Signature):
        picture: dspy.Image = dspy.InputField()
        answer: str = dspy.OutputField()

    using(server, SHORT)
    dspy.Predict(Look)(picture=dspy.Image("data:image/png;base64,iVBORw0KGgo="))
    assert "image_url" in server.last


@tries("a text while it is written")
def _(server: Replies) -> None:
    using(server, LONG)
    listening = dspy.streaming.StreamListener(signature_field_name="answer")
    program = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listening])

    async def parts() -> list[object]:
        return [part async for part in program(question="Describe rain.")]

    assert len(asyncio.run(parts())) > 1


@tries("async")
def _(server: Replies) -> None:
    using(server, SHORT)
    found = asyncio.run(dspy.Predict("question -> answer").acall(question="Describe rain."))
    assert found.answer == "Rain."


@tries("searches such as trees or majority votes")
def _(server: Replies) -> None:
    using(server, SHORT)
    found = [dspy.Prediction(answer=text) for text in ("a", "b", "b")]
    assert dspy.majority(found).answer == "b"


@tries("prompts are optimised on examples")
def _(server: Replies) -> None:
    using(server, SHORT)
    known = [dspy.Example(question="Describe rain.", answer="Rain.").with_inputs("question")] * 3
    made = dspy.BootstrapFewShot(metric=lambda example, found, trace=None: example.answer == found.answer)
    program = made.compile(dspy.Predict("question -> answer"), trainset=known)
    assert program.demos


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> str:
    dspy.LM("anthropic/claude-3-haiku", api_key="none")
    return "by litellm; no provider was asked"


@tries("every draft is kept, with what was said of it")
def _(server: Replies) -> str:
    model = using(server, SHORT)
    dspy.Predict("question -> answer")(question="Describe rain.")
    assert model.history
    return "every call, in the model's history; no verdicts"


@tries("a busy server is asked again")
def _(server: Replies) -> None:
    using(server, 429, SHORT)
    assert dspy.Predict("question -> answer")(question="Describe rain.").answer == "Rain."


@tries("replies are cached in a file")
def _(server: Replies) -> None:
    from tempfile import mkdtemp

    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=False, disk_cache_dir=mkdtemp())
    using(server, SHORT)
    for _ in range(2):
        dspy.Predict("question -> answer")(question="Describe rain.")
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    assert len(server.requests) == 1


@tries("tests without a model")
def _(server: Replies) -> None:
    from dspy.utils import DummyLM

    dspy.configure(lm=DummyLM([{"answer": "Rain."}]))
    assert dspy.Predict("question -> answer")(question="Describe rain.").answer == "Rain."


@tries("a file of prompts becomes a file of answers")
def _(server: Replies) -> str:
    using(server, SHORT)
    module = dspy.Predict("question -> answer")
    found = module.batch([dspy.Example(question=q).with_inputs("question") for q in ("A", "B")])
    assert len(found) == 2
    return "a list in parallel; reading and writing files is left to you"


@tries("scores with intervals")
def _(server: Replies) -> None:
    using(server, SHORT)
    known = [dspy.Example(question="A", answer="Rain.").with_inputs("question")] * 3
    found = dspy.Evaluate(devset=known, metric=lambda e, p, trace=None: e.answer == p.answer)(
        dspy.Predict("question -> answer")
    )
    assert hasattr(found, "interval"), "a score without an interval"


@tries("published tasks, scored")
def _(server: Replies) -> str:
    from dspy.datasets.gsm8k import gsm8k_metric

    right = dspy.Prediction(answer="It is 4.")
    assert gsm8k_metric(dspy.Example(answer="4"), right)
    return "GSM8K, MATH and HotPotQA, fetched from the hub; the metric was tried"


@tries("tools for agents by MCP")
def _(server: Replies) -> str:
    assert dspy.Tool.from_mcp_tool
    return "it uses tools of MCP servers, and gives none"


@tries("PPO, RLOO or GRPO")
def _(server: Replies) -> str:
    from importlib.util import find_spec

    assert find_spec("dspy.teleprompt.grpo")
    return "GRPO by the server Arbor, not tried"


@tries("supervised fine-tuning")
def _(server: Replies) -> str:
    assert dspy.BootstrapFinetune
    return "BootstrapFinetune by a provider or a local server, not tried"


LACKS = {
    "form is mended without the model": "",
    "the invalid part is filtered out": "",
    "a check steers the model word by word": "",
    "a grammar or regular expression of yours steers": "",
    "a budget of tokens for one answer": "",
    "a budget of money": "",
    "a call is ended from outside and keeps what it has": "",
    "goes on after kill -9 without paying twice": "the cache on disk serves as one",
    "partial objects while they are written": "",
    "an API like OpenAI's": "",
    "the API's answers are checked and revised": "",
    "keys for users": "",
    "votes by people": "",
    "a judge compares two models, in both orders": "",
    "a share of answers as a test of pytest": "",
    "training on chains of answer, criticism and revision": "",
    "a graph of steps with kept state": "",
    "traces by OpenTelemetry": "by MLflow or others, not its own",
    "a web page to chat": "",
    "a program of fixed text and generated parts": "a program of modules in Python, not of tokens",
    "runs a GGUF file": "",
    "a ranking of models (Elo, Bradley–Terry)": "",
}

if __name__ == "__main__":
    main(LACKS)

"""The account of a chain: writer, critic and judge are three models, each with its own price."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.chain import Chain, Usage
from redraft.engines.base import Price
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import CheckError, ServerError, UsageError
from redraft.revision.options import Budget
from tests.engines.fake_server import FakeServer, models_reply

BAD, JUDGED = "Too dull a text. Revision is needed.", "It is dull.\nScore: 3"


def priced(replies: list[Any], name: str, completion: float | None) -> ScriptedEngine:
    price = None if completion is None else redraft.Price(0, completion * 1e6)
    return ScriptedEngine(replies, name=name, price=price)


def three(writer: float | None = 1, critic: float | None = 10, judge: float | None = 100) -> dict[str, Any]:
    return {
        "model": priced(["One gull.", "Two grey gulls."], "small", writer),
        "critic": priced([BAD], "large", critic),
        "judge": priced([JUDGED], "strict", judge),
        "checks": ["judge:lively"],
        "max_revisions": 1,
    }


def test_each_call_has_the_price_of_its_own_model() -> None:
    chain = redraft.revise("Describe gulls.", **three())
    written, criticised, judged = len("One gull.Two grey gulls."), len(BAD), 2 * len(JUDGED)
    roles = chain.usage_by_role
    assert {role: (u.model, u.completion_tokens, u.cost_usd) for role, u in roles.items()} == {
        "writer": ("small", written, pytest.approx(written)),
        "critic": ("large", criticised, pytest.approx(10 * criticised)),
        "judge": ("strict", judged, pytest.approx(100 * judged)),
    }
    assert chain.usage.cost_usd == pytest.approx(sum(u.cost_usd or 0 for u in roles.values()))
    assert chain.usage.completion_tokens == sum(u.completion_tokens for u in roles.values())
    assert sum(step.usage.cost_usd or 0 for step in chain.steps) == pytest.approx(chain.usage.cost_usd)
    assert Chain.from_json(chain.to_json()) == chain
    assert sum([Usage(cost_usd=0.1)] * 3, Usage()).cost_usd == 0.3


def test_a_judge_is_paid_although_another_check_crashes() -> None:
    def crash(_answer: str) -> bool:
        time.sleep(0.2)
        raise KeyError("gull")

    with pytest.raises(CheckError) as failure:
        redraft.revise(
            "Describe gulls.",
            model=ScriptedEngine(["One gull."]),
            judge=priced([JUDGED], "strict", 100),
            checks=["judge:lively", crash],
        )
    chain = failure.value.chain
    assert chain is not None
    assert chain.usage_by_role["judge"].cost_usd == pytest.approx(100 * len(JUDGED))
    assert chain.usage.completion_tokens == chain.steps[0].usage.completion_tokens


def test_the_price_option_is_the_writers() -> None:
    roles = redraft.revise("Describe gulls.", price=redraft.Price(0, 2e6), **three()).usage_by_role
    assert roles["writer"].cost_usd == 2 * roles["writer"].completion_tokens
    assert roles["critic"].cost_usd == 10 * roles["critic"].completion_tokens


def test_a_writer_alone_needs_no_breakdown() -> None:
    chain = redraft.revise("Describe gulls.", model=priced(["One gull.", BAD], "small", 1), max_revisions=0)
    assert chain.usage.cost_usd == len("One gull.")
    assert "usage_by_role" not in json.loads(chain.to_json())


@pytest.mark.parametrize(
    ("usd", "answers", "stop"),
    [
        (8, ["One gull"], "budget"),
        (1000, ["One gull."], "budget"),
        (9000, ["One gull.", "Two grey gulls."], "max_revisions"),
    ],
)
def test_a_budget_of_money_holds_for_all_of_them(usd: float, answers: list[str], stop: str) -> None:
    chain = redraft.revise("Describe gulls.", budget=redraft.Budget(usd=usd), **three())
    assert ([step.answer for step in chain.steps], chain.stop) == (answers, stop)


def test_a_dear_critic_is_not_asked_when_a_cheap_writer_still_could_be() -> None:
    options = {
        "budget": redraft.Budget(usd=15),
        "model": priced(["One gull."], "small", 1),
        "max_revisions": 1,
    }
    critic = priced([BAD], "large", 10)
    chain = redraft.revise("Describe gulls.", critic=critic, **options)  # type: ignore[arg-type]
    assert (chain.stop, chain.answer, critic.calls) == ("budget", "One gull.", [])


@pytest.mark.parametrize(("role", "named"), [("model", "small"), ("critic", "large"), ("judge", "strict")])
def test_a_budget_of_money_needs_every_price(role: str, named: str) -> None:
    options = three(**{"writer" if role == "model" else role: None})
    with pytest.raises(UsageError, match=f"needs the price of the {role} '{named}'") as caught:
        redraft.revise("Describe gulls.", budget=redraft.Budget(usd=1), **options)
    assert '[prices."host#model"]' in str(caught.value.hint)
    assert not options["model"].calls


def test_a_resumed_chain_keeps_the_account() -> None:
    whole = redraft.revise("Describe gulls.", **three())
    options = three()
    options["model"].replies = ["One gull.", ScriptedReply("", error=ServerError("gone."))]
    with pytest.raises(ServerError) as caught:
        redraft.revise("Describe gulls.", **options)
    assert caught.value.chain
    cut = Chain.from_json(caught.value.chain.to_json())
    options["model"].replies = ["Two grey gulls."]
    counts = [
        {role: (u.model, u.completion_tokens, u.cost_usd) for role, u in each.usage_by_role.items()}
        for each in (whole, redraft.revise("Describe gulls.", resume=cut, **options))
    ]
    assert counts[0] == counts[1]


def test_an_earlier_chain_without_roles_or_costs_is_the_writers() -> None:
    earlier = Chain(prompt={"instruction": "Describe gulls."}, usage=Usage(completion_tokens=50))  # type: ignore[arg-type]
    options = three() | {"resume": earlier}
    chain = redraft.revise("Describe gulls.", budget=redraft.Budget(usd=40), **options)
    assert (chain.stop, chain.usage.cost_usd, options["model"].calls) == ("budget", 50, [])


def test_a_server_has_the_price_of_the_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("big"))
        config = tmp_path / "config.toml"
        config.write_text(f'[prices."{server.host}#big"]\nprompt = 1.25\ncompletion = 10\n', encoding="utf-8")
        monkeypatch.setenv("REDRAFT_CONFIG", str(config))

        async def prices() -> list[redraft.Price | None]:
            engines = [await redraft.load_engine(ref) for ref in (server.url, f"{server.url}#big")]
            for engine in engines:
                await engine.aclose()
            return [engine.info.price for engine in engines]

        assert asyncio.run(prices()) == [redraft.Price(1.25, 10)] * 2


# Budgets and prices.


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=100)
    assert Price(2, 8).cost(usage) == pytest.approx(0.0028)
    assert Price(2, 8, cached=0.5).cost(usage) == pytest.approx((600 * 2 + 400 * 0.5 + 100 * 8) / 1e6)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.floats(0.01, 10))
def test_what_is_left_is_never_more_than_the_budget(tokens: int, used: int, usd: float) -> None:
    budget, price = Budget(tokens=tokens, usd=usd), Price(1, 2)
    usage = Usage(completion_tokens=used, cost_usd=used * 2e-6)
    left = budget.tokens_left(usage, price)
    assert left is not None
    assert left == max(0, min(tokens - used, int(round(usd - used * 2e-6, 9) * 5e5)))
    assert budget.spent(usage, price, 0) == (left == 0 or round(used * 2e-6, 9) >= usd)


@pytest.mark.parametrize("value", [0, "x", True, -1, float("nan"), float("inf"), 1.5, [1]])
def test_a_budget_that_is_no_number_above_zero_is_refused(value: Any) -> None:
    for name in ("tokens", "seconds", "usd")[: 1 if value == 1.5 else 3]:
        with pytest.raises(UsageError, match=f"budget.{name} is"):
            Budget(**{name: value})


@pytest.mark.parametrize("value", ["x", True, None, [1], -1, float("nan"), float("inf"), 10**400])
def test_a_price_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="the price of prompt tokens cannot be"):
        Price(value, 1)
    with pytest.raises(UsageError, match="the price of completion tokens cannot be"):
        Price(1, value)
    assert Price(1, 1, None).cached is None

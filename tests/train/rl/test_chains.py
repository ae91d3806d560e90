"""Records of what a policy wrote, and their scores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from redraft.chain import Chain, Prompt, Step
from redraft.formats.encoder import Example, PromptEncoder, Skipped
from redraft.train import SAMPLES
from redraft.train.rl import algorithm
from redraft.train.rl.ppo import Experience
from redraft.train.rl.rewards import Rewards
from redraft.train.rl.samples import Response, Samples, Score, opening, recorded, scored
from tests.train.rl.test_experience import responses
from tests.train.rl.tiny_policy import TOKENIZER, policy, prompts, shaken

RECORD = Chain(id="p", prompt=Prompt(instruction="Add 2 and 2."), meta={"reference": "4"})
REVISED = "5\n### Feedback 1:\n2 + 2 is 4. Revision is needed.\n### Revision 1:\n4"
ACCEPTED = "4\n### Feedback 1:\nRevision is not needed."


def written(text: str) -> Response:
    """A text as the policy writes it, which ends by itself."""
    return Response((*TOKENIZER.encode(text), TOKENIZER.eos_token_id), text, ended=True)


async def is_4(chains: Sequence[Chain]) -> list[float]:
    """1 for the answer 4."""
    return [float(each.answer.strip() == each.meta["reference"]) for each in chains]


def scores(*texts: str) -> list[Score]:
    """The scores of chains as texts."""
    made = [written(text) for text in texts]
    records = [recorded(RECORD, each, chains=True) for each in made]
    return asyncio.run(scored(Rewards({"is_4": (1.0, is_4)}), records, made, TOKENIZER))


def test_a_record_has_the_steps_that_were_written_and_its_own_fields() -> None:
    chain = recorded(RECORD, written(REVISED), chains=True)
    assert [step.answer for step in chain.steps] == ["5", "4"]
    assert (chain.id, chain.answer, chain.meta) == ("p", "4", {"reference": "4"})
    assert recorded(RECORD, written(REVISED), chains=False).answer == REVISED


def test_a_score_has_the_reward_of_the_final_answer_and_of_the_first() -> None:
    found = scores(REVISED, ACCEPTED, "4", "", REVISED.replace("5", "6").replace("1:\n4", "1:\n7"))
    assert [(each.reward, each.first) for each in found] == [(1, 0), (1, 1), (1, 1), (0, 0), (0, 0)]


@pytest.mark.parametrize("text", [REVISED, ACCEPTED])
def test_the_opening_ends_with_the_heading_of_the_feedback(text: str) -> None:
    made = written(text)
    place = opening(recorded(RECORD, made, chains=True), made, TOKENIZER)
    assert "### Feedback 1:" in TOKENIZER.decode(made.tokens[:place])
    assert "### Feedback 1:" not in TOKENIZER.decode(made.tokens[: place - 1])


def test_an_answer_without_feedback_is_all_opening() -> None:
    assert [each.opening for each in scores("4", "")] == [2, 1]


def test_a_text_with_a_cut_character_has_an_opening_too() -> None:
    text = "4 é\n### Feedback 1:\nGood ☃"
    tokens = tuple(TOKENIZER.encode(text))[:-1]
    made = Response(tokens, TOKENIZER.decode(tokens), ended=False)
    assert 0 < opening(recorded(RECORD, made, chains=True), made, TOKENIZER) < len(tokens)


def returns(*found: Score, **settings: float | str | int) -> dict[str, torch.Tensor]:
    """The tensors of responses of five tokens, without a price on KL."""
    own = {"chains": True, "init_kl_coef": 0.0, "lam": 1.0} | settings
    made = shaken(policy(**own))
    texts = responses(*[5] * len(found))
    return Experience(made, made.own, size=2, bf16=False).complete(prompts(len(found)), texts, found)


RIGHT_TO_WRONG, WRONG_TO_RIGHT, ACCEPTED_AS_IT_IS = Score(0.0, 1.0, 3), Score(1.0, 0.0, 2), Score(1.0, 1.0, 3)


@pytest.mark.parametrize("lam", [1.0, 0.95, 0.5])
def test_each_part_of_a_chain_is_credited_with_its_own_score(lam: float) -> None:
    batch = returns(
        WRONG_TO_RIGHT, RIGHT_TO_WRONG, ACCEPTED_AS_IT_IS, revision_bonus=0.5, lam=lam, algorithm="ppo-trlx"
    )
    # The value head of `policy` is not trained: the return of a part's last token is its reward.
    for row, (count, first, second) in enumerate([(2, 0.0, 1.5), (3, 1.0, -0.5), (3, 1.0, 1.0)]):
        found = batch["returns"][row]
        assert found[count - 1].item() == pytest.approx(first)
        assert found[4].item() == pytest.approx(second)
        if lam == 1:
            expected = [first] * count + [second] * (5 - count)
            assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("lam", [1.0, 0.95, 0.5])
def test_what_follows_answer_0_does_not_change_its_credit(lam: float) -> None:
    """Right to wrong had +0.76 and wrong to right −1.21 there, when the bonus was taken back at its end."""
    made = policy(chains=True, init_kl_coef=0.0, revision_bonus=1.0, lam=lam)
    found = [Score(1.0, 0.0, 3), Score(0.0, 0.0, 3), Score(0.0, 1.0, 3), Score(1.0, 1.0, 3)]
    experience = Experience(made, made.own, size=2, bf16=False)
    batch = experience.complete(prompts(4), responses(5, 5, 5, 5), found)
    first, then = batch["advantages"][:, :3], batch["advantages"][:, 3:]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[2], first[3])
    assert first[:2].max() < 0 < first[2:].min()
    assert then[0].min() > 0 > then[2].max()  # corrected, and spoilt


def compared(name: str, *found: Score, same: bool) -> torch.Tensor:
    """Advantages of four chains of five tokens to a prompt, all with the same answer 0 or each its own."""
    made = shaken(policy(chains=True, init_kl_coef=0.0, algorithm=name, revision_bonus=0.5))
    rows = [(7, 8) if same else (20 + n, 8) for n in range(len(found))]
    texts = [Response((*row, 40 + n, 41, 42), "text", ended=True) for n, row in enumerate(rows)]
    asked = prompts(1) * len(found)
    return Experience(made, made.own, size=2, bf16=False).complete(asked, texts, found)["advantages"]


CORRECTED, LEFT_WRONG = Score(1.0, 0.0, 2), Score(0.0, 0.0, 2)
SPOILT, LEFT_RIGHT = Score(0.0, 1.0, 2), Score(1.0, 1.0, 2)


def test_chains_that_share_answer_0_are_compared_with_each_other() -> None:
    found = compared("rloo", CORRECTED, LEFT_WRONG, LEFT_WRONG, LEFT_WRONG, same=True)
    assert not found[:, :2].any()
    assert torch.allclose(found[:, 4], torch.tensor([1.5, -0.5, -0.5, -0.5]))
    found = compared("grpo", CORRECTED, LEFT_WRONG, LEFT_WRONG, LEFT_WRONG, same=True)
    assert torch.allclose(found[:, 4], torch.tensor([1.5, -0.5, -0.5, -0.5]), atol=1e-4)


def test_chains_with_other_answers_0_are_no_baseline() -> None:
    """Right at once and left so was worth less than wrong and corrected, to the text after answer 0."""
    found = compared("rloo", CORRECTED, LEFT_WRONG, SPOILT, LEFT_RIGHT, same=False)
    assert torch.allclose(found[:, 0], torch.tensor([-1.0, -1.0, 1.0, 1.0]) * 2 / 3)
    assert torch.allclose(found[:, 4], torch.tensor([1.5, 0.0, -1.5, 0.0]))
    found = compared("grpo", CORRECTED, LEFT_WRONG, SPOILT, LEFT_RIGHT, same=False)
    assert found[:, 4].sign().tolist() == [1, 0, -1, 0]


def test_without_a_bonus_chains_are_as_answers() -> None:
    chains, answers = (
        returns(Score(1.0, 0.0, first), Score(0.0, 0.0, first), algorithm="rloo", num_generations=2)
        for first in (2, 5)
    )
    assert torch.allclose(chains["advantages"], answers["advantages"])


def test_answer_0_may_have_a_price_of_its_own() -> None:
    batch = returns(Score(0.0, 0.0, 2), Score(0.0, 0.0, 5), init_kl_coef=0.1, first_kl_coef=2.0)
    ratios = algorithm.kl_k1(batch["log_probs"], batch["ref_log_probs"], batch["mask"])[0]
    prices = torch.tensor([2.0, 2.0, 0.1, 0.1, 0.1])
    expected = (-prices * ratios).flip(0).cumsum(0).flip(0)
    assert torch.allclose(batch["returns"][0], expected, atol=1e-5)


def test_metrics_say_what_revising_changed() -> None:
    made = policy(chains=True)
    experience = Experience(made, made.own, size=2, bf16=False)
    found = [Score(1, 0, 2), Score(0, 1, 2), Score(1, 1, 2), Score(1, 1, 5)]
    experience.complete(prompts(4), responses(5, 5, 5, 5), found)
    expected = {"reward": 0.75, "first_reward": 0.75, "improved": 0.25, "harmed": 0.25, "with_feedback": 0.75}
    assert {name: experience.metrics[name] for name in expected} == expected


def test_samples_keep_the_score_of_a_chain(tmp_path: Path) -> None:
    made, found = [written(REVISED), written("4")], scores(REVISED, "4")
    samples = Samples(tmp_path)
    samples.open(0)
    samples.add(0, range(2), [("p", "Add."), ("p", "Add.")], made, found)
    assert "first_reward" not in json.loads((tmp_path / SAMPLES).read_text().splitlines()[1])
    again = Samples(tmp_path)
    again.open(0)
    assert again.kept(0, range(2), [("p", "Add.")] * 2) == (made, found)
    assert again.kept(0, range(2), [("p", "Add!")] * 2) == ([], [])


def test_a_given_answer_0_is_criticised_and_revised() -> None:
    given = RECORD.model_copy(update={"steps": (Step(answer="5"),)})
    made = written("2 + 2 is 4. Revision is needed.\n### Revision 1:\n4")
    chain = recorded(given, made, chains=True)
    assert [step.answer for step in chain.steps] == ["5", "4"]
    [score] = asyncio.run(scored(Rewards({"is_4": (1.0, is_4)}), [chain], [made], TOKENIZER, given=True))
    assert (score.reward, score.first, score.opening, score.accepts) == (1, 0, 0, False)


def test_prompts_end_where_the_policy_goes_on() -> None:
    asked = PromptEncoder(TOKENIZER, "selfee", 400, 100, given=True)
    given = RECORD.model_copy(update={"steps": (Step(answer="5"),)})
    found = asked.encode(given)
    assert isinstance(found, Example)
    assert TOKENIZER.decode(found.ids).endswith("### Answer:\n5\n\n### Feedback 1:\n")
    assert asked.encode(RECORD) == Skipped("no first answer to criticise")
    assert asked.fingerprint != PromptEncoder(TOKENIZER, "selfee", 400, 100).fingerprint


def test_accepting_everything_earns_as_much_as_rejecting_everything() -> None:
    firsts = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    for verdict in (0.0, 1.0):
        assert algorithm.verdict_credits(torch.full_like(firsts, verdict), firsts).mean() == 0.5
    assert algorithm.verdict_credits(firsts, firsts).mean() == 1
    assert algorithm.verdict_credits(torch.full_like(firsts, torch.nan), firsts).mean() == 0


def test_a_right_verdict_is_credited_to_what_follows_answer_0() -> None:
    found = [
        Score(1.0, 1.0, 2, accepts=True),
        Score(0.0, 0.0, 2, accepts=True),
        Score(1.0, 1.0, 2, accepts=None),
        Score(0.0, 0.0, 2, accepts=False),
    ]
    batch = returns(*found, verdict_bonus=1.0, algorithm="ppo-trlx")
    assert batch["returns"][:, 4].tolist() == pytest.approx([2.0, 0.0, 1.0, 1.0])
    assert batch["returns"][:, 1].tolist() == pytest.approx([1.0, 0.0, 1.0, 0.0])


def test_metrics_say_how_right_verdicts_are() -> None:
    made = policy(chains=True)
    experience = Experience(made, made.own, size=2, bf16=False)
    found = [Score(1, 1, 2, accepts=True), Score(0, 0, 2, accepts=True)]
    experience.complete(prompts(2), responses(5, 5), found)
    assert (experience.metrics["accepted"], experience.metrics["verdicts"]) == (1.0, 0.5)
    experience.complete(prompts(2), responses(5, 5), found[:1] * 2)
    assert "verdicts" not in experience.metrics

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GraniteConfig, GraniteForCausalLM

from redraft.train.attention import use_segments
from redraft.train.load import add_adapter, leave_inputs_to_autocast
from redraft.train.options import PpoOptions
from redraft.train.ppo import Learner
from redraft.train.rl.policy import WORTH, tree_of, unwrapped
from redraft.train.verb import bare_of
from tests.train.rl.tiny_policy import policy, prompts, shaken
from tests.train.tiny import SHAPE


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.full((3, 9), 7)
    ids[0, :8] = torch.arange(20, 28)
    ids[1, :4] = torch.arange(30, 34)
    ids[2, :6] = torch.arange(40, 46)
    return ids, torch.tensor([5, 4, 4]), torch.tensor([[1, 1, 1], [0, 0, 0], [1, 1, 0]]).bool()


def test_what_it_says_of_a_response_is_what_the_model_says_of_each_row_alone() -> None:
    made = shaken(policy())
    ids, starts, mask = batch()
    seen = made.see(ids, starts, mask)
    for row, (start, count) in enumerate(zip(starts.tolist(), mask.sum(1).tolist(), strict=True)):
        out = made.model(ids[row : row + 1, : start + count], output_hidden_states=True)
        chances = out.logits[0].log_softmax(-1)
        for place in range(mask.shape[1]):
            if place >= count:
                assert seen.log_probs[row, place] == seen.values[row, place] == seen.entropy[row, place] == 0
                continue
            at = start + place - 1
            expected = chances[at, ids[row, at + 1]]
            assert seen.log_probs[row, place].item() == pytest.approx(expected.item(), abs=1e-5)
            entropy = -(chances[at].exp() * chances[at]).sum()
            assert seen.entropy[row, place].item() == pytest.approx(entropy.item(), abs=1e-4)
            value = made.value_head(out.hidden_states[-1][0, at])
            assert seen.values[row, place].item() == pytest.approx(value.item(), abs=1e-5)


def test_a_model_that_scales_its_logits_does_so_in_training_too() -> None:
    torch.manual_seed(1)
    config = GraniteConfig(vocab_size=100, **SHAPE, logits_scaling=0.05)
    own, (ids, starts, mask) = PpoOptions(), batch()
    model = add_adapter(GraniteForCausalLM(config), own, note={})
    seen = Learner(model, own).see(ids, starts, mask)
    chances = model(ids).logits.log_softmax(-1)
    for row, place in mask.nonzero().tolist():
        at = int(starts[row]) + place
        assert seen.log_probs[row, place].item() == pytest.approx(
            chances[row, at - 1, ids[row, at]].item(), abs=1e-4
        )


def test_the_reference_is_the_model_without_its_adapter() -> None:
    made, before = policy(), policy()
    shaken(made)
    assert torch.allclose(made.see_reference(*batch()), before.see(*batch()).log_probs, atol=1e-6)
    assert not torch.allclose(made.see_reference(*batch()), made.see(*batch()).log_probs, atol=1e-2)


def test_an_adapter_in_the_weights_computes_the_same_and_leaves_them_as_they_were() -> None:
    made = shaken(policy())
    ids = torch.tensor([list(prompts()[0].tokens)])
    with torch.no_grad():
        wanted = made.model(ids).logits
        before = {name: each.clone() for name, each in made.state_dict().items()}
        with unwrapped(made.model) as bare:
            assert not any("lora" in name for name, _ in bare.named_parameters())
            assert torch.allclose(bare(ids).logits, wanted, atol=1e-4)  # of logits up to 10
        assert torch.equal(made.model(ids).logits, wanted)
    assert all(torch.equal(before[name], each) for name, each in made.state_dict().items())


def test_in_16_bits_the_adapter_of_a_first_step_is_not_rounded_away() -> None:
    """Merged into the weights, most of it was: texts were written by another policy than was trained."""
    made = policy()
    for name, each in made.named_parameters():
        each.requires_grad_("lora" in name)
        each.data = each.data if "lora" in name else each.data.bfloat16()
        if "lora_B" in name:  # as after a step of Adam
            each.data.fill_(2e-4)
    ids, at = torch.tensor([list(prompts()[0].tokens)]), torch.autocast("cpu", torch.bfloat16)
    leave_inputs_to_autocast(made.model)
    with torch.no_grad(), at:
        trained = made.model(ids).logits
    with torch.no_grad(), unwrapped(made.model) as bare:
        assert torch.equal(bare(ids).logits, trained)
    with torch.no_grad(), made.model.disable_adapter(), at:
        assert not torch.equal(made.model(ids).logits, trained)


def test_a_minibatch_in_parts_has_the_gradient_of_the_whole() -> None:
    def gradients(parts: list[list[int]]) -> dict[str, torch.Tensor]:
        made = shaken(policy())
        ids, starts, mask = batch()
        torch.manual_seed(5)
        drawn = {name: torch.randn(mask.shape) for name in ("log_probs", "values", "advantages", "returns")}
        tensors = {
            "input_ids": ids, "starts": starts, "mask": mask, "ref_log_probs": torch.zeros(3, 3),
            **drawn,
        }  # fmt: skip
        for rows in parts:
            made(**{name: each[rows] for name, each in tensors.items()}, num_items_in_batch=5).loss.backward()
        return {name: each.grad for name, each in made.named_parameters() if each.grad is not None}

    whole, parts = gradients([[0, 1, 2]]), gradients([[2], [0, 1]])
    assert whole.keys() == parts.keys()
    assert any("value_head" in name for name in whole)
    for name, each in whole.items():
        assert torch.allclose(each, parts[name], atol=1e-6), name


# A beginning that rows share is computed once, and changes nothing.


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=1, max_size=6))
def test_each_row_stands_on_its_branches(rows: list[list[int]]) -> None:
    tree = tree_of(rows)
    starts = [sum(each.tokens for each in tree.branches[:n]) for n in range(len(tree.branches) + 1)]
    assert starts[-1] == tree.ids.shape[1] <= sum(map(len, rows))
    for row, places in zip(rows, tree.places.tolist(), strict=True):
        at = places[: len(row)]
        assert (tree.ids[0, at].tolist(), tree.positions[0, at].tolist()) == (row, list(range(len(row))))
        last = next(n for n in range(len(tree.branches)) if starts[n] <= at[-1] < starts[n + 1])
        path = (*tree.branches[last].above, last)
        assert at == [place for n in path for place in range(starts[n], starts[n + 1])][: len(row)]


def test_what_is_shared_is_there_once() -> None:
    shared, own = list(range(20)), [7] * WORTH
    assert tree_of([[*shared, 1, 2], [*shared, 3, *own, 4], [*shared, 3, *own, 5, 6]]).ids.shape == (
        1,
        20 + 2 + 1 + WORTH + 1 + 2,
    )
    assert tree_of([shared] * 8).ids.shape == (1, 20)


def test_the_policy_says_the_same_and_learns_the_same() -> None:
    ids = torch.randint(20, 40, (5, 24), generator=torch.Generator().manual_seed(3))
    ids[:, :9] = ids[0, :9]
    ids[2:4, :14] = ids[2, :14]  # two answers to one prompt
    starts = torch.tensor([11, 12, 14, 14, 10])
    mask = torch.arange(8) < torch.tensor([8, 3, 6, 8, 0])[:, None]
    plain, shared = shaken(policy()).double(), shaken(policy()).double()
    use_segments(bare_of(shared.model))
    assert (plain.branches, shared.branches) == (False, True)
    for one, other in zip(plain.see(ids, starts, mask), shared.see(ids, starts, mask), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        plain.see_reference(ids, starts, mask), shared.see_reference(ids, starts, mask), atol=1e-5, rtol=1e-5
    )
    for made in (plain, shared):
        seen = made.see(ids, starts, mask)
        (seen.log_probs.sum() + seen.values.square().sum()).backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), shared.named_parameters(), strict=True):
        if one.requires_grad:
            assert one.grad is not None, name
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-5)

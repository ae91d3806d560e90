"""A regression suite for answers: a test fails if the share that passes is certainly too low.

pip install '.[eval]' pytest; pytest test_answers.py --redraft-model MODEL
"""

import pytest

import redraft


@pytest.mark.redraft("Describe rain in one sentence.", checks=["sentences==1"], times=10, share=0.9)
def test_one_sentence(chains: list[redraft.Chain]) -> None:
    """The share is tested by the mark. The rest is as in any test."""
    assert all(chain.usage.completion_tokens < 200 for chain in chains)


@pytest.mark.redraft(
    "Answer in JSON, with the key name: who wrote Emma?", checks=["json", "keys:name"], times=10, share=0.8
)
def test_json() -> None: ...

from __future__ import annotations

import pytest

import redraft.evaluation.stats  # numpy cannot be imported again, and pytester takes imports back
import redraft.revision.api  # noqa: F401

pytest_plugins = ["pytester"]

TESTS = """
import pytest

def marked(share, checks=("words<=3",)):
    return pytest.mark.redraft("Describe rain.", checks=checks, model="script:replies.jsonl", mode="verified",
        max_revisions=0, times=20, share=share)

@marked(0.9)
def test_a_share_that_may_be_so_high(chains):
    assert len(chains) == 20 and {chain.answer for chain in chains} == {"Rain.", "It is rain that falls."}

@marked(1.0)
def test_a_share_that_is_surely_lower():
    raise SystemExit("this is not reached")

@marked(0.5, checks=["word<=3"])
def test_a_check_that_is_none(): ...

def test_no_mark(chains):
    assert chains == []
"""


def test_a_share_must_pass(pytester: pytest.Pytester) -> None:
    pytester.makefile(".jsonl", replies="\n".join(['"Rain."'] * 16 + ['"It is rain that falls."'] * 4))
    pytester.makepyfile(TESTS)
    done = pytester.runpytest("-q", "--strict-markers", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=2, failed=2)
    done.stdout.fnmatch_lines_random(
        [
            "*be_so_high: 16 of 20 answers pass (58% to 92%), and 90% must pass. Too few answers to tell.",
            "too few: 16 of 20 answers pass (58% to 92%), and 100% must pass.",
            "It is rain that falls.",
            "*5 words, and at most 3 are allowed*",
            "no check is called 'word'. Did you mean 'words'?",
        ]
    )


def test_another_model_by_an_option(pytester: pytest.Pytester) -> None:
    pytester.makefile(".jsonl", other='"It is rain that falls."')
    pytester.makepyfile(TESTS)
    done = pytester.runpytest("-q", "-k", "so_high", "--redraft-model", "script:other.jsonl")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines("*too few: 0 of 20 answers pass (0% to 16%), and 90% must pass.")

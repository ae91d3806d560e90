"""A pytest plugin: a test sends a prompt several times, and a share of the answers must pass the checks.

    @pytest.mark.redraft("Describe rain.", checks=["words<=10"], model="default", times=20, share=0.8)
    def test_rain(chains): ...

The test fails if the 95 % Wilson interval of the passing share lies entirely below `share`. So a test whose
true share is exactly `share` fails by chance once in forty runs. The summary shows all shares and intervals.
Only marked tests import redraft, because pytest loads this file in every project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from redraft.chain import Chain

_MARK = "redraft(prompt, checks=, model=, times=10, share=1.0, **options): this share of answers must pass"
_CHAINS = pytest.StashKey["list[Chain]"]()
_FOUND = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--redraft-model`."""
    parser.addoption("--redraft-model", metavar="REF", help="Ask this model in tests marked `redraft`.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `redraft`."""
    config.addinivalue_line("markers", _MARK)
    config.stash[_FOUND] = []


@pytest.fixture
def chains(request: pytest.FixtureRequest) -> list[Chain]:
    """The chains of a test marked `redraft`."""
    kept: list[Chain] = request.node.stash.setdefault(_CHAINS, [])
    return kept


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Generate answers before a marked test runs. Fail the test if too few answers pass."""
    if mark := pyfuncitem.get_closest_marker("redraft"):
        from redraft.errors import RedraftError

        try:
            fault = _ask(pyfuncitem, *mark.args, **mark.kwargs)
        except RedraftError as error:
            fault = str(error)
        if fault:
            pytest.fail(fault, pytrace=False)


def _ask(item: pytest.Item, prompt: Any, *, times: int = 10, share: float = 1.0, **options: Any) -> str:
    import redraft
    from redraft.evaluation.stats import proportion

    options["model"] = item.config.getoption("--redraft-model") or options.get("model", "default")
    seed = options.pop("seed", 1)
    made = [redraft.revise(prompt, **options, seed=seed + number) for number in range(max(times, 1))]
    item.stash.setdefault(_CHAINS, []).extend(made)
    wrong = [chain for chain in made if not chain.passed]
    found = proportion(len(made) - len(wrong), len(made))
    interval = f"{found.low:.0%} to {found.high:.0%}"
    line = f"{len(made) - len(wrong)} of {len(made)} answers pass ({interval}), and {share:.0%} must pass."
    line += " Too few answers to tell." * (found.low < share <= found.high and share < 1)
    item.config.stash[_FOUND].append(f"{item.nodeid}: {line}")
    if found.high >= share:
        return ""
    faults = [f"The first failure:\n{step.answer}\n{step.criticism}" for step in wrong[0].steps[-1:]]
    return "\n".join([f"too few: {line}", *faults])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the results of all marked tests, including passed tests."""
    if found := config.stash[_FOUND]:
        terminalreporter.section("redraft")
        terminalreporter.write_line("\n".join(found))

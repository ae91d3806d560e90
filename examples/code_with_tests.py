"""Ask for a function that must pass unit tests, which run in a sandbox (Debian: apt install bubblewrap).

python code_with_tests.py [MODEL]
"""

import sys

import redraft
from redraft.checks.code import CodeCheck

TASK = "Write a Python function median(row) for a list of numbers. It returns None for an empty list."
TESTS = CodeCheck(
    (
        "assert median([3, 1, 2]) == 2",
        "assert median([4, 1, 2, 3]) == 2.5",
        "assert median([]) is None",
    )
)

if __name__ == "__main__":
    chain = redraft.revise(TASK, model=(*sys.argv[1:], "default")[0], checks=[TESTS], max_tokens=300)
    print(chain.answer)
    for number, step in enumerate(chain.steps):
        print(f"answer {number}:", *(check.message for check in step.checks))

"""Translate with a glossary: each term of the source must be translated as the glossary says.

python translate.py [MODEL]
"""

import sys

import redraft

GLOSSARY = {"lighthouse": "Leuchtturm", "keeper": "Wärter", "lens": "Linse", "fog horn": "Nebelhorn"}
TEXT = "The keeper cleans the lens of the lighthouse every morning."


def translate(text: str, model: str) -> redraft.Chain:
    terms = {term: german for term, german in GLOSSARY.items() if term in text.lower()}
    listed = "; ".join(f"{term} = {german}" for term, german in terms.items())
    return redraft.revise(
        f"Translate into German. Use these words: {listed}.\n\n{text}",
        model=model,
        checks=[f"contains:{german}" for german in terms.values()],
        max_tokens=200,
    )


if __name__ == "__main__":
    chain = translate(TEXT, model=(*sys.argv[1:], "default")[0])
    print(chain.answer)
    for check in chain.steps[chain.best or 0].checks:
        print("✓" if check.passed else "✗", check.message)

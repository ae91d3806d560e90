"""Extract fields from a text as an object. If a field is wrong, the model gets the error and revises.

python extract_json.py [MODEL]
"""

import sys
from datetime import date

from pydantic import BaseModel, Field

import redraft

TEXT = "Invoice 2026-117 of Harbour Lamps, 4 March 2026. Two lenses. Please pay 1,240.50 EUR by 3 April 2026."


class Invoice(BaseModel):
    number: str
    due: date
    total: float = Field(gt=0, description="what is to be paid, without the currency")


def extract(text: str, model: str) -> Invoice | None:
    prompt = redraft.Prompt(instruction="Extract the invoice.", input=text)
    return redraft.revise(prompt, model=model, output=Invoice, temperature=0, max_tokens=200).value


if __name__ == "__main__":
    invoice = extract(TEXT, model=(*sys.argv[1:], "default")[0])
    print(invoice.model_dump_json(indent=2) if invoice else "No answer fitted.")

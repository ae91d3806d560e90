"""Judge answers: the review record, the parser of scores, and the judge model."""

"""Judge answers: the review record, the parser of its scores, and the judge model that writes it."""

"""Judge answers, and describe the judgements: reviews, statistics, and reports."""

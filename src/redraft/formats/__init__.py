"""Published records and training texts, to and from chains."""

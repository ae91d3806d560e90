"""Records to packed rows of tokens: render, tokenise, store, pack, batch."""

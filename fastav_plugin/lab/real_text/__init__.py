"""Real text: passages with facts, made by seed, asked of a pretrained language model.

The text of a passage is declared as media, so every pruning method applies to it. `words` and
`facts` are what passages are made of, `passages` places them, `arena` asks.
"""

#: Kinds of passages: of about 600 and 1,700 tokens, and of 600 that say all of it three times.
PASSAGES = ("short", "long", "repeated")

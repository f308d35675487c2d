"""What attention says of the media of one dense run: rankings for one cut, and layer by layer.

`attention_rows` reads it, `rankings` orders the media tokens by it in several ways, `study` makes
one cut by each ranking, and `tables` says how well each keeps the tokens that hold the answer.
"""

"""Untrusted media: where a client's media may come from, what they may cost, how they are read."""

"""Servers: `transformers serve` with pruning, and untrusted media for every server."""

"""Pruning inside Text Generation Inference, whose launcher, router and loop stay as they are.

Nothing here imports TGI or changes anything until a shard is started with a model override.
"""

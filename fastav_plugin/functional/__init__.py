"""Tensors in, tensors out: scores, attention rollout, max-min diversity, float32 products.

Nothing here knows a model, a cache or a hook.
"""

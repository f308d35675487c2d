"""Hooks on one model: the binding, the search for a model, and what is refused."""

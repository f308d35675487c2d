"""Hooks on one model, and when not: the binding, the search for a model, checks, identity."""

"""Selectors published after DivPrune, as pure functions: features in, picks out.

One file per idea; the hooks that use them say which paper it is. Each counts exactly, computes in
float32, picks nothing twice, and keeps the lowest index of equals.
"""

"""Attention rollout, under its public import path; the code is in `functional/`."""

from fastav_plugin.functional.rollout import rollout_row

__all__ = ["rollout_row"]

"""Theoretical cost of a prefill, under its public import path; the code is in `report.py`."""

from fastav_plugin.report import LayerCost, prefill_macs

__all__ = ["LayerCost", "prefill_macs"]

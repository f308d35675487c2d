"""Files of published benchmarks: rows, what they ask, and how an answer is judged.

A format is one file here and one row of `registry.FORMATS`.
"""

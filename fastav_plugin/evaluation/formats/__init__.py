"""Files of published datasets, one file per format: fields, questions, how answers are judged.

A format is one file here and one name in `registry`.
"""

"""One request, pass by pass: the prompt is read, checked, pruned and recorded, then decoded.

README.md follows one prompt through these files.
"""

"""What measures this package: benches, the papers' tables, an embedded model, a demo.

Only the command line imports it.
"""

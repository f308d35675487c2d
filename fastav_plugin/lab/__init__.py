"""What measures this package: benches, the papers' tables, a bundled model, a demo.

Only the command line imports it.
"""

"""The parts of `fastav eval`: what is asked, and the papers' tables."""

"""The parts of `fastav eval`: what is asked, under which settings, and the papers' tables."""

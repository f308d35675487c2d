"""Training of the bundled model. It is run from a checkout and left out of the wheel."""

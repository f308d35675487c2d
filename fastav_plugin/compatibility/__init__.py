"""Models that nobody wrote an override for: a probe on a tiny copy of the model decides."""

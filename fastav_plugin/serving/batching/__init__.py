"""Requests that are prefilled one by one and decoded together, each as if it were alone."""

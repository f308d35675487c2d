"""A small audio-visual model that answers, the synthetic world it knows, and its training."""

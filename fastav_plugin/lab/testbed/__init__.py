"""A small audio-visual model that answers, and the synthetic world it was trained on."""

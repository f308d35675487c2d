"""Training of the audio-language model. It is run from a checkout and left out of the wheel."""

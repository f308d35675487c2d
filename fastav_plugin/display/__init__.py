"""How results are shown: quantities in words, and a colour for each modality."""

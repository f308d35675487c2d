"""A small real audio-language model: Whisper base's encoder, a trained connector and SmolLM2.

It answers questions about spoken sentences; training/ is run from a checkout alone.
"""

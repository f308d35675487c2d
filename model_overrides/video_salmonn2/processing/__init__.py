"""Clips, sounds and text into the inputs of both models."""

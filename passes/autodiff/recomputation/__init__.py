"""Compute activations again on the way back instead of keeping them."""

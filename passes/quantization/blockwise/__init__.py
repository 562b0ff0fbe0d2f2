"""Weights in few bits, with a scale for each block of them."""

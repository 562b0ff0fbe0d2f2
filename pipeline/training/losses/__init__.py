"""Losses, one a file, written into the graph in ordinary operators."""

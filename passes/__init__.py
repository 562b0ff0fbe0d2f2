"""Passes: checked rewrites of a model, one a file."""

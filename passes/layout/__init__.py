"""Passes that change how a model is laid out: versions, shapes, axes."""

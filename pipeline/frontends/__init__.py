"""Frontends: models of other frameworks come in, each from a folder of its own."""

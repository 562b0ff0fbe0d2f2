"""Frontends: models of other frameworks come in, each in a file of its own."""

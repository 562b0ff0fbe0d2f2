"""Adapters: small factors that are trained in the place of weights, and merged into them."""

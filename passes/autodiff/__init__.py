"""Reverse-mode differentiation of graphs, in ordinary operators."""

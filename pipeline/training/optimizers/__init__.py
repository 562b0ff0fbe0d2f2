"""Optimizers, one family a file, written as graphs of ordinary operators."""

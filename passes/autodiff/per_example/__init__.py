"""Gradients in which no example of a batch weighs more than a limit."""

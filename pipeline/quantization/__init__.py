"""Quantize one artifact: what is asked for, the modes, the budget, the result."""

"""Passes that merge operators into fewer, equal ones."""

"""Environments of their own for frameworks whose packages collide with ours."""

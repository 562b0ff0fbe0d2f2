"""The table of custom operators."""

from __future__ import annotations

from onnxsmith.plugins import Table

OPERATORS = Table("custom operator", "onnxsmith.custom_ops", {})
"""Name to operator class; packages add rows through the entry points ``onnxsmith.custom_ops``."""

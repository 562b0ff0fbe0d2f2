"""Tests on trained models and data sets that nobody here wrote.

They live outside the project, under ``ONNXSMITH_MATERIAL`` (default ``../shared``).
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder, so that ``-m 'not real'`` leaves them out."""
    for item in items:
        if "real" in item.path.relative_to(ROOT / "tests").parts:
            item.add_marker(pytest.mark.real)

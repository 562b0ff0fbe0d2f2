"""Tests of the frontends whose frameworks the ordinary environment does not have.

``make test-frameworks`` runs them in an environment that holds all the frameworks.
"""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder, so that ``-m 'not frameworks'`` leaves them out."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.frameworks)

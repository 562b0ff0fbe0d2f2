"""Which interpreter a frontend's worker runs in: ours, or that of an environment of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.environments.environment import Environment, look
from onnxsmith.pipeline.frontends.base import Frontend
from onnxsmith.pipeline.frontends.table import (
    FRONTENDS,
    find_frontend,
    missing_packages,
    require_installed,
)


@dataclass(frozen=True)
class Interpreter:
    """Where a worker runs.

    Attributes:
        path: The Python.
        environment: The environment it belongs to; None for our own Python.
    """

    path: str
    environment: Environment | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of it, one line each."""
        if self.environment is None or self.environment.state == "ready":
            return ()
        name = self.environment.name
        return (
            f"the environment {name!r} is outdated ({self.environment.reason}): "
            f"'onnxsmith env create {name}' makes it anew",
        )


def find_interpreter(frontend: Frontend, environments: Path | None = None) -> Interpreter:
    """Return our own Python where it has the frontend's packages, else its environment's.

    Args:
        frontend: The frontend.
        environments: The folder of all environments; this user's where omitted.

    Raises:
        SmithError: Its packages are in neither, or its environment is broken.
    """
    if not missing_packages(frontend):
        return Interpreter(sys.executable)
    if not frontend.environment:
        require_installed(frontend)
    environment = look(frontend.environment, environments)
    if environment.state == "broken":
        raise SmithError(
            f"the environment {environment.name!r} is broken: {environment.reason}",
            f"make it anew: onnxsmith env create {environment.name}",
        )
    if not environment.usable:
        require_installed(frontend)
    return Interpreter(str(environment.interpreter), environment)


def served_by(environment: str) -> tuple[str, ...]:
    """Return the names of the frontends that an environment serves."""
    return tuple(n for n in FRONTENDS if find_frontend(n).environment == environment)

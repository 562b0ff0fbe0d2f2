"""Replicas as actors of a Ray cluster: the one that ``RAY_ADDRESS`` names, or a local one."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.training.parallel.replica import Answer, Part, Replica, Setup


class RayWorkers:
    """Actors.

    Args:
        setups: One an actor.

    Raises:
        SmithError: Ray is not installed, or its cluster cannot be reached.
    """

    def __init__(self, setups: Sequence[Setup]) -> None:
        if importlib.util.find_spec("ray") is None:
            raise SmithError(
                "--engine ray needs the package ray, which is not installed",
                "pip install 'onnxsmith[ray]', or give --engine local",
            )
        import ray

        self._ray: Any = ray
        self._started = not ray.is_initialized()
        if self._started:
            try:
                ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                raise SmithError(
                    f"the Ray cluster cannot be reached: {' '.join(str(error).split())[:200]}",
                    "see RAY_ADDRESS, or give --engine local",
                ) from error
        actor = ray.remote(Replica)
        self._actors = [
            actor.options(num_cpus=setup.threads or 1).remote(setup) for setup in setups
        ]
        self._pending: list[Any] = [None] * len(setups)

    def send(self, index: int, part: Part) -> None:
        """Hand a replica a part of a batch."""
        self._pending[index] = self._actors[index].answer.remote(part)

    def receive(self, index: int) -> Answer:
        """Wait for what a replica found.

        Raises:
            SmithError: It failed, or its process is gone.
        """
        try:
            found = self._ray.get(self._pending[index])
        except self._ray.exceptions.RayError as error:
            raise SmithError(
                f"a replica failed: {' '.join(str(error).split())[-200:]}",
                "see Ray's logs of the actor",
            ) from error
        assert isinstance(found, Answer)
        return found

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

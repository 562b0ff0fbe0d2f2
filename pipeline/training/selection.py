"""Which parameters are trained, and requests that cannot be met."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.training.graphs import float_parameters
from onnxsmith.pipeline.training.mixed import LossScale
from onnxsmith.pipeline.training.request import TrainRequest

_LARGEST_RATE = 3.4e38  # of float32


def check_request(request: TrainRequest) -> None:
    """Refuse numbers that make no sense, and options that need others.

    Raises:
        UsageError: There is one.
    """
    for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("parallel", 1)):
        if getattr(request, name) < least:
            raise UsageError(f"{name} is below {least}", "give a positive number")
    if request.rate is not None and not 0 <= request.rate <= _LARGEST_RATE:
        raise UsageError(f"the learning rate is {request.rate}", "give a number such as 0.001")
    if request.qat and request.lora:
        raise UsageError("--qat trains all weights, --lora adapters", "give one of the two")
    if request.resume and request.checkpoint is None:
        raise UsageError("--resume needs a folder to resume from", "give --checkpoint")


def chosen_parameters(artifact: Artifact, request: TrainRequest) -> list[str]:
    """Return the parameters to train.

    Raises:
        SmithError: A pattern matches nothing, or nothing is left.
    """
    known = float_parameters(artifact.model)
    for pattern in (*request.freeze, *request.only, *request.no_decay):
        if not fnmatch.filter(known, pattern):
            raise SmithError(
                f"no parameter is called {pattern!r}",
                "see 'onnxsmith inspect' for the initializers' names",
            )
    chosen = [
        name
        for name in known
        if (not request.only or matches(name, request.only)) and not matches(name, request.freeze)
    ]
    if not chosen:
        raise SmithError("every parameter is frozen: there is nothing to train", "freeze less")
    return chosen


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a name is that of one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def loss_scale_of(request: TrainRequest) -> LossScale | None:
    """Return how the loss is scaled: as asked for, or as half precision needs it.

    Raises:
        UsageError: It is no number, or training is private, which cuts gradients as they are.
    """
    text = request.loss_scale or ("dynamic" if request.precision == "float16" else None)
    if text is None:
        return None
    if request.private is not None:
        raise UsageError(
            "--private cuts gradients as they are, which are not scaled",
            "leave --loss-scale and --precision float16 away",
        )
    return LossScale.parse(text)

"""Are the samples fit to calibrate with?"""

from __future__ import annotations

from typing import Any

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext

FEW = 32
"""Fewer samples than this do not show the range of a tensor."""


def refuse_poor_data(context: PassContext, allowed: bool) -> None:
    """Refuse random data, and fewer samples than ``FEW``, unless they were asked for.

    Reads no more batches than needed to tell.

    Args:
        context: With the samples.
        allowed: Whether the user accepts such data.

    Raises:
        SmithError: The data are random, empty or few.
    """
    assert context.samples is not None  # passes that calibrate say so in their needs
    if context.synthetic and not allowed:
        raise SmithError(
            "random data says nothing about the ranges of real activations",
            "give real samples with --data, or insist with --allow-poor-data",
        )
    count = 0
    for feeds in context.samples():
        count += sample_count(feeds)
        if count >= FEW:
            return
    if not count:
        raise SmithError("the calibration data is empty", "give data with at least one sample")
    if not allowed:
        raise SmithError(
            f"the calibration data has {count} samples only; {FEW} or more show real ranges",
            "give more samples with --data, or insist with --allow-poor-data",
        )


def sample_count(feeds: dict[str, Any]) -> int:
    """Return how many samples a batch holds: the first dimension of its first input."""
    first = next(iter(feeds.values()), None)
    shape = getattr(first, "shape", ())
    return int(shape[0]) if shape else 1


def describe_data(context: PassContext, count: int) -> dict[str, Any]:
    """Return what the history and the report say about the data a model was calibrated on."""
    details: dict[str, Any] = {"calibration_samples": count}
    warnings = []
    if context.synthetic:
        details["calibration_data"] = "random"
        warnings.append("calibrated on random data: the ranges are not those of real activations")
    elif count < FEW:
        details["calibration_data"] = "few samples"
        warnings.append(f"calibrated on {count} samples only; ranges may be too narrow")
    if warnings:
        details["warnings"] = warnings
    return details

"""Session settings that travel in a model's metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence

import onnxruntime as ort

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError

SETTINGS_KEY = "onnxsmith.session"
"""Model metadata property: session settings that belong to the model, as a JSON object."""
DISABLED_KEY = "optimization.disable_specified_optimizers"
"""The runtime's own setting: names of its optimizers that stay off, joined by semicolons."""
LEVEL_KEY = "optimization.level"
"""The level of the runtime's optimizations: a key of :data:`LEVELS`."""
NHWC_KEY = "ep.cuda.prefer_nhwc"
"""Whether the CUDA provider runs convolutions with channels last: ``0`` or ``1``."""

LEVELS = {
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def travelling_settings(artifact: Artifact) -> dict[str, str]:
    """Return the session settings that travel in the artifact.

    Only settings that choose optimisations are obeyed: a model file is not to be trusted with
    folders or libraries.

    Raises:
        SmithError: They are damaged or not allowed.
    """
    text = artifact.model.metadata_props.get(SETTINGS_KEY, "{}")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise SmithError(
            f"the model's session settings are damaged: {error}",
            f"remove the metadata property {SETTINGS_KEY!r} from the file",
        ) from error
    allowed = ("optimization.", "session.qdq", "session.disable_prepacking", NHWC_KEY)
    if (
        not isinstance(settings, dict)
        or not all(k.startswith(allowed) and isinstance(v, str) for k, v in settings.items())
        or settings.get(LEVEL_KEY, "all") not in LEVELS
        or settings.get(NHWC_KEY, "0") not in ("0", "1")
    ):
        raise SmithError(
            "the model asks for session settings that a model may not set",
            f"remove the metadata property {SETTINGS_KEY!r} from the file",
        )
    return settings


def provider_options(artifact: Artifact, providers: Sequence[str]) -> list[dict[str, str]]:
    """Return the options of each provider that the artifact's settings ask for.

    Raises:
        SmithError: The settings are damaged or not allowed.
    """
    wanted = travelling_settings(artifact).get(NHWC_KEY)
    return [
        {"prefer_nhwc": wanted} if wanted and name == "CUDAExecutionProvider" else {}
        for name in providers
    ]

"""Let torchvision's Python parts be imported where its compiled parts are not those of this torch.

Its published wheels are linked against CUDA: beside a CPU build of torch their library does not
load, and the import fails because two operators are not declared. Declaring them is all that its
networks need; detection models, which call them, still cannot run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from onnxsmith.errors import SmithError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_FAULT = "operator torchvision::nms does not exist"


def with_torchvision(load: Callable[[], Any]) -> Any:
    """Return what ``load`` returns.

    Args:
        load: Imports the user's code; asked again after the operators were declared.

    Raises:
        SmithError: What ``load`` raises for any other reason.
    """
    try:
        return load()
    except SmithError as error:
        if _FAULT not in error.message:
            raise
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # torch's own
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]  # torch's own
    found = load()
    # The declarations live as long as the library object, and are wanted as long as torchvision.
    vars(sys.modules["torchvision"])["declared_by_onnxsmith"] = library
    return found

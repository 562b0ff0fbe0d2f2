"""All operators of MXNet that are imported, by name."""

from __future__ import annotations

from types import MappingProxyType

from onnxsmith.pipeline.frontends.mxnet.call import Family
from onnxsmith.pipeline.frontends.mxnet.operators import (
    activation,
    arithmetic,
    attention,
    boxes,
    convolution,
    creation,
    dense,
    detection,
    elementwise,
    indexing,
    joining,
    loss,
    normalization,
    pooling,
    recurrent,
    reduction,
    resampling,
    shape,
)

_FAMILIES = (
    activation,
    arithmetic,
    attention,
    boxes,
    convolution,
    creation,
    dense,
    detection,
    elementwise,
    indexing,
    joining,
    loss,
    normalization,
    pooling,
    recurrent,
    reduction,
    resampling,
    shape,
)

OPERATORS: Family = MappingProxyType(
    {name: operator for family in _FAMILIES for name, operator in family.OPERATORS.items()}
)

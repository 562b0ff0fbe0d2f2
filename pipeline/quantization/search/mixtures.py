"""Mixtures of precisions: the layers that hurt most in float, or in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.search.maker import Maker
from onnxsmith.pipeline.quantization.search.proposals import takes_wide
from onnxsmith.pipeline.quantization.search.trial import Trial
from onnxsmith.pipeline.quantization.sensitivity import Layers, exactly


def mix(maker: Maker, layers: Layers, request: QuantizeRequest, ranked: Sequence[str]) -> None:
    """Make mixtures: as few layers in float as keep enough, and the same ones in 16 bits.

    Args:
        maker: Makes the candidates.
        layers: The calibrated model.
        request: The static quantization that loses too much.
        ranked: The layers, the most sensitive first.
    """
    count = _fewest(maker, layers, request, ranked)
    if count is not None and takes_wide(request):
        name = f"static, {count} of {len(ranked)} layers in 16 bits"
        wide = (*request.wide, *exactly(ranked[:count]))
        maker.by_mode(name, replace(request, wide=wide))


def _fewest(
    maker: Maker, layers: Layers, request: QuantizeRequest, ranked: Sequence[str]
) -> int | None:
    """Return how many layers in float keep enough; None where none of the tried mixtures does.

    One, two, four, ...; then halves of the last gap, since what is left in float is slow.
    """

    def tried(count: int) -> Trial | None:
        excluded = list(ranked[:count])
        asked = replace(request, exclude=(*request.exclude, *exactly(excluded)))
        name = f"static, {count} of {len(ranked)} layers in float"
        return maker.directly(name, asked, partial(layers.without, excluded))

    few, enough = 0, 1
    while enough < len(ranked):
        trial = tried(enough)
        if trial is None:
            return None
        if trial.allowed:
            break
        few, enough = enough, 2 * enough
    else:
        return None
    while enough - few > 1:
        count = (few + enough) // 2
        trial = tried(count)
        if trial is None:
            break
        few, enough = (few, count) if trial.allowed else (count, enough)
    return enough

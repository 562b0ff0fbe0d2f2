"""Mixtures: the fewest layers in float that keep enough, found by doubling and halving."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.search.mixtures import mix
from onnxsmith.pipeline.quantization.search.trial import Trial
from onnxsmith.target import TARGETS

LAYERS = [f"layer[{index}]" for index in range(20)]


@dataclass
class FakeMaker:
    """Allows candidates with so many layers in float, until its budget is spent."""

    enough: int
    budget: int = 99
    float_counts: list[int] = field(default_factory=list)
    requests: list[tuple[str, QuantizeRequest]] = field(default_factory=list)

    def directly(self, name: str, request: QuantizeRequest, make: Any) -> Trial | None:
        if len(self.float_counts) == self.budget:
            return None
        (excluded,) = make.args
        self.float_counts.append(len(excluded))
        self.requests.append((name, request))
        return Trial(name, request, allowed=len(excluded) >= self.enough)

    def by_mode(self, name: str, request: QuantizeRequest) -> Trial | None:
        self.requests.append((name, request))
        return Trial(name, request)


class FakeLayers:
    def without(self, excluded: list[str]) -> Any:
        raise AssertionError("made by the maker alone")


def mixed(maker: FakeMaker, **options: Any) -> list[tuple[str, QuantizeRequest]]:
    request = QuantizeRequest("static", **options)
    mix(maker, FakeLayers(), request, LAYERS)  # type: ignore[arg-type]  # as much as is used
    return maker.requests


@pytest.mark.parametrize(
    ("enough", "counts"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 4, 3]),
        (4, [1, 2, 4, 3]),
        (6, [1, 2, 4, 8, 6, 5]),
        (7, [1, 2, 4, 8, 6, 7]),
        (16, [1, 2, 4, 8, 16, 12, 14, 15]),
        (17, [1, 2, 4, 8, 16]),
    ],
)
def test_counts_are_doubled_and_the_gap_is_halved(enough: int, counts: list[int]) -> None:
    maker = FakeMaker(enough)
    found = mixed(maker, exclude=("Softmax",))
    assert maker.float_counts == counts
    name, request = found[len(counts) - 1]
    assert name == f"static, {counts[-1]} of 20 layers in float"
    assert request.exclude[0] == "Softmax"  # what the user excluded stays so
    assert request.exclude[1] == "layer[[]0]"  # a name, not a pattern
    assert len(request.exclude) == 1 + counts[-1]


def test_the_same_layers_are_tried_in_16_bits() -> None:
    *_, (name, request) = mixed(FakeMaker(3))
    assert name == "static, 3 of 20 layers in 16 bits"
    assert request.wide == ("layer[[]0]", "layer[[]1]", "layer[[]2]")
    assert request.exclude == ()


@pytest.mark.parametrize(
    ("maker", "options"),
    [
        (FakeMaker(17), {}),  # no mixture keeps enough
        (FakeMaker(3, budget=2), {}),
        (FakeMaker(1), {"activations": "uint16"}),  # all of them have 16 bits
        (FakeMaker(1), {"target": TARGETS["tensorrt"]}),  # which has no kernels for them
    ],
)
def test_16_bits_are_not_tried_where_they_cannot_help(
    maker: FakeMaker, options: dict[str, Any]
) -> None:
    assert not any("16 bits" in name for name, _ in mixed(maker, **options))


def test_a_spent_budget_keeps_what_was_found() -> None:
    maker = FakeMaker(6, budget=4)
    *_, (name, _) = mixed(maker)
    assert maker.float_counts == [1, 2, 4, 8]
    assert name == "static, 8 of 20 layers in 16 bits"

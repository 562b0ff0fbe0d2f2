import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.passes.base import PassContext
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.pipeline.kernels import measure
from onnxsmith.pipeline.kernels.cases import Case, Operand
from onnxsmith.pipeline.kernels.measure import measure_kernels
from onnxsmith.pipeline.kernels.table import RUNTIME_FUSIONS
from onnxsmith.runtime.census import runtime_census
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

HIDDEN = Operand(ir.DataType.FLOAT, (2, 4, 16), constant=False)
WEIGHT = Operand(ir.DataType.FLOAT, (16,), constant=True)
CONTRIBUTED = "com.microsoft"

CASES = {
    "BiasGelu": Case(CONTRIBUTED, "BiasGelu", (), (HIDDEN, WEIGHT), 1, (0,)),
    "FastGelu": Case(CONTRIBUTED, "FastGelu", (), (HIDDEN, WEIGHT), 1, (0,)),
    "Gelu": Case("", "Gelu", (), (HIDDEN,), 1, (0,)),
    "LayerNormalization": Case(
        "", "LayerNormalization", (("epsilon", 1e-3),), (HIDDEN, WEIGHT, WEIGHT), 1, (0,)
    ),
    "QuickGelu": Case(CONTRIBUTED, "QuickGelu", (("alpha", 1.5),), (HIDDEN,), 1, (0,)),
    "SimplifiedLayerNormalization": Case(
        "", "SimplifiedLayerNormalization", (("axis", -1),), (HIDDEN, WEIGHT), 1, (0,)
    ),
    "SkipLayerNormalization": Case(
        CONTRIBUTED, "SkipLayerNormalization", (), (HIDDEN, HIDDEN, WEIGHT, WEIGHT), 1, (0,)
    ),
    "SkipSimplifiedLayerNormalization": Case(
        CONTRIBUTED, "SkipSimplifiedLayerNormalization", (), (HIDDEN, HIDDEN, WEIGHT), 1, (0,)
    ),
}


def test_every_row_of_the_table_has_a_case_here() -> None:
    assert CASES.keys() == RUNTIME_FUSIONS.keys()


@pytest.mark.parametrize("name", CASES)
def test_the_parts_compute_the_same_and_are_not_fused_again(name: str) -> None:
    fused = CASES[name].model(20)
    plain = fused.clone()
    assert Decompose((name,)).apply(plain.model, PassContext()).modified
    SetSession(RUNTIME_FUSIONS[name]).apply(plain.model, PassContext())
    operators = {key.rpartition(".")[2] for key in runtime_census(plain)}
    assert name not in operators
    feeds = probe_inputs(fused.model, fused.spec, {})
    with Session(fused) as first, Session(plain) as second:
        np.testing.assert_allclose(
            second.run(feeds)["y0"], first.run(feeds)["y0"], rtol=1e-4, atol=2e-5
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Replace the timing of sessions by fixed milliseconds an operator."""
    times: dict[str, float] = {}

    class Runner:
        def __init__(self, session: Session, feeds: object) -> None:
            (self._time,) = {
                times[node.op_type]
                for node in session.artifact.model.graph
                if node.op_type in times
            }

        def round(self) -> float:
            return self._time

    monkeypatch.setattr(measure, "_Runner", Runner)
    return times


def test_times_of_all_places_add_up(clock: dict[str, float]) -> None:
    clock.update({"Gelu": 2.0, "Erf": 1.0})
    small = CASES["Gelu"]
    large = Case("", "Gelu", (), (Operand(ir.DataType.FLOAT, (3, 5), constant=False),), 1, (0,))
    (kernel,) = measure_kernels({small: 2, large: 5}, TARGETS["cpu"])
    assert (kernel.op_type, kernel.count) == ("Gelu", 7)
    assert (kernel.fused_ms, kernel.plain_ms) == (14.0, 7.0)
    assert kernel.comparison.verdict == "faster"
    assert not kernel.pays
    assert kernel.to_json()["places"] == 7


def test_what_is_not_slower_pays(clock: dict[str, float]) -> None:
    clock.update({"Gelu": 1.0, "Erf": 1.0})
    (kernel,) = measure_kernels({CASES["Gelu"]: 1}, TARGETS["cpu"])
    assert kernel.comparison.verdict == "no change"
    assert kernel.pays


def test_what_has_no_parts_is_passed_over() -> None:
    scale = Operand(ir.DataType.FLOAT16, (16,), constant=True)
    mixed = Case("", "LayerNormalization", (), (HIDDEN, scale), 1, (0,))
    assert measure_kernels({mixed: 1}, TARGETS["cpu"]) == ()


def test_real_kernels_are_timed() -> None:
    (kernel,) = measure_kernels({CASES["Gelu"]: 3}, TARGETS["cpu"], threads=1)
    assert kernel.count == 3
    assert kernel.comparison.low <= kernel.comparison.ratio <= kernel.comparison.high

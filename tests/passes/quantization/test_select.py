import onnx_ir as ir
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.passes.quantization.select import LeftFloat, Selection, grouped, label

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[2,2] x, bool c) => (float[2,2] y) {
  [first] a = MatMul(x, x)
  b = Gemm(a, x)
  y = If (c) <
    then_branch = t () => (float[2,2] s) { [inner] s = MatMul(b, b) },
    else_branch = e () => (float[2,2] r) { r = Relu(b) }
  >
}
"""


@pytest.fixture
def model() -> ir.Model:
    return ir.from_onnx_text(TEXT)


def refused(model: ir.Model, selection: Selection) -> dict[str, str]:
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return {label(n): r for n in nodes if (r := selection.refusal(n))}


def test_everything_is_allowed_by_default(model: ir.Model) -> None:
    assert refused(model, Selection()) == {}


def test_nodes_are_excluded_by_name_operator_and_pattern(model: ir.Model) -> None:
    assert refused(model, Selection(("fir*",))) == {"first": "excluded by 'fir*'"}
    assert set(refused(model, Selection(("MatMul",)))) == {"first", "inner"}
    assert set(refused(model, Selection(("b",)))) == {"b"}, "a nameless node goes by its output"


def test_only_keeps_the_rest_in_float_and_exclude_still_holds(model: ir.Model) -> None:
    found = refused(model, Selection(("inner",), ("MatMul",)))
    assert set(found) == {"inner", "b", "y", "r"}
    assert found["b"] == "not among the only ones to quantize"


def test_a_pattern_that_nothing_matches_is_refused_with_what_comes_close(model: ir.Model) -> None:
    Selection(("inner",), ("Gemm",)).check(model)
    with pytest.raises(SmithError, match="'matmul'") as caught:
        Selection((), ("matmul",)).check(model)
    assert "'MatMul'" in caught.value.hint


def test_the_first_reason_stands_and_nodes_are_grouped_by_it(model: ir.Model) -> None:
    left = LeftFloat()
    first, second = model.graph[0], model.graph[1]
    left.add(first, "slow")
    left.add(second, "odd")
    left.add(first, "later")
    assert left.to_json() == [
        {"node": "first", "op": "MatMul", "reason": "slow"},
        {"node": "b", "op": "Gemm", "reason": "odd"},
    ]
    more = [*left.to_json(), {"node": "third", "op": "MatMul", "reason": "slow"}]
    assert grouped(more)["MatMul", "slow"] == ["first", "third"]

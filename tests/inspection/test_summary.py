import json

import onnx
import onnx.parser
import pytest
import torch

from onnxsmith.artifact import Artifact, Step
from onnxsmith.errors import SmithError
from onnxsmith.inspection.summary import Inspection, inspect_artifact

HEAD = '<ir_version: 10, opset_import: ["": 21, "f": 1]>'


def inspected(text: str, **dims: int) -> Inspection:
    return inspect_artifact(Artifact.from_proto(onnx.parser.parse_model(text)), dims)


def test_parameters_bytes_and_types():
    found = inspected(
        f"{HEAD} g (float[N,3] x) => (float[N,2] y) "
        "<float[3,2] w = {1.,2.,3.,4.,5.,6.}, int64[2] shape = {-1, 2}, int4[3] tiny = {1,2,3}> "
        "{ c = Constant<value = float[2] {1., 2.}>() a = MatMul(x, w) b = Add(a, c) "
        "q = Cast<to: int = 1>(tiny) y = Reshape(b, shape) }",
        N=4,
    )
    assert found.parameters == 6 + 3 + 2
    assert found.weights["float"].elements == 8
    assert found.weights["float"].bytes == 32
    assert found.weights["int4"].bytes == 2
    assert found.weights["int64"].bytes == 16
    assert found.weight_bytes == 50
    assert found.memory_bytes == 50 + found.peak.bytes
    assert found.macs == 4 * 2 * 3
    assert found.flops == 2 * 24 + 8
    assert dict(found.dims) == {"N": 4}


def test_operators_of_subgraphs_and_functions_are_in_the_census():
    found = inspected(
        """<ir_version: 10, opset_import: ["": 21, "f": 1]>
        g (bool p, float[4] x) => (float[4] y) {
          t = f.twice(x)
          y = If(p) <then_branch = a () => (float[4] u) { u = Exp(t) },
                     else_branch = b () => (float[4] v) { v0 = Exp(t) v = Neg(v0) }>
        }
        <domain: "f", opset_import: ["": 21]> twice (i) => (o) { o = Add(i, i) }"""
    )
    assert dict(found.operators) == {"Exp": 2, "Add": 1, "If": 1, "Neg": 1, "f.twice": 1}
    assert found.functions == ("f.twice",)
    # The function's Add and the dearer branch: Exp and Neg.
    assert found.flops == 4 + 8
    assert [node.operator for node in found.nodes if not node.counted] == ["Exp"]


def test_loops_of_known_length_are_unrolled_and_scans_follow_their_input():
    loop = """<ir_version: 10, opset_import: ["": 21]>
        g (float[4] x) => (float[4] y) <int64 n = {7}, bool go = {1}> {
          y = Loop(n, go, x) <body = b (int64 i, bool c, float[4] s) => (bool d, float[4] t) {
            d = Identity(c) t = Exp(s) }>
        }"""
    assert inspected(loop).flops == 7 * 4
    unknown = loop.replace("(float[4] x)", "(float[4] x, int64 n)").replace("int64 n = {7}, ", "")
    found = inspected(unknown)
    assert found.flops == 4
    assert "loops of unknown length are counted once" in found.warnings
    scan = """<ir_version: 10, opset_import: ["": 21]>
        g (float[3] s, float[9,3] x) => (float[3] e, float[9,3] y) {
          e, y = Scan(s, x) <num_scan_inputs: int = 1,
            body = b (float[3] a, float[3] v) => (float[3] n, float[3] o) {
              n = Add(a, v) o = Identity(n) }>
        }"""
    assert inspected(scan).flops == 9 * 3


# torch's exporter warns about torch's own code.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_small_convnet_costs_what_torch_and_the_formula_say(tmp_path):
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 3, groups=4),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 10),
    ]
    net = torch.nn.Sequential(*layers).eval()
    sample = torch.zeros(2, 3, 32, 32)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (sample,), path, dynamo=True, optimize=False, verbose=False)
    found = inspect_artifact(Artifact.load(path))

    expected = 0
    value = sample
    for layer in layers:
        value = layer(value)
        if isinstance(layer, torch.nn.Conv2d):
            kernel = layer.weight.shape[1] * layer.weight.shape[2] * layer.weight.shape[3]
            expected += value.numel() * kernel
        elif isinstance(layer, torch.nn.Linear):
            expected += value.numel() * layer.in_features
    assert found.macs == expected == 2 * (8 * 256 * 27 + 16 * 196 * 18 + 160)
    assert found.parameters == sum(p.numel() for p in net.parameters())


def test_an_artifact_explains_itself():
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 19], producer_name: "me", producer_version: "3"> '
        "g (float[4] x) => (float[4] y) { y = Exp(x) }"
    )
    step = Step("fold-constants", "pass", {"limit": 3}, {"nodes": 1})
    found = inspect_artifact(Artifact.from_proto(proto).with_step(step))
    assert found.history == (step,)
    assert (found.ir_version, dict(found.opsets)) == (9, {"ai.onnx": 19})
    assert found.producer == "me 3"
    data = json.loads(json.dumps(found.to_json(nodes=True), allow_nan=False))
    assert data["history"] == [step.to_json()]
    assert data["nodes"][0]["outputs"] == "float[4]"
    assert data["flops"] == 4
    assert "nodes" not in found.to_json()


def test_a_dimension_that_no_input_has_is_refused():
    with pytest.raises(SmithError, match="no dimension 'M'"):
        inspected(f"{HEAD} g (float[N] x) => (float[N] y) {{ y = Exp(x) }}", M=3)


def test_inference_that_stops_is_a_warning():
    found = inspected(
        f"{HEAD} g (float[4,5] x, float[6,7] w) => (float[?,?] y) {{ y = MatMul(x, w) }}"
    )
    assert dict(found.uncounted) == {"MatMul": "its shapes are not known"}
    assert found.warnings

"""The artifact: what it says of itself."""

from __future__ import annotations

from onnx.parser import parse_model

from onnxsmith.artifact import Artifact
from onnxsmith.storage.load import wrap_model

_MODEL = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[2] x, bool b) => (float[2] y) <float[2] w = {1, 2}> {
    c = Constant<value = float[3] {1, 2, 3}>()
    a = Add(x, w)
    d = own.Twice(a)
    y = If(b) <then_branch = t () => (float[2] p) {
        e = Constant<value = double[2] {1, 2}>() f = Cast<to = 1>(e) p = Add(d, f)
    }, else_branch = s () => (float[2] q) { q = Identity(d) }>
}
<domain: "own", opset_import: ["" : 17]>
Twice (x) => (y) { two = Constant<value = float[1] {2}>() y = Mul(x, two) }
"""


def test_size_counts_weights_wherever_they_are() -> None:
    artifact = Artifact(wrap_model(parse_model(_MODEL)))
    initializer, constant, branch, function = 2 * 4, 3 * 4, 2 * 8, 4
    assert artifact.size_bytes == initializer + constant + branch + function

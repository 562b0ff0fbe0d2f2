"""Every import is cleaned: unknown operators refused, versions fitted, dimensions named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.after import Finish, check, check_opset, ir_version
from onnxsmith.pipeline.frontends.names import check_signature, parse_renames
from onnxsmith.spec import ValueSpec
from onnxsmith.target import TARGETS

CPU, EDGE = TARGETS["cpu"], TARGETS["edge-web"]

RELU = """
    <ir_version: 13, opset_import: ["" : 21]>
    agraph (float[s77, 3] x, float[s77, s12] y) => (float[s77, 3] z)
    { a = Relu(x)  z = Identity(a) }
"""


def load(text: str) -> Artifact:
    return Artifact.from_proto(onnx.parser.parse_model(text))


def node(line: str, imports: str = '"" : 20') -> Artifact:
    return load(
        f"<ir_version: 10, opset_import: [{imports}]> "
        f"agraph (float[N, 3] x) => (float[N, 3] z) {{ {line} }}"
    )


@pytest.mark.parametrize(
    ("line", "imports", "named"),
    [
        ("z = Erfc(x)", '"" : 20', "no operator Erfc in opset 20"),
        ("z = Upsample(x, x)", '"" : 20', "no operator Upsample"),
        ("z = Gelu(x)", '"" : 18', "no operator Gelu in opset 18"),
        ("z = mine.Relu(x)", '"" : 20, "mine" : 1', "mine.Relu is unknown"),
        (
            "z = com.microsoft.NoSuchThing(x)",
            '"" : 20, "com.microsoft" : 1',
            "com.microsoft.NoSuchThing is unknown",
        ),
        ("z = ai.onnx.ml.Relu(x)", '"" : 20, "ai.onnx.ml" : 3', "of ai.onnx.ml"),
    ],
)
def test_unknown_operators_are_refused(line: str, imports: str, named: str) -> None:
    with pytest.raises(SmithError, match=named):
        Finish(CPU).apply(node(line, imports).model)


@pytest.mark.parametrize(
    ("line", "imports"),
    [
        ("z = Gelu(x)", '"" : 20'),
        ("z = com.microsoft.FastGelu(x)", '"" : 20, "com.microsoft" : 1'),
    ],
)
def test_known_operators_pass(line: str, imports: str) -> None:
    assert Finish(CPU).apply(node(line, imports).model) is False


def test_custom_domains_are_let_in_when_asked() -> None:
    artifact = node("z = mine.Twist(x)", '"" : 20, "mine" : 1')
    Finish(CPU, domains=("mine",)).apply(artifact.model)
    assert "mine" in artifact.model.opset_imports


def test_operators_in_subgraphs_are_seen() -> None:
    artifact = load("""
        <ir_version: 10, opset_import: ["" : 20]>
        agraph (bool c, float[2] x) => (float[2] z)
        { z = If (c) <then_branch = t () => (float[2] a) { a = Nope(x) },
                      else_branch = e () => (float[2] b) { b = Relu(x) }> }
    """)
    with pytest.raises(SmithError, match="no operator Nope"):
        Finish(CPU).apply(artifact.model)


def test_imports_are_joined_added_and_dropped() -> None:
    proto = onnx.parser.parse_model(RELU)
    proto.opset_import.extend(
        [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("unused", 1)]
    )
    artifact = Artifact.from_proto(proto)
    Finish(CPU).apply(artifact.model)
    assert dict(artifact.model.opset_imports) == {"": 21}
    spelled = load(RELU.replace('"" : 21', '"ai.onnx" : 21'))
    Finish(CPU).apply(spelled.model)
    assert dict(spelled.model.opset_imports) == {"": 21}


def test_made_up_dimensions_become_readable() -> None:
    artifact = load(RELU)
    Finish(CPU).apply(artifact.model)
    assert artifact.spec.input("x").shape == ("batch", 3)
    assert artifact.spec.input("y").shape == ("batch", "y_dim1")
    assert artifact.spec.output("z").shape == ("batch", 3)


def test_names_that_were_asked_for_win() -> None:
    artifact = load(RELU)
    wanted = (ValueSpec.parse("y:float32[samples,width]"),)
    Finish(CPU, inputs=wanted).apply(artifact.model)
    assert artifact.spec.input("x").shape == ("samples", 3)
    assert artifact.spec.input("y").shape == ("samples", "width")


def test_expressions_follow_their_dimension() -> None:
    artifact = load(RELU.replace("float[s77, 3] z", 'float["2*s77 + 1", 3] z'))
    from onnxsmith.pipeline.frontends.names import rename_dimensions

    rename_dimensions(artifact.model, {"s77": "batch", "s7": "wrong"})
    assert artifact.spec.output("z").shape == ("2*batch + 1", 3)


def test_a_dimension_that_came_out_fixed_is_refused() -> None:
    artifact = load(RELU)
    with pytest.raises(SmithError, match="'width' of the input 'x' came out fixed at 3"):
        Finish(CPU, inputs=(ValueSpec.parse("x:float32[n,width]"),)).apply(artifact.model)
    with pytest.raises(SmithError, match="no input 'w'"):
        Finish(CPU, inputs=(ValueSpec.parse("w:float32[n]"),)).apply(load(RELU).model)


@pytest.mark.parametrize(
    "text", ["x:float32[n,3,k]", "x:float32[n]", "x:int64[n,3]", "x:float32[n,4]"]
)
def test_an_input_that_is_another_is_refused(text: str) -> None:
    with pytest.raises(SmithError, match=r"input is x: float32\[s77,3\], not x: "):
        Finish(CPU, inputs=(ValueSpec.parse(text),)).apply(load(RELU).model)


def test_an_unknown_rank_may_be_any() -> None:
    artifact = load(RELU)
    artifact.model.graph.inputs[0].shape = None
    check_signature(artifact.model, (ValueSpec.parse("x:float32[n,3,k]"),))


def test_values_and_dimensions_are_renamed() -> None:
    artifact = load(RELU)
    renames = parse_renames(("x=image", "z=scores", "batch=N"))
    Finish(CPU, renames=renames).apply(artifact.model)
    assert artifact.spec.input("image").shape == ("N", 3)
    assert artifact.spec.output("scores").shape == ("N", 3)


@pytest.mark.parametrize(
    "pair", ["x=y", "x=a", "nothing=b", "batch=y_dim1", "batch=4", "batch=a + b"]
)
def test_impossible_renames_are_refused(pair: str) -> None:
    with pytest.raises(UsageError):
        Finish(CPU, renames=parse_renames((pair,))).apply(load(RELU).model)


@pytest.mark.parametrize("text", ["x", "=y", "x="])
def test_renames_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the renaming"):
        parse_renames((text,))


@pytest.mark.parametrize(
    ("opset", "ir"), [(7, 10), (20, 10), (21, 10), (22, 10), (23, 11), (25, 13), (26, 13)]
)
def test_ir_is_the_oldest_usual_one(opset: int, ir: int) -> None:
    artifact = load(RELU.replace(": 21", f": {opset}").replace("13", "14"))
    Finish(CPU).apply(artifact.model)
    assert artifact.model.ir_version == ir


def test_the_target_bounds_the_opset() -> None:
    artifact = load(RELU.replace(": 21", ": 26"))
    assert Finish(EDGE).apply(artifact.model) is True
    assert artifact.model.opset_imports[""] == 21
    assert artifact.model.ir_version == 10
    for opset in (6, 22):
        with pytest.raises(UsageError, match=f"opset {opset}"):
            check_opset(opset, EDGE)
    check_opset(21, EDGE)


def test_an_opset_that_cannot_be_reached_is_an_error() -> None:
    artifact = node("z = Gelu(x)")
    with pytest.raises(SmithError, match="from opset 20 to 9"):
        Finish(CPU, opset=9).apply(artifact.model)


def test_the_checker_sees_types_and_reads_no_large_weights(tmp_path: Path) -> None:
    wrong = node("i = Cast <to = 7> (x)  z = Relu(i)")
    with pytest.raises(SmithError, match="checker refuses"):
        check(wrong.model)
    weights = np.zeros((3, 40_000), np.float32)
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> agraph (float[N,3] x) => (float[N,40000] z)'
        " { z = MatMul(x, w) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(proto, tmp_path / "large.onnx")
    artifact = Artifact.load(tmp_path / "large.onnx")
    (tmp_path / "large.onnx").unlink()  # so reading a weight would fail
    check(artifact.model)


def test_no_ir_version_is_written_that_the_target_cannot_read() -> None:
    artifact = load(RELU.replace(": 21", ": 25"))
    with pytest.raises(SmithError, match="opset 25 is too new for the target 'edge-web'"):
        ir_version(artifact.model, EDGE)

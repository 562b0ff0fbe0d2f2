"""One network in all of TensorFlow Lite's forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.tflite.interpreter import Runner
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ValueSpec

Open = Callable[..., Any]
Files = dict[str, Path]
# The converter's name for the tensor; it is kept, as the interpreter knows it by it.
IMAGE = "serving_default_image:0"


def outputs(export: Any, feeds: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    with Session(Artifact.load(export.path), optimize=False) as session:
        (found,) = session.run(feeds).values()
    return np.asarray(found)


def test_float_files_keep_names_and_shapes(files: Files, open_source: Open, tmp_path: Path) -> None:
    source = open_source(files["float"])
    export = source.export(tmp_path)
    model = onnx.load(str(export.path))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == [IMAGE]
    assert [value.name for value in model.graph.output] == ["StatefulPartitionedCall:0"]
    (expected,) = source.reference(export.examples).values()
    np.testing.assert_allclose(outputs(export, export.examples), expected, rtol=1e-5, atol=1e-5)
    assert export.steps == {}
    assert not export.warnings


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_integer_files_stay_integer_at_their_ends(
    files: Files, open_source: Open, tmp_path: Path, kind: str
) -> None:
    source = open_source(files[kind])
    export = source.export(tmp_path)
    model = onnx.load(str(export.path))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QuantizeLinear"] >= 3
    assert kinds["DequantizeLinear"] >= 3
    (name,) = (value.name for value in model.graph.input)
    assert export.examples[name].dtype == kind
    assert export.examples[name].max() > 100
    generator = np.random.default_rng(1)
    limits = np.iinfo(kind)
    for _ in range(5):
        shape = export.examples[name].shape
        feeds = {name: generator.integers(limits.min, limits.max + 1, shape).astype(kind)}
        (expected,) = source.reference(feeds).values()
        found = outputs(export, feeds)
        assert found.dtype == expected.dtype == kind
        apart = np.abs(found.astype(int) - expected.astype(int))
        assert (apart > 1).mean() <= 1e-3
    assert set(export.steps) == set(source._outputs())
    assert 1.0 <= next(iter(export.steps.values())) <= 4.0


def test_float_ends_of_a_quantized_file_have_the_step_of_their_scale(
    files: Files, open_source: Open, tmp_path: Path
) -> None:
    source = open_source(files["quantized"])
    export = source.export(tmp_path)
    (step,) = export.steps.values()
    (expected,) = source.reference(export.examples).values()
    assert expected.dtype == np.float32
    unit = np.unique(np.abs(expected))[1] if 0 in expected else np.diff(np.unique(expected)).min()
    assert step >= unit * 0.999
    apart = np.abs(outputs(export, export.examples) - expected)
    assert (apart > step).mean() <= 1e-3


def test_integer_weights_of_float_files_are_compared_with_an_exact_copy(
    files: Files, open_source: Open, tmp_path: Path
) -> None:
    source = open_source(files["dynamic"])
    export = source.export(tmp_path)
    assert export.steps == {}
    assert "8-bit weights" in export.warnings[0]
    (expected,) = source.reference(export.examples).values()
    found = outputs(export, export.examples)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # The file as it stands rounds its values while it runs: that is another result.
    (rounded,) = Runner(files["dynamic"]).run(export.examples).values()
    assert 1e-4 < np.abs(rounded - expected).max() / np.abs(expected).max() < 0.1
    model = onnx.load(str(export.path))
    stored = {t.data_type for t in model.graph.initializer if len(t.raw_data) > 400}
    assert onnx.TensorProto.INT8 in stored


def test_the_whole_way_in_a_worker(
    files: Files, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    result = convert(files["int8"])
    assert result.frontend == "tflite"
    assert all(difference.ok for difference in result.parity)
    target = tmp_path / "out.onnx"
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(files["int8"].read_bytes()[:-300])
    ended = run_cli("convert", broken, "-o", target)
    assert ended.code == 1
    assert "is not a sound .tflite file" in ended.err
    assert "Traceback" not in ended.err
    assert not target.exists()


def test_shapes_that_do_not_fit_are_refused(files: Files, open_source: Open) -> None:
    for spec, message in (
        (ValueSpec("picture", "float32", (1, 12, 12, 3)), "has no input 'picture'"),
        (ValueSpec(IMAGE, "int8", (1, 12, 12, 3)), "does not fit the model"),
        (ValueSpec(IMAGE, "float32", ("n", 12, 12, 3)), "changes a size that the file fixes"),
    ):
        with pytest.raises(UsageError, match=message):
            open_source(files["float"], inputs=(spec,))


def test_options_of_other_frontends_are_refused(files: Files, open_source: Open) -> None:
    with pytest.raises(UsageError, match="has no parts"):
        open_source(files["float"], part="main")
    with pytest.raises(SmithError, match="holds its weights itself"):
        open_source(files["float"], weights="w.h5")


def test_custom_operators_are_refused_by_name(
    files: Files, open_source: Open, tmp_path: Path
) -> None:
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(files["float"].read_bytes(), 0)
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "MyOwnOperator"
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "custom.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(SmithError, match="the custom operator 'MyOwnOperator'"):
        open_source(path)

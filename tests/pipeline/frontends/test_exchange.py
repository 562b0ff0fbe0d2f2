"""Arrays, requests and probe sizes keep their meaning between the processes."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.arrays import load_arrays, save_arrays
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.memory import available_memory, session_memory
from onnxsmith.pipeline.frontends.sizes import example_shape, probe_sizes
from onnxsmith.spec import ValueSpec

ARRAYS = {
    "../../escape": np.arange(6, dtype=np.float32).reshape(2, 3),
    "": np.array(3.5),
    "header": np.array([True, False]),
    "half": np.ones((2, 2), ml_dtypes.bfloat16),
    "tiny": np.ones(3, ml_dtypes.float8_e4m3fn),
    "text": np.array(["a", "größer"], object),
    "turned": np.arange(6).reshape(2, 3).T,
    "empty": np.zeros((0, 4), np.int8),
}


def test_arrays_keep_name_type_shape_and_values(tmp_path: Path) -> None:
    save_arrays(tmp_path / "x.npz", ARRAYS)
    loaded = load_arrays(tmp_path / "x.npz")
    assert list(loaded) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].shape == array.shape
        assert array.dtype in (loaded[name].dtype, object)
        assert loaded[name].tolist() == array.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_objects_are_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match="'bad' is not a tensor"):
        save_arrays(tmp_path / "x.npz", {"bad": np.array([{}, None])})


def test_requests_survive_json() -> None:
    request = ConvertRequest(
        "a:b", "w.pt", (ValueSpec("x", "float32", ("n", 3)),), {"n": 4}, 18, True, 7
    )
    assert ConvertRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


@given(st.dictionaries(st.sampled_from(["n", "h", "w", "t"]), st.integers(2, 64), min_size=1))
@settings(max_examples=50)
def test_probe_sizes_are_never_those_of_the_export(sizes: dict[str, int]) -> None:
    for probe in probe_sizes(sizes):
        assert probe.keys() == sizes.keys()
        assert all(probe[name] != sizes[name] for name in sizes)
    first, second, *_ = probe_sizes(sizes)
    assert all(first[name] != second[name] for name in sizes)


def test_fixed_models_have_no_other_sizes() -> None:
    assert probe_sizes({}) == ()


def test_a_dimension_has_one_size_in_all_inputs() -> None:
    image, label = ValueSpec.parse("i:float32[n,3,h,w]"), ValueSpec.parse("l:float32[n,t,s]")
    specs = (image, label)
    assert example_shape(image, {}, specs) == (2, 3, 64, 64)
    n, t, s = example_shape(label, {"n": 5}, specs)
    assert n == 5
    assert t != s
    with pytest.raises(UsageError, match="no input has a dimension 'x'"):
        example_shape(image, {"x": 2}, specs)


def test_memory_counts_what_a_session_holds() -> None:
    import os
    import subprocess
    import sys

    code = "x = bytearray(b'x' * 200_000_000); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = session_memory(process.pid)
        process.communicate(b"\n")
    assert 200_000_000 < held < 260_000_000
    assert session_memory(process.pid) == 0
    assert available_memory() > 100_000_000
    assert os.getpid() != process.pid

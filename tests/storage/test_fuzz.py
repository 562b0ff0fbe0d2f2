"""Damaged files end in an artifact or in a SmithError, within bounded memory."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError

TEXT = """g (bool c, float[N,4] x) => (float[N,M] y) <float[4] b = {1, 2, 3, 4}> {
  t = Add(x, b)
  u = MatMul(t, w)
  y = If(c) <then_branch = a () => (float[N,M] p) { p = Relu(u) },
             else_branch = e () => (float[N,M] q) { q = Softmax <axis = 1> (u) }>
}"""


@pytest.fixture(scope="module")
def small(
    tmp_path_factory: pytest.TempPathFactory, parse_model: Callable[..., onnx.ModelProto]
) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "small.onnx"
    w = np.arange(4 * 4096, dtype=np.float32).reshape(4, 4096)
    path.write_bytes(parse_model(TEXT, {"w": w}).SerializeToString())
    return path


def test_truncation_at_every_byte_is_an_error(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    cut = tmp_path / "cut.onnx"
    # Inside the weight every cut is alike; around it none is.
    places = [*range(700), *range(700, len(data) - 700, 4099), *range(len(data) - 700, len(data))]
    loaded = []
    for place in places:
        cut.write_bytes(data[:place])
        with contextlib.suppress(SmithError):
            Artifact.load(cut)
            loaded.append(place)
    # The opset import ends the file, and a model cannot do without.
    assert loaded == []


FUZZ = """
import random, resource, sys
from pathlib import Path
source, folder, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
import logging
logging.disable(logging.CRITICAL)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
data, rng, ends = source.read_bytes(), random.Random(7), {"loaded": 0, "refused": 0}
edges = [*range(min(len(data), 900)), *range(max(0, len(data) - 900), len(data))]
path = folder / "mutant.onnx"
for number in range(count):
    mutant = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        at = min(rng.choice(edges), len(mutant) - 1)
        match rng.randint(0, 4):
            case 0: mutant[at] = rng.randrange(256)
            case 1: mutant[at] ^= 1 << rng.randrange(8)
            case 2: del mutant[at : at + rng.randint(1, 6)]
            case 3: mutant[at:at] = rng.randbytes(rng.randint(1, 6))
            case 4: mutant[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    path.write_bytes(mutant)
    try:
        artifact = Artifact.load(path)
        artifact.spec, artifact.size_bytes
        if number % 20 == 0:
            artifact.save(folder / "saved.onnx")
        ends["loaded"] += 1
    except SmithError as error:
        assert error.message and "\\n" not in error.message, repr(error.message)
        ends["refused"] += 1
    except BaseException:
        (folder / "culprit.onnx").write_bytes(mutant)
        raise
print(ends["loaded"], ends["refused"])
"""


def test_ten_thousand_damaged_files_raise_nothing_else(
    tmp_path: Path, small: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_python(FUZZ, small, tmp_path, 10_000)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded, refused = map(int, done.stdout.split())
    assert loaded + refused == 10_000
    assert loaded > 500  # the mutations are not all gross
    assert refused > 500

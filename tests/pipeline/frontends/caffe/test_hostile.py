"""Damaged and hostile files end in a model or in a SmithError, quickly and in little memory."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.caffe.source import CaffeSource

CORPUS = Path(__file__).parent / "corpus"
INPUT = 'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'

# Several small networks, so that each mutation is cheap and all layers are hit.
NETWORKS = {
    "classify": INPUT
    + """
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 dilation: 1 group: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "c1" top: "c1" batch_norm_param { eps: 1e-5 } }
layer { name: "sc" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true axis: 1 } }
layer { name: "p" type: "Pooling" bottom: "c1" top: "p"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "n" type: "LRN" bottom: "p" top: "n" lrn_param { local_size: 3 alpha: 0.1 } }
layer { name: "ip" type: "InnerProduct" bottom: "n" top: "ip"
        inner_product_param { num_output: 5 } include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" top: "loss" exclude { stage: "x" } }
""",
    "detect": INPUT
    + """
layer { name: "norm" type: "Normalize" bottom: "data" top: "norm"
        norm_param { across_spatial: false channel_shared: false } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc"
        convolution_param { num_output: 16 kernel_size: 4 stride: 4 } }
layer { name: "locp" type: "Permute" bottom: "loc" top: "locp"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "locf" type: "Flatten" bottom: "locp" top: "locf" flatten_param { axis: 1 } }
layer { name: "conf" type: "Reshape" bottom: "locp" top: "conf"
        reshape_param { shape { dim: 0 dim: -1 dim: 4 } } }
layer { name: "soft" type: "Softmax" bottom: "conf" top: "soft" softmax_param { axis: 2 } }
layer { name: "prior" type: "PriorBox" bottom: "loc" bottom: "data" top: "prior"
        prior_box_param { min_size: 2 max_size: 4 aspect_ratio: 2 flip: true variance: 0.1 } }
layer { name: "det" type: "DetectionOutput" bottom: "locf" bottom: "soft" bottom: "prior"
        top: "det" detection_output_param { num_classes: 4 code_type: CENTER_SIZE keep_top_k: 10
        confidence_threshold: 0.1 nms_param { nms_threshold: 0.45 top_k: 7 } } }
""",
    "segment": INPUT
    + """
layer { name: "p" type: "Pooling" bottom: "data" top: "p" top: "mask"
        pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "u" type: "Upsample" bottom: "p" bottom: "mask" top: "u" upsample_param { scale: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "p" top: "up" convolution_param {
        num_output: 3 kernel_size: 4 stride: 2 group: 3 bias_term: false } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "u" top: "crop"
        crop_param { axis: 2 offset: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "crop" bottom: "u" top: "sum"
        eltwise_param { operation: SUM coeff: 1 coeff: -1 } }
layer { name: "s" type: "Slice" bottom: "sum" top: "a" top: "b"
        slice_param { axis: 1 slice_point: 1 } }
layer { name: "cat" type: "Concat" bottom: "b" bottom: "a" top: "cat" concat_param { axis: 1 } }
layer { name: "m" type: "MVN" bottom: "cat" top: "m" }
layer { name: "i" type: "Interp" bottom: "m" top: "i" interp_param { zoom_factor: 2 } }
layer { name: "arg" type: "ArgMax" bottom: "i" top: "arg" argmax_param { axis: 1 top_k: 2 } }
""",
    "recur": """
input: "seq" input_shape { dim: 5 dim: 2 dim: 4 }
input: "cont" input_shape { dim: 5 dim: 2 }
layer { name: "ls" type: "LSTM" bottom: "seq" bottom: "cont" top: "ls"
        recurrent_param { num_output: 3 expose_hidden: false } }
layer { name: "t" type: "Tile" bottom: "ls" top: "t" tile_param { axis: 2 tiles: 2 } }
layer { name: "pw" type: "Power" bottom: "t" top: "pw" power_param { power: 2 shift: 1 } }
layer { name: "sp" type: "Split" bottom: "pw" top: "x" top: "y" }
layer { name: "r" type: "Reduction" bottom: "x" top: "r"
        reduction_param { operation: MEAN axis: 1 coeff: 0.5 } }
layer { name: "e" type: "Exp" bottom: "y" top: "e" exp_param { base: 2 scale: 0.5 } }
layer { name: "quiet" type: "Silence" bottom: "e" }
""",
    "old": """
input: "data" input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 6
layers { name: "c1" type: CONVOLUTION bottom: "data" top: "c1"
         convolution_param { num_output: 4 kernel_size: 3 } }
layers { name: "r" type: RELU bottom: "c1" top: "c1" relu_param { negative_slope: 0.1 } }
layers { name: "sp" type: POOLING bottom: "c1" top: "p" pooling_param { kernel_size: 2 } }
layers { name: "ip" type: INNER_PRODUCT bottom: "p" top: "ip" inner_product_param {
         num_output: 5 bias_term: false } }
layers { name: "acc" type: ACCURACY bottom: "ip" top: "acc" include { phase: TRAIN } }
""",
}


def arrays(name: str) -> dict[str, list[Any]]:
    rng = np.random.default_rng(2)
    shapes = {
        "classify": {
            "c1": [(4, 3, 3, 3), (4,)],
            "bn": [(4,), (4,), (1,)],
            "sc": [(4,), (4,)],
            "ip": [(5, 100), (5,)],
        },
        "detect": {"norm": [(3,)], "loc": [(16, 3, 4, 4), (16,)]},
        "segment": {"up": [(3, 1, 4, 4)]},
        "recur": {"ls": [(12, 4), (12,), (12, 3)]},
        "old": {"c1": [(4, 3, 3, 3), (4,)], "ip": [(5, 36)]},
    }[name]
    return {layer: [rng.uniform(0.5, 1, size=s) for s in all_] for layer, all_ in shapes.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_to_be_damaged_are_whole(caffe: Any, name: str) -> None:
    caffe.convert(NETWORKS[name], arrays(name), verify=True)


FUZZ = r"""
import json, os, random, re, resource, sys
from pathlib import Path
folder, count = Path(sys.argv[1]), int(sys.argv[2])
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.caffe.source import CaffeSource
from onnxsmith.pipeline.frontends.convert import convert
NUMBERS = ("0", "-1", "1", "2", "3", "7", "1000000", "2147483647", "-2147483648", "99999999999",
           "1e30", "1e-30", "nan", "-inf", "0.5", '"1"', "MAX", "{", "}")
os.fsync = lambda file: None  # the disk is not what is tested
rng, ends = random.Random(11), {"loaded": 0, "refused": 0}
sources = [(re.findall(r'\s+|[\w.+-]+|"[^"]*"|.', p.read_text()),
            p.with_suffix(".caffemodel").read_bytes()) for p in sorted(folder.glob("*.prototxt"))]
out = folder / "out"
out.mkdir()
CaffeSource(ConvertRequest(str(sorted(folder.glob("*.prototxt"))[0]))).export(out)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)

def damage_text(tokens):
    tokens = list(tokens)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(tokens))
        match rng.randint(0, 6):
            case 0: tokens[at] = rng.choice(tokens)
            case 1: del tokens[at]
            case 2: tokens.insert(at, rng.choice(tokens))
            case 3 | 4:
                numbers = [i for i, t in enumerate(tokens) if t[:1].isdigit()]
                tokens[rng.choice(numbers or [at])] = rng.choice(NUMBERS)
            case 5: tokens[at:at] = tokens[at : at + rng.randint(1, 30)]
            case 6: tokens[at] = chr(rng.randrange(0x2000)) + tokens[at][1:]
    return "".join(tokens)

def damage_bytes(data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(data))
        match rng.randint(0, 4):
            case 0: data[at] = rng.randrange(256)
            case 1: data[at] ^= 1 << rng.randrange(8)
            case 2: del data[at : at + rng.randint(1, 6)]
            case 3: data[at:at] = rng.randbytes(rng.randint(1, 6))
            case 4: data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(data)

path = folder / "mutant" / "net.prototxt"
path.parent.mkdir()
for number in range(count):
    tokens, weights = rng.choice(sources)
    if rng.random() < 0.6:
        text = damage_text(tokens)
    else:
        text, weights = "".join(tokens), damage_bytes(weights)
    path.write_text(text)
    path.with_suffix(".caffemodel").write_bytes(weights)
    try:
        CaffeSource(ConvertRequest(str(path))).export(out)
        ends["loaded"] += 1
        whole = True
    except SmithError as error:
        assert error.message and "\n" not in error.message, repr(error.message)
        ends["refused"] += 1
        whole = False
    if whole and number % 10 == 0:
        convert(path, verify=False)  # the checker has nothing to say about what came through
print(json.dumps(ends))
"""


def test_ten_thousand_damaged_files_raise_nothing_else(
    tmp_path: Path,
    weights: Callable[..., bytes],
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for name, text in NETWORKS.items():
        (tmp_path / f"{name}.prototxt").write_text(text)
        (tmp_path / f"{name}.caffemodel").write_bytes(weights(arrays(name)))
    done = run_python(FUZZ, tmp_path, 10_000)
    assert done.returncode == 0, done.stderr[-3000:]
    ends = json.loads(done.stdout)
    assert sum(ends.values()) == 10_000
    assert min(ends.values()) > 500  # the mutations are neither all gross nor all harmless


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.prototxt")), ids=lambda path: path.stem)
def test_files_that_once_did_harm(path: Path, tmp_path: Path) -> None:
    with contextlib.suppress(SmithError):
        CaffeSource(ConvertRequest(str(path))).export(tmp_path)


def nested(*blobs: bytes) -> bytes:
    """Put blobs, encoded, into a layer."""

    def record(tag: bytes, payload: bytes) -> bytes:
        length, out = len(payload), bytearray()
        while length > 0x7F:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        return tag + bytes([*out, length]) + payload

    return record(b"\xa2\x06", b"".join(record(b"\x3a", blob) for blob in blobs))


def bombs() -> dict[str, tuple[str, bytes | None]]:
    conv = (
        'layer { name: "c" type: "Convolution" bottom: "data" top: "y" convolution_param { %s } }'
    )
    net = INPUT + conv
    lie = b"\xa2\x06\xff\xff\xff\xff\x07\x0a\x01c"
    return {
        "deep": ("a { " * 1_000_000, None),
        "words": ("a: 1 " * 1_500_000, None),
        "digits": ("a: " + "9" * 5_000_000, None),
        "quote": ('a: "' + "x" * 5_000_000, None),
        "comment": ("#" * 7_000_000, None),
        "backslashes": ('a: "' + "\\" * 5_000_001 + '"', None),
        "signs": ("a: " + "- " * 2_000_000, None),
        "layers": (INPUT + 'layer { type: "ReLU" bottom: "data" top: "data" }' * 60_000, None),
        "wide": (net % "num_output: 2147483647 kernel_size: 2147483647", lie),
        "outputs": (net % "num_output: 2147483647 kernel_size: 3", b"\xa2\x06\x00"),
        "length": (net % "num_output: 1 kernel_size: 1", lie),
        "nested blobs": (net % "num_output: 1 kernel_size: 1", b"\xa2\x06\x02\x3a\x00" * 200_000),
        "tiny fields": (net % "num_output: 1 kernel_size: 1", b"\x08\x01" * 20_000_000),
        "tiny values": (
            net % "num_output: 1 kernel_size: 1",
            nested(b"\x2d\0\0\0\0\x08\x01" * 9_000_000),
        ),
        "one value a blob": (
            net % "num_output: 1 kernel_size: 1",
            nested(*[b"\x2a\x00"] * 200_000),
        ),
        "constant": (
            'input: "f" input_shape { dim: 1 dim: 1 dim: 40000 dim: 40000 }'
            'layer { name: "p" type: "PriorBox" bottom: "f" bottom: "f" top: "y"'
            " prior_box_param { min_size: 2 } }",
            None,
        ),
        "fill": (
            INPUT + 'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape {'
            " dim: 100000 dim: 100000 } } }"
            'layer { name: "e" type: "ReLU" bottom: "data" top: "y" }',
            None,
        ),
        "classes": (
            'input: "loc" input_shape { dim: 1 dim: 48 }'
            'input: "conf" input_shape { dim: 1 dim: 9 }'
            'input: "f" input_shape { dim: 1 dim: 1 dim: 2 dim: 6 }'
            'layer { name: "p" type: "PriorBox" bottom: "f" bottom: "f" top: "p"'
            " prior_box_param { min_size: 2 } }"
            'layer { name: "d" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p"'
            ' top: "d" detection_output_param { num_classes: 2147483647 } }',
            None,
        ),
        "rank": (
            INPUT + 'layer { name: "r" type: "Reshape" bottom: "data" top: "y" reshape_param {'
            " shape { dim: -1 " + "dim: 1 " * 90_000 + "} } }",
            None,
        ),
        "rank of a constant": (
            INPUT + 'layer { name: "p" type: "PriorBox" bottom: "data" bottom: "data" top: "p"'
            ' prior_box_param { min_size: 2 } } layer { name: "r" type: "Reshape" bottom: "p"'
            ' top: "y" reshape_param { shape { dim: -1 ' + "dim: 1 " * 90_000 + "} } }",
            None,
        ),
        "inputs": (
            "".join(f'input: "i{at}" input_shape {{ dim: 1 }}' for at in range(30_000))
            + 'layer { name: "c" type: "Concat" '
            + "".join(f'bottom: "i{at}"' for at in range(30_000))
            + ' top: "y" concat_param { axis: 1 } }',
            None,
        ),
        "growth": (
            INPUT
            + "".join(
                f'layer {{ name: "t{at}" type: "Tile" bottom: "{f"t{at - 1}" if at else "data"}"'
                f' top: "t{at}" tile_param {{ tiles: 60000 }} }}'
                for at in range(50)
            ),
            None,
        ),
        "sliced": (
            INPUT + 'layer { name: "s" type: "Slice" bottom: "data"' + ' top: "a"' * 100_000 + " }",
            None,
        ),
    }


LOAD = """
import resource, sys, time
from pathlib import Path
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
import onnxsmith.pipeline.frontends.convert
from onnxsmith.pipeline.frontends.caffe.source import CaffeSource
path = Path(sys.argv[1])
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    CaffeSource(ConvertRequest(str(path))).export(path.parent)
    print("loaded")
except SmithError as error:
    assert len(error.message) < 500, len(error.message)
    print(error.message)
more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
assert more < 200_000, more
"""


@pytest.mark.parametrize("name", bombs())
def test_bombs_are_refused_within_200_mb(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]], name: str
) -> None:
    text, data = bombs()[name]
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    if data is not None:
        path.with_suffix(".caffemodel").write_bytes(data)
    done = run_python(LOAD, path)
    assert done.returncode == 0, f"{done.returncode} {done.stderr[-2000:]}"
    assert done.stdout.strip() != "loaded"

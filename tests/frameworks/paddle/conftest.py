"""The environment ``paddle``, made by the tool itself, and models for it.

It is kept in the ignored folder ``build`` between runs; ``make clean`` removes it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from onnxsmith.pipeline.environments.environment import look

ENVIRONMENTS = Path(__file__).resolve().parents[3] / "build" / "environments"

NETS = """
    import paddle
    from paddle import nn
    from paddle.nn import functional as F

    class Block(nn.Layer):
        def __init__(self, a, b, stride):
            super().__init__()
            self.c1 = nn.Conv2D(a, b, 3, stride, 1, bias_attr=False)
            self.b1 = nn.BatchNorm2D(b)
            self.c2 = nn.Conv2D(b, b, 3, 1, 1, bias_attr=False)
            self.b2 = nn.BatchNorm2D(b)
            self.short = None
            if stride != 1 or a != b:
                conv = nn.Conv2D(a, b, 1, stride, bias_attr=False)
                self.short = nn.Sequential(conv, nn.BatchNorm2D(b))

        def forward(self, x):
            y = self.b2(self.c2(F.relu(self.b1(self.c1(x)))))
            return F.relu(y + (x if self.short is None else self.short(x)))

    class ResNet18(nn.Layer):
        def __init__(self):
            super().__init__()
            conv = nn.Conv2D(3, 8, 7, 2, 3, bias_attr=False)
            self.stem = nn.Sequential(conv, nn.BatchNorm2D(8), nn.ReLU(), nn.MaxPool2D(3, 2, 1))
            sizes = [(8, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1),
                     (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
            self.body = nn.Sequential(*(Block(*size) for size in sizes))
            self.head = nn.Linear(64, 10)

        def forward(self, image):
            x = F.adaptive_avg_pool2d(self.body(self.stem(image)), 1)
            return self.head(paddle.flatten(x, 1))

    class Inverted(nn.Layer):
        def __init__(self, a, b, stride):
            super().__init__()
            m = 4 * a
            self.same = stride == 1 and a == b
            self.body = nn.Sequential(
                nn.Conv2D(a, m, 1, bias_attr=False), nn.BatchNorm2D(m), nn.ReLU6(),
                nn.Conv2D(m, m, 3, stride, 1, groups=m, bias_attr=False), nn.BatchNorm2D(m),
                nn.Hardswish(), nn.Conv2D(m, b, 1, bias_attr=False), nn.BatchNorm2D(b))

        def forward(self, x):
            return x + self.body(x) if self.same else self.body(x)

    class MobileNet(nn.Layer):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8), nn.Hardswish())
            sizes = [(8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1)]
            self.body = nn.Sequential(*(Inverted(*size) for size in sizes))
            self.head = nn.Linear(16, 5)

        def forward(self, image):
            return F.softmax(self.head(self.body(self.stem(image)).mean([2, 3])), -1)

    class Tagger(nn.Layer):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.rnn = nn.LSTM(16, 24, num_layers=2, direction="bidirect")
            self.head = nn.Linear(48, 5)

        def forward(self, tokens):
            return self.head(self.rnn(self.embed(tokens))[0])

    class Encoder(nn.Layer):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu")
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x):
            return self.encoder(x)

    class Several(nn.Layer):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, a, b):
            return {"z": self.head(a), "b": a + b, "n": None, "l": [b * 2, b.astype("int64")]}

    class Branch(nn.Layer):
        def forward(self, x):
            if x.sum() > 0:
                y = x * 2
            else:
                y = x - 1
            i = paddle.zeros([1], "int32")
            while i < 3:
                y = y + 1
                i = i + 1
            return y

    class Declared(Several):
        @paddle.jit.to_static(input_spec=[paddle.static.InputSpec([None, 4], "float32", "a")])
        def forward(self, a):
            return self.head(a)

    class Unsupported(nn.Layer):
        def forward(self, x):
            return paddle.linalg.svd(x)[1]

    def statistics(net):
        for layer in net.sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                layer._mean.set_value(paddle.uniform(layer._mean.shape, min=-0.3, max=0.3))
                layer._variance.set_value(paddle.uniform(layer._variance.shape, min=0.5, max=2.0))
        return net

    def resnet18():
        return statistics(ResNet18())

    def mobilenet():
        return statistics(MobileNet())

    def no_layer():
        return 3

    def leaves():
        import sys
        sys.exit(3)
"""
SAVE = """
import paddle, nets
from paddle.static import InputSpec
paddle.seed(0)
paddle.jit.save(nets.mobilenet(), "mobilenet", [InputSpec([None, 3, None, None], "float32", "x")])
paddle.jit.save(nets.Branch(), "branch", [InputSpec([None, 4], "float32", "x")])
paddle.jit.save(nets.Unsupported(), "unsupported", [InputSpec([None, 4], "float32", "x")])
several = nets.Several()
paddle.jit.save(several, "several", [InputSpec([None, 4], "float32", n) for n in "ab"])
paddle.save(several.state_dict(), "several.pdparams")
"""
SAVE_OLD = """
import paddle, nets
net = nets.resnet18()
net.eval()
paddle.jit.save(net, "old/inference", [paddle.static.InputSpec([None, 3, 64, 64], "float32", "x")])
"""


@pytest.fixture(scope="session")
def environments() -> Path:
    """The folder with the environment; made by ``onnxsmith env create`` where it is not ready."""
    if look("paddle", ENVIRONMENTS).state != "ready":
        command = [sys.executable, "-P", "-m", "onnxsmith", "env", "create", "paddle"]
        subprocess.run([*command, "--env-dir", str(ENVIRONMENTS)], check=True)
    found = look("paddle", ENVIRONMENTS)
    assert (found.state, found.reason) == ("ready", "")
    return ENVIRONMENTS


@pytest.fixture(scope="session")
def folder(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with layers, and programs saved by Paddle in its new and its old format."""
    root = tmp_path_factory.mktemp("paddle")
    (root / "nets.py").write_text(textwrap.dedent(NETS))
    python = look("paddle", environments).interpreter
    for code, settings in ((SAVE, {}), (SAVE_OLD, {"FLAGS_enable_pir_api": "0"})):
        subprocess.run(
            [python, "-c", code], cwd=root, env=settings, check=True, capture_output=True
        )
    return root


@pytest.fixture
def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder

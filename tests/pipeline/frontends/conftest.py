"""A user's folder with models in it, and the modules of the tests that run torch in process."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

SOURCES = {
    "net.py": """
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 3, padding=1)
                self.norm = nn.BatchNorm2d(4)
                self.head = nn.Linear(4, 5)
                self.norm.running_mean.uniform_(-1, 1)
                self.norm.running_var.uniform_(0.5, 2)

            def forward(self, image):
                return self.head(torch.relu(self.norm(self.conv(image))).mean((2, 3)))

        def not_a_module():
            return 3
    """,
    "estimators.py": """
        import numpy as np
        from sklearn.cluster import KMeans
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rng = np.random.default_rng(0)
        X = rng.normal(size=(120, 6)) * 3
        y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int) + (X[:, 3] > 0)

        def mlp():
            return MLPClassifier((8,), max_iter=1000, random_state=0).fit(X, y)

        def unfitted():
            return Ridge()
    """,
    "faults.py": """
        import os, signal, sys, time

        def leaves(): sys.exit("had enough")
        def leaves_hard(): os._exit(7)
        def crashes():
            print("about to crash")
            os.kill(os.getpid(), signal.SIGSEGV)
        def killed(): os.kill(os.getpid(), signal.SIGKILL)
        def endless():
            while True: pass
        def hog():
            kept = []
            while True:
                kept.append(bytearray(b"x" * 50_000_000))
                time.sleep(0.02)
        def raises(): raise ValueError("wrong\\nin two lines [bold]")
        def shouts():
            for _ in range(300_000): print("x" * 80, file=sys.stderr)
            raise RuntimeError("after much noise")
        def reads(): raise RuntimeError(f"read {sys.stdin.read()!r}")
        def spawns():
            import subprocess
            child = subprocess.Popen(["sleep", "1000"])
            open("child.pid", "w").write(str(child.pid))
            os._exit(0)
    """,
    "ours.py": """
        import models, passes, pipeline
        from models.tiny import build
    """,
    "models/__init__.py": "",
    "models/tiny.py": """
        import numpy as np
        from sklearn.linear_model import Ridge
        import passes, pipeline
        assert passes.MINE and pipeline.MINE

        def build():
            return Ridge().fit(np.eye(4), np.arange(4.0))
    """,
    "passes/__init__.py": "MINE = True",
    "pipeline/__init__.py": "MINE = True",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("user")
    for name, text in SOURCES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))
    return root


@pytest.fixture
def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder as the current one."""
    monkeypatch.chdir(folder)
    return folder

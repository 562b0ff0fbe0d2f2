import pytest

from onnxsmith.runtime import loading
from onnxsmith.runtime.loading import ProviderStatus, check_providers, loadable_providers
from onnxsmith.runtime.providers import CPU, CUDA


def test_the_cpu_provider_loads_and_an_unknown_one_does_not():
    cpu, unknown = check_providers([CPU, "NoSuchExecutionProvider"])
    assert cpu == ProviderStatus(CPU, True)
    assert not unknown.loads
    assert unknown.reason


def test_loadable_providers_end_with_the_cpu():
    assert loadable_providers()[-1] == CPU


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "loading it ends the process with SIGABRT"),
        ("import sys; sys.exit(3)", "the runtime left it out without a word"),
        (
            "import sys; sys.exit('x [E:onnx] Failed to load a.so with error: libcudart.so.13: "
            "cannot open shared object file: No such file')",
            "the library libcudart.so.13 is missing",
        ),
        (
            "import sys; sys.exit('[E:onnx, x.cc:1 f] CUDA failure 35: driver too old')",
            "CUDA failure 35: driver too old",
        ),
    ],
)
def test_why_a_provider_does_not_load(monkeypatch, program, reason):
    monkeypatch.setattr(loading, "_PROBE", program)
    (status,) = check_providers([CUDA])
    assert status == ProviderStatus(CUDA, False, reason)


def test_a_provider_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(loading, "_PROBE", "import time; time.sleep(600)")
    monkeypatch.setattr(loading, "_TIMEOUT_S", 0.2)
    (status,) = check_providers([CUDA])
    assert not status.loads
    assert "did not answer" in status.reason

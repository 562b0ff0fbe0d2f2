import json
import subprocess
import sys

import pytest

from onnxsmith.runtime import doctor
from onnxsmith.runtime.doctor import diagnose, import_failures
from onnxsmith.runtime.loading import ProviderStatus

CPU = ProviderStatus("CPUExecutionProvider", True)


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets up what is required, installed and loadable."""

    def set_up(requires, versions, *, providers=(CPU,), failures=None, gpu=False, extras=()):
        class Metadata:
            def get_all(self, key):
                assert key == "Provides-Extra"
                return list(extras)

        monkeypatch.setattr(doctor, "requires", lambda name: list(requires))
        monkeypatch.setattr(doctor, "metadata", lambda name: Metadata())
        monkeypatch.setattr(doctor, "installed", lambda name: versions.get(name, ""))
        monkeypatch.setattr(doctor, "import_failures", lambda modules: failures or {})
        monkeypatch.setattr(doctor, "_providers", lambda packages: tuple(providers))
        monkeypatch.setattr(doctor, "has_nvidia_gpu", lambda: gpu)
        return diagnose()

    return set_up


def test_this_installation_is_healthy():
    found = diagnose()
    assert found.healthy, found.findings
    base = {p.name: p for p in found.packages if not p.extra}
    assert base["numpy"].installed
    assert not base["numpy"].problem
    assert any(p.name.startswith("onnxruntime") for p in base.values())
    assert CPU in found.providers
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["healthy"] is True
    assert "dev" not in {p.extra for p in found.packages}
    assert {"torch", "sklearn"} <= {p.extra for p in found.packages}


def test_a_missing_base_package_is_serious_and_its_command_exact(machine):
    found = machine(["numpy>=2.0"], {})
    (finding,) = found.findings
    assert not found.healthy
    assert finding.what == "numpy: not installed"
    assert finding.fix == "pip install 'numpy>=2.0'"


def test_an_old_base_package_is_serious(machine):
    found = machine(["numpy>=2.0"], {"numpy": "1.26.4"})
    assert not found.healthy
    assert found.findings[0].what == "numpy: version 1.26.4 does not fit >=2.0"
    assert found.findings[0].fix == "pip install --force-reinstall 'numpy>=2.0'"


def test_a_base_package_that_does_not_import_is_serious(machine):
    found = machine(["PyYAML>=6"], {"PyYAML": "6.0"}, failures={"yaml": "ImportError: no libyaml"})
    assert not found.healthy
    assert found.findings[0].what == "PyYAML: ImportError: no libyaml"


def test_a_missing_extra_is_told_with_its_command_and_is_not_serious(machine):
    found = machine(["torch>=2.13; extra == 'torch'"], {}, extras=["torch"])
    assert found.healthy
    (finding,) = found.findings
    assert finding.fix == "pip install 'onnxsmith[torch]'"
    assert "(it needs torch)" in finding.what


def test_an_extra_that_is_too_old_is_named(machine):
    found = machine(["torch>=2.13; extra == 'torch'"], {"torch": "2.1"}, extras=["torch"])
    assert found.healthy
    assert found.findings[0].what == "torch: version 2.1 does not fit >=2.13"
    assert found.findings[0].fix == "pip install 'torch>=2.13'"


def test_two_runtimes_are_an_error(machine):
    versions = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    found = machine(["onnxruntime-gpu>=1.31"], versions)
    assert not found.healthy
    assert "are both installed" in found.findings[0].what
    assert found.findings[0].fix == (
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


def test_the_cpu_build_of_the_runtime_does_for_the_gpu_one(machine):
    found = machine(["onnxruntime-gpu>=1.31"], {"onnxruntime": "1.32.0"})
    assert found.healthy
    assert found.packages[0].installed == "1.32.0"


def test_a_gpu_whose_provider_does_not_load_gets_the_command(machine):
    broken = ProviderStatus("CUDAExecutionProvider", False, "the library x is missing")
    with_gpu = machine([], {}, providers=(broken, CPU), gpu=True)
    assert with_gpu.healthy
    assert with_gpu.findings[0].fix == "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    without = machine([], {}, providers=(broken, CPU))
    assert without.findings[0].what == (
        "CUDAExecutionProvider cannot be used: no NVIDIA GPU was found"
    )
    assert without.findings[0].fix == ""


def test_a_cpu_provider_that_does_not_load_is_serious(machine):
    found = machine([], {}, providers=(ProviderStatus(CPU.name, False, "illegal instruction"),))
    assert not found.healthy


def test_imports_are_tried_one_by_one_even_past_a_crash(tmp_path, monkeypatch):
    (tmp_path / "crashes_now.py").write_text("import os; os.abort()")
    (tmp_path / "exits_now.py").write_text("raise SystemExit('out')")
    (tmp_path / "chatters.py").write_text("print('json\\tfalse alarm')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    modules = ["json", "crashes_now", "chatters", "no_such_module_here", "exits_now", "csv"]
    failures = import_failures(modules)
    assert set(failures) == {"crashes_now", "no_such_module_here", "exits_now"}
    assert failures["crashes_now"] == "importing it ends the process with SIGABRT"
    assert failures["no_such_module_here"].startswith("ModuleNotFoundError")


def test_the_doctor_comes_without_the_packages_that_it_examines():
    program = "import sys, onnxsmith.runtime.doctor, onnxsmith.cli.doctor; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"onnx", "numpy", "onnxruntime", "onnx_ir"} & set(done.stdout.split())

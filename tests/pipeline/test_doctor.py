import pytest

from onnxsmith.pipeline import doctor


def statuses(area: str) -> dict[str, str]:
    return {f.name: f.status for f in doctor.examine().findings if f.area == area}


def test_this_environment_is_healthy_and_its_cpu_provider_loads() -> None:
    found = doctor.examine()
    assert found.healthy
    cpu = [f for f in found.findings if f.name == "CPUExecutionProvider"]
    assert [(f.status, f.needed) for f in cpu] == [("ok", True)]
    assert {"numpy", "onnx", "click"} <= {f.name for f in found.findings if f.area == "base"}


def test_a_provider_that_silently_falls_back_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "compiled_providers", lambda: ("CUDAExecutionProvider",))
    monkeypatch.setattr(doctor, "_TRY_PROVIDER", "print('fell back')")
    assert statuses("provider") == {"CUDAExecutionProvider": "missing"}


def test_a_provider_that_takes_the_process_down_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "compiled_providers", lambda: ("CPUExecutionProvider",))
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(doctor, "_TRY_PROVIDER", crash)
    found = doctor.examine()
    assert not found.healthy
    assert [f.status for f in found.findings if f.area == "provider"] == ["broken"]


def test_two_runtimes_at_once_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_version", lambda name: "1.31.1")
    (finding,) = [f for f in doctor.examine().findings if f.name == "onnxruntime"]
    assert finding.status == "broken"
    assert "uninstall" in finding.mend


def test_a_missing_framework_comes_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "missing_packages", lambda frontend: ("torch",))
    found = {f.name: f for f in doctor.examine().findings if f.area == "frontend"}
    assert found["torch"].mend == "pip install 'onnxsmith[torch]'"
    assert doctor.examine().healthy

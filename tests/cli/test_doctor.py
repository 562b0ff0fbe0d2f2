import json

from onnxsmith.cli.main import run
from onnxsmith.runtime import doctor
from onnxsmith.runtime.doctor import Diagnosis, Finding, PackageStatus
from onnxsmith.runtime.loading import ProviderStatus


def diagnosis(*findings: Finding) -> Diagnosis:
    packages = (PackageStatus("numpy", ">=2", "", "", "not installed"),)
    providers = (ProviderStatus("CUDAExecutionProvider", False, "the library [red]x is missing"),)
    return Diagnosis("1", "3.11.0", "Linux x86_64", packages, providers, findings)


def test_a_healthy_base_exits_with_0(capsys):
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "The base works." in out
    assert "CPUExecutionProvider" in out


def test_json_is_complete(capsys):
    assert run(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["healthy"] is True
    assert {"version", "python", "system", "packages", "providers", "findings"} <= set(data)


def test_a_broken_base_exits_with_1_and_shows_the_command(capsys, monkeypatch):
    broken = diagnosis(Finding("numpy: not installed", "pip install 'numpy>=2'", serious=True))
    monkeypatch.setattr(doctor, "diagnose", lambda: broken)
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "pip install 'numpy>=2'" in out
    assert "The base does not work." in out
    assert "[red]x" in out
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False

import pytest

from onnxsmith.runtime.cpu import products_saturate, saturates


@pytest.mark.parametrize(
    ("machine", "flags", "answer"),
    [
        ("x86_64", "flags : fpu avx2 avx512_vnni", False),
        ("x86_64", "flags : fpu avx2 avx_vnni sse", False),
        ("x86_64", "flags : fpu avx2 avx512f avx512_vnnix", True),
        ("AMD64", "", True),
        ("aarch64", "", False),
        ("arm64", "", False),
    ],
)
def test_only_x86_without_vnni_saturates(machine: str, flags: str, answer: bool) -> None:
    assert saturates(machine, flags) is answer


def test_this_machine_has_an_answer() -> None:
    assert products_saturate() in (True, False)

"""The walk over UBJSON: whole values pass, everything else is refused quickly."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from onnxsmith.pipeline.frontends.xgboost.ubjson import UbjsonError, check_ubjson

MUTATIONS = 10_000


def key(name: str) -> bytes:
    return b"L" + struct.pack(">q", len(name)) + name.encode()


def typed(marker: str, array: np.ndarray) -> bytes:
    return b"[$" + marker.encode() + b"#L" + struct.pack(">q", array.size) + array.tobytes()


# What XGBoost writes: objects closed by a brace, arrays of one type with a count.
WHOLE = (
    b"{" + key("learner")
    + b"{" + key("attributes") + b"{}" + key("names") + b"[S" + key("a") + b"S" + key("bc") + b"]"
    + key("trees") + b"[{" + key("left") + typed("l", np.array([1, -1, -1], ">i4"))
    + key("weights") + typed("d", np.array([0.5, 1.0, -1.0], ">f4")) + key("id") + b"i\x07" + b"}]"
    + key("ok") + b"T" + key("none") + b"Z" + key("count") + b"[#i\x02i\x01i\x02" + b"}"
    + key("version") + b"[$i#i\x03\x01\x02\x03" + b"}"
)  # fmt: skip


def test_a_whole_value_passes() -> None:
    check_ubjson(memoryview(WHOLE))


def test_every_cut_is_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(UbjsonError):
            check_ubjson(memoryview(WHOLE[:length]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (WHOLE + b"Z", "1 bytes follow"),
        (b"[$d#L" + struct.pack(">q", 1 << 60), "ends too early"),
        (b"[$d#L" + struct.pack(">q", -1), "a length is -1"),
        (b"[" * 200, "nested too deeply"),
        (b"[$dd", "no count"),
        (b"?", "no marker"),
        (b"{Z", "no length"),
        (b"[$[#l" + struct.pack(">i", 1 << 30) + b"#l" + struct.pack(">i", 1 << 30), "too early"),
        # A count of values without bytes, and of containers that each hold nothing.
        (b"[#l" + struct.pack(">i", 1 << 30) + b"Z" * 10, "too early"),
        (b"[$Z#l" + struct.pack(">i", 1 << 30), None),
    ],
)
def test_hostile_values(data: bytes, reason: str | None) -> None:
    if reason is None:
        check_ubjson(memoryview(data))
        return
    with pytest.raises(UbjsonError, match=reason):
        check_ubjson(memoryview(data))


def test_mutations_are_refused_or_read() -> None:
    generator = np.random.default_rng(5)
    whole = np.frombuffer(WHOLE, np.uint8)
    refused = 0
    for _ in range(MUTATIONS):
        changed = whole.copy()
        places = generator.integers(0, len(whole), generator.integers(1, 5))
        changed[places] = generator.integers(0, 256, len(places))
        try:
            check_ubjson(memoryview(changed.tobytes()))
        except UbjsonError:
            refused += 1
    assert MUTATIONS / 4 < refused < MUTATIONS

"""When are two outputs the same? Differences, and the tolerances by element type."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """What an element may differ by: ``rtol * |reference| + atol * max |reference| + step``.

    The absolute part scales with the output, because rounding errors of a network scale with the
    magnitudes inside it and not with each single result.

    Attributes:
        rtol: Of each element's own magnitude.
        atol: Of the largest magnitude in the output.
        step: In the output's own unit: a quantization step. Integers are held to it too.
        share: The share of elements that may lie beyond, 0 to 1.
    """

    rtol: float
    atol: float
    step: float = 0.0
    share: float = 0.0


@dataclass(frozen=True)
class Difference:
    """How one output of a candidate departs from its reference.

    Attributes:
        output: The output's name.
        max_abs: Largest absolute difference.
        max_rel: ``max_abs`` over the largest magnitude in the reference.
        snr_db: Signal to noise in decibels; infinite for equal outputs.
        mismatched: Share of elements beyond the tolerance, 0 to 1.
        ok: Whether all are within.
        reason: Why not, in words; empty where ``ok``.
    """

    output: str
    max_abs: float
    max_rel: float
    snr_db: float
    mismatched: float
    ok: bool
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON values; infinities become None."""
        return {
            "output": self.output,
            "max_abs": _finite(self.max_abs),
            "max_rel": _finite(self.max_rel),
            "snr_db": _finite(self.snr_db),
            "mismatched": self.mismatched,
            "ok": self.ok,
            "reason": self.reason,
        }


# Rewrites reorder sums: float32 networks of common depth then differ by 1e-7 to 1e-5 of the
# largest magnitude, float16 ones by about 1e-3. A wrong constant is orders above that.
_TOLERANCES = {
    "float64": Tolerance(1e-7, 1e-9),
    "float32": Tolerance(1e-4, 2e-5),
    "float16": Tolerance(1e-2, 2e-3),
    "bfloat16": Tolerance(5e-2, 1e-2),
    "complex64": Tolerance(1e-4, 2e-5),
    "complex128": Tolerance(1e-7, 1e-9),
}
_EXACT = Tolerance(0.0, 0.0)

# Elements that are compared at a time: few enough to stay in a processor's cache.
_PIECE = 1 << 15


def tolerance_for(dtype: np.dtype[Any]) -> Tolerance:
    """Return the tolerance for exact rewrites by element type; integers and text must be equal."""
    return _TOLERANCES.get(str(dtype), _EXACT)


def override(rtol: float | None, atol: float | None) -> Tolerance | None:
    """Return the tolerance a user asked for; None where nothing was asked."""
    if rtol is None and atol is None:
        return None
    return Tolerance(rtol or 0.0, atol or 0.0)


def compare(
    reference: Mapping[str, Any],
    candidate: Mapping[str, Any],
    tolerance: Tolerance | None = None,
) -> tuple[Difference, ...]:
    """Compare outputs by name.

    Args:
        reference: Output name to array, or to a (nested) list of arrays for sequences, or None
            for an empty optional.
        candidate: The same outputs of the other model.
        tolerance: Overrides the tolerance of the floating-point outputs.
    """
    return tuple(
        compare_value(name, expected, candidate[name], tolerance)
        if name in candidate
        else broken(name, "the output is missing")
        for name, expected in reference.items()
    )


def compare_value(
    name: str, expected: Any, actual: Any, tolerance: Tolerance | None = None
) -> Difference:
    """Compare one output; see :func:`compare`."""
    numeric = (np.ndarray, np.generic)
    if isinstance(expected, numeric) and isinstance(actual, numeric):
        return _compare_arrays(name, np.asarray(expected), np.asarray(actual), tolerance)
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        if expected.keys() != actual.keys():
            return broken(name, "the map has other keys")
        paired = [actual[key] for key in expected]
        return compare_value(name, list(expected.values()), paired, tolerance)
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return broken(name, f"{len(actual)} elements instead of {len(expected)}")
        pairs = zip(expected, actual, strict=True)
        found = [compare_value(name, e, a, tolerance) for e, a in pairs]
        return max(found, key=lambda d: (not d.ok, d.max_rel), default=_equal(name))
    if isinstance(expected, float) and isinstance(actual, float):
        # The runtime hands the float32 values of maps out as Python floats.
        pair = (np.asarray(expected, np.float32), np.asarray(actual, np.float32))
        return _compare_arrays(name, *pair, tolerance)
    if isinstance(expected, (int, str)) and type(expected) is type(actual):
        return _compare_arrays(name, np.asarray(expected), np.asarray(actual), tolerance)
    if expected is None and actual is None:
        return _equal(name)
    return broken(name, f"{type(actual).__name__} instead of {type(expected).__name__}")


def broken(name: str, reason: str) -> Difference:
    """Return the difference of outputs that cannot be compared."""
    return Difference(name, math.inf, math.inf, -math.inf, 1.0, ok=False, reason=reason)


def is_floating(array: np.ndarray[Any, Any]) -> bool:
    """Tell whether the elements are floating point or complex, ml_dtypes' small floats included."""
    return array.dtype.kind in "fc" or (
        array.dtype.kind == "V" and not str(array.dtype).startswith(("int", "uint"))
    )


def _compare_arrays(
    name: str,
    expected: np.ndarray[Any, Any],
    actual: np.ndarray[Any, Any],
    tolerance: Tolerance | None,
) -> Difference:
    if expected.dtype != actual.dtype and not (
        expected.dtype.kind in "OU" and actual.dtype.kind in "OU"
    ):
        return broken(name, f"{actual.dtype} instead of {expected.dtype}")
    if expected.shape != actual.shape:
        return broken(name, f"shape {list(actual.shape)} instead of {list(expected.shape)}")
    if expected.size == 0:
        return _equal(name)
    stepped = tolerance is not None and tolerance.step > 0.0 and expected.dtype.kind in "iu"
    if not is_floating(expected) and not stepped:
        return _compare_exact(name, expected, actual)
    bounds = tolerance or tolerance_for(expected.dtype)
    return _compare_floats(name, expected.reshape(-1), actual.reshape(-1), bounds)


def _compare_exact(
    name: str, expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]
) -> Difference:
    different = np.asarray(expected != actual)
    share = float(different.mean())
    if share == 0.0:
        return _equal(name)
    max_abs = max_rel = math.inf
    if expected.dtype.kind in "iub":
        wide = expected.astype(np.float64)
        max_abs = float(np.abs(wide - actual.astype(np.float64)).max())
        max_rel = max_abs / max(float(np.abs(wide).max()), 1.0)
    reason = f"{share:.2%} of the elements differ"
    return Difference(name, max_abs, max_rel, 0.0, share, ok=False, reason=reason)


def _compare_floats(
    name: str, expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any], bounds: Tolerance
) -> Difference:
    lost = changed = finite = 0
    scale = 0.0
    for reference, found in _pieces(expected, actual):
        if np.isfinite(reference).all() and np.isfinite(found).all():
            finite += reference.size
            scale = max(scale, _largest(reference))
            continue
        reference, found = _wide(reference), _wide(found)
        known = np.isfinite(reference)
        same_special = (np.isnan(reference) & np.isnan(found)) | (reference == found)
        gone = known & ~np.isfinite(found)
        lost += int(gone.sum())
        changed += int((~known & ~same_special).sum())
        finite += int(known.sum())
        scale = max(scale, float(_bounded(reference[known]).max(initial=0.0)))
    if lost or changed:
        word = "NaN or infinite" if lost else "another special value"
        share = (lost + changed) / expected.size
        return broken(name, f"{share:.2%} of the elements became {word}")
    if not finite:
        return _equal(name)
    count = 0
    signal, noise = _Power(), _Power()
    for reference, found in _pieces(expected, actual):
        reference, found = _wide(reference), _wide(found)
        if finite < expected.size:
            known = np.isfinite(reference)
            reference, found = reference[known], found[known]
        magnitude = _bounded(reference)
        with np.errstate(over="ignore"):  # the largest values may lie further apart than any value
            error = _bounded(found - reference)
        allowed = bounds.rtol * magnitude + bounds.atol * scale + bounds.step
        count += int(np.count_nonzero(error > allowed))
        signal.add(magnitude)
        noise.add(error)
    beyond = count / finite
    ok = beyond <= bounds.share
    max_abs = noise.peak
    max_rel = max_abs / scale if scale else (0.0 if max_abs == 0.0 else math.inf)
    reason = (
        ""
        if ok
        else f"{beyond:.2%} of the elements differ by more than allowed, at most {max_rel:.1e} "
        "of the largest magnitude"
    )
    snr = _snr_db(signal, noise)
    return Difference(name, max_abs, max_rel, snr, beyond, ok=ok, reason=reason)


def _pieces(
    expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Yield both piece by piece: in double precision, large outputs would take much memory."""
    for start in range(0, expected.size, _PIECE):
        piece = slice(start, start + _PIECE)
        yield expected[piece], actual[piece]


def _wide(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the values in double precision."""
    wide: np.ndarray[Any, Any] = values.astype(
        np.complex128 if values.dtype.kind == "c" else np.float64
    )
    return wide


def _largest(finite: np.ndarray[Any, Any]) -> float:
    """Return the largest magnitude of some finite values."""
    if finite.dtype.kind == "f":
        return max(float(finite.max()), -float(finite.min()))
    return float(_bounded(_wide(finite)).max())


def _bounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(over="ignore"):
        magnitudes = np.abs(values)
    bounded: np.ndarray[Any, Any] = np.minimum(magnitudes, np.finfo(np.float64).max)
    return bounded


@dataclass
class _Power:
    """The sum of squares of magnitudes, relative to the largest of them.

    Squares of large float64 values would overflow.
    """

    peak: float = 0.0
    total: float = 0.0

    def add(self, magnitudes: np.ndarray[Any, Any]) -> None:
        """Add some more."""
        peak = max(self.peak, float(magnitudes.max(initial=0.0)))
        if peak:
            self.total *= (self.peak / peak) ** 2
            self.total += float(np.square(magnitudes / peak).sum())
            self.peak = peak


def _snr_db(signal: _Power, noise: _Power) -> float:
    if noise.peak == 0.0:
        return math.inf
    if signal.peak == 0.0:
        return -math.inf
    ratio = math.log10(signal.total / noise.total)
    return 10.0 * ratio + 20.0 * (math.log10(signal.peak) - math.log10(noise.peak))


def _equal(name: str) -> Difference:
    return Difference(name, 0.0, 0.0, math.inf, 0.0, ok=True)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return numpy's type for an element type's name, ml_dtypes' included; text is ``object``."""
    if name == "string":
        return np.dtype(object)
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)

from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.pipeline.gate import Change
from onnxsmith.pipeline.slower import SlowFusions


def search(names: list[str], slow: set[str], limit: int = 1000) -> SlowFusions:
    def compare(before: frozenset[str], after: frozenset[str]) -> Change:
        assert before < after
        culprits = slow & (after - before)
        return Change(bool(culprits), "+".join(sorted(after - before)), {})

    found = SlowFusions(compare, limit)
    found.search(names, "all")
    return found


@given(st.sets(st.integers(0, 15), min_size=1), st.data())
def test_only_the_slow_ones_are_dropped(numbers: set[int], data: st.DataObject) -> None:
    names = [f"fuse-{n}" for n in sorted(numbers)]
    slow = data.draw(st.sets(st.sampled_from(names), min_size=1))
    found = search(names, slow)
    assert set(found.dropped) == slow
    assert found.kept == set(names) - slow


def test_each_is_dropped_with_its_own_measurement() -> None:
    found = search(["a", "b", "c", "d"], {"c"})
    assert found.dropped == {"c": "c"}
    assert found.measured == 4


def test_what_could_not_be_measured_is_dropped() -> None:
    found = search(["a", "b", "c", "d"], {"a"}, limit=2)
    assert found.measured == 2
    assert found.kept == set()
    assert found.dropped["a"] == "a"
    assert found.dropped["b"].startswith("not measured")
    assert found.dropped["d"].startswith("not measured")

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.report.model import (
    SCHEMA,
    Amount,
    Fact,
    Latency,
    Parity,
    PassRow,
    Report,
    Scores,
    Speedup,
    Stage,
)

texts = st.text(max_size=12)


numbers = st.none() | st.floats()
counts = st.none() | st.integers()


def some(kind):
    strategy = kind if isinstance(kind, st.SearchStrategy) else st.from_type(kind)
    return st.lists(strategy, max_size=2).map(tuple)


stages = st.builds(
    Stage,
    texts,
    st.sampled_from(["done", "cached", "skipped", "failed"]),
    seconds=numbers,
    nodes_before=counts,
    census_before=st.dictionaries(texts, st.integers(), max_size=2),
    passes=some(PassRow),
)
scores = st.builds(
    Scores,
    texts,
    st.dictionaries(texts, st.floats(), max_size=2),
    st.lists(st.lists(st.integers(), max_size=2).map(tuple), max_size=2).map(tuple),
    samples=counts,
)


reports = st.builds(
    Report,
    title=texts,
    status=st.sampled_from([None, "passed", "attention", "failed"]),
    stages=some(stages),
    parity=some(Parity),
    scores=some(scores),
    latency=some(Latency),
    speedups=some(Speedup),
    sizes=some(Amount),
    environment=some(Fact),
    warnings=st.lists(texts, max_size=2).map(tuple),
)


@given(reports)
@settings(max_examples=60, deadline=None)
def test_strict_json_and_back_is_the_same_report(report):
    text = json.dumps(report.to_json(), allow_nan=False)
    again = Report.from_json(json.loads(text))
    # Compared by repr: NaN is not equal to itself, and means something here.
    assert repr(again) == repr(report)


def test_a_whole_run_comes_back_equal(whole_run):
    assert Report.from_json(json.loads(json.dumps(whole_run.to_json()))) == whole_run


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_travel_as_strings(value):
    report = Report("t", speedups=(Speedup("a", "b", value),))
    written = report.to_json()["speedups"][0]["ratio"]
    assert written in ("NaN", "Infinity", "-Infinity")
    assert repr(Report.from_json(report.to_json()).speedups[0].ratio) == repr(value)


def test_an_older_report_without_some_parts_is_read():
    report = Report.from_json({"schema": SCHEMA, "title": "old", "sizes": []})
    assert report == Report("old")


def test_keys_of_a_later_minor_form_are_ignored():
    value = {
        "schema": SCHEMA,
        "title": "t",
        "novelty": 1,
        "sizes": [{"model": "m", "size_bytes": 3, "x": 1}],
    }
    assert Report.from_json(value).sizes == (Amount("m", 3),)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"title": "no schema"},
        {"schema": SCHEMA + 1, "title": "later"},
        {"schema": SCHEMA},
        {"schema": SCHEMA, "title": 3},
        {"schema": SCHEMA, "title": "t", "sizes": "many"},
        {"schema": SCHEMA, "title": "t", "sizes": [{"model": "m", "size_bytes": "big"}]},
        {"schema": SCHEMA, "title": "t", "sizes": [{"model": "m", "size_bytes": True}]},
        {"schema": SCHEMA, "title": "t", "status": "splendid"},
        {"schema": SCHEMA, "title": "t", "scores": [{"model": "m", "metrics": [1]}]},
        {"schema": SCHEMA, "title": "t", "scores": [{"model": "m", "metrics": {"a": "x"}}]},
        {"schema": SCHEMA, "title": "t", "stages": [[]]},
    ],
)
def test_what_is_no_report_is_refused_in_one_line(value):
    with pytest.raises(SmithError) as caught:
        Report.from_json(value)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_value_that_is_no_data_is_not_written():
    with pytest.raises(TypeError, match="cannot hold a complex"):
        Report("t", warnings=(1j,)).to_json()


def test_load_reads_a_file_and_refuses_others(tmp_path):
    good, bad = tmp_path / "report.json", tmp_path / "bad.json"
    good.write_text(json.dumps(Report("t").to_json()), encoding="utf-8")
    bad.write_bytes(b"\xff{")
    assert Report.load(good) == Report("t")
    for path in (bad, tmp_path / "absent.json", tmp_path):
        with pytest.raises(SmithError):
            Report.load(path)

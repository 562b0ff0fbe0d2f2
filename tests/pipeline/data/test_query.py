import pytest

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.data import SOURCES, open_data
from onnxsmith.pipeline.data.query import COMMON, parse_query


def test_numbers_fractions_and_lists_are_read_exactly() -> None:
    options = parse_query("scale=1/255&mean=0.485,0.456,1/4&std=0.5&limit=7", COMMON, "csv")
    assert options.scale == 1 / 255
    assert options.mean == (0.485, 0.456, 0.25)
    assert options.std == (0.5,)
    assert options.limit == 7


def test_names_are_unquoted_but_plus_stays() -> None:
    options = parse_query("label=price%20in%20%26+tax&input=a", COMMON, "csv")
    assert options.label == "price in &+tax"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits?scal=2", "no option 'scal'"),
        ("digits?label=3", "no option 'label'"),
        ("digits?scale=1/0", "scale='1/0'"),
        ("digits?scale=abc", "scale='abc'"),
        ("digits?scale=nan", "scale='nan'"),
        ("digits?std=0", "std=0"),
        ("digits?limit=-1", "limit='-1'"),
        ("digits?limit=0", "limit='0'"),
        ("digits?layout=CHW", "layout 'CHW'"),
        ("digits?split=..", "split='..'"),
        ("digits?split=dev", "no split 'dev'"),
        ("digits?scale", "has no value"),
        ("digits?scale=1&scale=2", "given twice"),
        ("digits:here", "takes no location"),
        ("mnist", "needs a location"),
        ("csv:", "needs a location"),
        ("digit", "unknown data source 'digit'"),
        ("cvs:iris.csv", "unknown data source 'cvs:iris.csv'"),
        ("", "unknown data source ''"),
    ],
)
def test_wrong_texts_are_usage_errors(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_data(text)
    assert caught.value.hint


def test_hints_name_the_closest() -> None:
    with pytest.raises(UsageError) as caught:
        open_data("digits?scal=2")
    assert caught.value.hint == "did you mean 'scale'?"
    with pytest.raises(UsageError) as caught:
        open_data("cvs:iris.csv")
    assert caught.value.hint == "did you mean 'csv'?"


def test_every_row_of_the_table_loads() -> None:
    for name in SOURCES.rows:
        assert SOURCES[name].keys >= {"scale", "limit"}

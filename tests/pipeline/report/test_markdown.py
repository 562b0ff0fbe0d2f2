import re

from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.pipeline.report import Report, to_markdown
from onnxsmith.pipeline.report.markdown import escape
from onnxsmith.pipeline.report.model import Amount, Scores

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


def tables(text):
    rows = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append(line)
        elif rows:
            yield rows
            rows = []


def columns(line):
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def check_tables(text):
    found = list(tables(text))
    for rows in found:
        assert len({columns(row) for row in rows}) == 1
        assert re.fullmatch(r"\|( -{3}:? \|)+", rows[1])
    return found


def test_every_row_of_a_table_has_as_many_cells_as_its_head(whole_run):
    text = to_markdown(whole_run)
    found = check_tables(text)
    assert len(found) == 8
    plain = text.replace(NBSP, " ")
    assert f"| accuracy | 97.78 % | 97.78 % | 97.56 % | {MINUS}0.22 points |" in plain
    assert "| --- | ---: | ---: | ---: | ---: |" in text


def test_hostile_names_stay_in_their_cells(hostile_run):
    text = to_markdown(hostile_run)
    assert check_tables(text)
    assert not re.search(r"<(?!/?$)", text)
    text.encode("utf-8")


def test_names_mean_nothing_in_markdown():
    assert escape("a|b\n# c") == r"a\|b \# c"
    assert escape("[x](http://e)") == r"\[x\](http&#58;//e)"
    assert escape("- item") == r"\- item"
    assert escape("12. item") == r"12\. item"
    assert escape("<b>&") == "&lt;b&gt;&amp;"


@given(st.text(max_size=40))
def test_an_escaped_name_is_one_line_without_markup(text):
    escaped = escape(text)
    assert "\n" not in escaped
    assert "<" not in escaped
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*\[\]]", escaped)


def test_sections_without_data_do_not_appear():
    assert to_markdown(Report("Size only", sizes=(Amount("m", 5000),))) == (
        "# Size only\n\n**Passed**\n\nm: 5.00\N{NO-BREAK SPACE}kB.\n\n"
        "- Size: **5.00\N{NO-BREAK SPACE}kB**\n\n## Size and memory\n\n"
        "**Size on disk.** m: 5.00\N{NO-BREAK SPACE}kB.\n"
    )
    text = to_markdown(Report("t", scores=(Scores("m", {"accuracy": 0.5}),)))
    assert "Difference" not in text

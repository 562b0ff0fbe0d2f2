from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.pipeline.report.text import clean, one_line, shorten

anything = st.text(st.characters(), max_size=300)


@given(anything)
def test_cleaned_text_can_be_written_and_turns_nothing_around(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert len(cleaned) == len(text)
    assert not set(cleaned) & set("\x00\x1b\u202e\u2066\u2028\x85")


@given(anything, st.integers(40, 200))
def test_shortened_text_keeps_to_the_limit_and_is_not_shortened_again(text, limit):
    short = shorten(text, limit)
    assert len(short) <= limit
    assert shorten(short, limit) == short


def test_a_long_name_keeps_both_ends_and_says_its_length():
    short = shorten("head" + "x" * 5000 + "tail")
    assert short.startswith("headx")
    assert short.endswith("xtail (5,008 characters)")


def test_ordinary_text_stays_as_it_is():
    assert clean("größe ∞ 日本語\n") == "größe ∞ 日本語\n"
    assert one_line(" a\n\tb  c ") == "a b c"

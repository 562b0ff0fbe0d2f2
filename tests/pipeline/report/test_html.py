import itertools
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from onnxsmith.pipeline.report import Report, to_html
from onnxsmith.pipeline.report.model import (
    Amount,
    Latency,
    Parity,
    ParityRow,
    PassRow,
    Scores,
    Speedup,
    Stage,
)

ASCII = str.maketrans(
    {
        "\N{NO-BREAK SPACE}": " ",
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{MULTIPLICATION SIGN}": "x",
    }
)
VOID = {"meta", "link", "img", "br", "hr", "input"}
LOADING = {"src", "srcset", "data", "action", "background", "poster", "xlink:href"}


class Page(HTMLParser):
    """Collects what the tests ask for, and insists that every tag is closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.tags, self.attributes, self.ids = [], Counter(), [], []
        self.text, self.headings = [], []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        inside = self.stack[-1] if self.stack else ""
        if inside != "style":
            self.text.append(data)
        if inside in ("h1", "h2", "h3", "h4"):
            self.headings.append((inside, data))

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def page(whole_run):
    return Page(to_html(whole_run))


@pytest.fixture(scope="module")
def hostile(hostile_run):
    return Page(to_html(hostile_run))


@pytest.mark.parametrize("name", ["page", "hostile"])
def test_nothing_is_loaded_and_nothing_runs(name, request):
    found = request.getfixturevalue(name)
    assert not set(found.tags) & {"script", "img", "link", "iframe", "object", "embed", "form"}
    for tag, key, value in found.attributes:
        assert key not in LOADING, (tag, key)
        assert not key.startswith("on"), (tag, key)
        assert key != "style"
        if key == "href":
            assert value.startswith("#")
    assert "content-security-policy" in (v.lower() for _, _, v in found.attributes)


def test_no_address_and_no_import_stands_in_the_file(whole_run):
    text = to_html(whole_run)
    assert not re.search(r"https?:|@import|url\(|file:|//www", text)
    assert len(text.encode()) < 300_000


def test_hostile_strings_arrive_as_text(hostile):
    assert "</script></style><img src=x onerror=alert(1)>\"'><!--{{ 7*7 }}" in hostile.words
    assert hostile.tags["style"] == 1
    assert hostile.tags["title"] >= 1


def test_control_characters_and_direction_marks_do_not_reach_the_page(hostile_run):
    text = to_html(hostile_run)
    assert not set(text) & set("\x00\x1b\u202e\ud800")
    text.encode("utf-8")


def test_long_names_are_cut_everywhere(hostile_run):
    words = re.split(r"[\s<>]", to_html(hostile_run))
    assert max(map(len, words)) < 6000
    assert "encoder/layer." * 100 not in to_html(hostile_run)


def test_the_page_can_be_found_ones_way_in(page):
    assert ("html", "lang", "en") in page.attributes
    assert page.tags["h1"] == page.tags["main"] == page.tags["nav"] == 1
    assert page.tags["caption"] == page.tags["table"]
    assert page.tags["figcaption"] == page.tags["figure"]
    labels = [v for tag, key, v in page.attributes if tag == "svg" and key == "aria-label"]
    assert len(labels) == page.tags["svg"]
    assert all(labels)
    assert max(Counter(page.ids).values()) == 1
    targets = {v[1:] for _, key, v in page.attributes if key in ("href",)}
    assert targets <= set(page.ids)
    levels = [int(tag[1]) for tag, _ in page.headings]
    assert levels[0] == 1
    assert all(after - before <= 1 or after == 4 for before, after in itertools.pairwise(levels))


def test_the_whole_story_is_on_the_page(page):
    titles = [text for tag, text in page.headings if tag == "h2"]
    assert titles == [
        "What went in",
        "Step by step",
        "Parity",
        "Accuracy",
        "Speed",
        "Size and memory",
        "What came out",
        "Provenance",
        "Environment",
    ]
    words = page.words.translate(ASCII)
    for text in (
        "scikit-learn 1.9.1",
        "fuse-softmax-cast was dropped: output probabilities is off by 3.1e-2",
        "MatMul 4 → 0",
        "Softmax stays in float32",
        "97.78 %",
        "-0.22 points",
        "onnxsmith quickstart --out runs/digits --seed 7",
        "AMD EPYC",
    ):
        assert text in words


def test_operators_that_never_were_are_not_counted(page):
    assert "MatMul 4 → 0" in page.words
    assert not re.search(r"Gemm 0(?! →)", page.words)


def test_the_verdict_is_told_in_words(page):
    words = page.words.translate(ASCII)
    assert (
        "digits-mlp (scikit-learn 1.9.1) became int8. Against fp32 it is 3.9x smaller "
        "(5.36 MB → 1.36 MB), 1.83x faster (95 % interval 1.72-1.94), with accuracy "
        "97.78 % → 97.56 % (-0.22 points). Every checked output matches its reference. "
        "One change was left out: fuse-softmax-cast."
    ) in words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Speedup("a", "b", 0.5, 0.4, 0.8, "slower"), "2.0x slower (95 % interval 1.25-2.50)"),
        (Speedup("a", "b", 1.01, 0.97, 1.06), "as fast as before (95 % interval 0.970-1.06)"),
        (Speedup("a", "b", 1.2, verdict="unmeasured"), "not measured for speed here"),
        (Speedup("a", "b", 1.2, 1.1, 1.3, "faster", 0.9), "1.20x faster (90 % interval 1.10-1.30)"),
    ],
)
def test_speed_is_told_as_it_is(ratio, words):
    text = to_html(Report("t", speedups=(ratio,))).translate(ASCII)
    assert f"b. Against a it is {words}." in text


@pytest.mark.parametrize(
    ("report", "word"),
    [
        (Report("t"), "Passed"),
        (Report("t", warnings=("w",)), "Passed, with notes"),
        (
            Report("t", stages=(Stage("s", passes=(PassRow("p", status="dropped"),)),)),
            "Passed, with notes",
        ),
        (Report("t", stages=(Stage("s", "failed"),)), "Failed"),
        (Report("t", parity=(Parity("a", "b", (ParityRow("y", verdict="differs"),)),)), "Failed"),
        (
            Report(
                "t", parity=(Parity("a", "b", (ParityRow("y", verdict="differs"),), budget="x"),)
            ),
            "Passed",
        ),
        (
            Report("t", parity=(Parity("a", "b", (ParityRow("y", verdict="unverified"),)),)),
            "Passed, with notes",
        ),
        (Report("t", status="failed"), "Failed"),
    ],
)
def test_the_badge_says_how_it_ended(report, word):
    assert re.search(r'class="badge \w+">([^<]*)<', to_html(report))[1] == word


def test_a_wrong_output_is_named_in_the_verdict():
    rows = (ParityRow("boxes", 1.0, 2.0, 3.0, "differs", "off by 1.0"), ParityRow("scores"))
    words = Page(to_html(Report("t", parity=(Parity("a", "b", rows),)))).words
    assert "Wrong: boxes differs from the reference." in words
    assert "off by 1.0" in words
    assert "1 of 2" in words


@pytest.mark.parametrize(
    ("report", "titles"),
    [
        (Report("nothing"), []),
        (Report("bench", latency=(Latency("m", (1.0,), 1.0, 1.0, 1.0, 1.0, 1000.0),)), ["Speed"]),
        (Report("evaluate", scores=(Scores("m", {"accuracy": 0.5}, samples=10),)), ["Accuracy"]),
        (Report("size", sizes=(Amount("m", 5),)), ["Size and memory"]),
        (Report("steps", stages=(Stage("convert"),)), ["Step by step"]),
    ],
)
def test_sections_without_data_do_not_appear(report, titles):
    found = Page(to_html(report))
    assert [text for tag, text in found.headings if tag == "h2"] == titles
    assert "None" not in found.words
    assert found.tags["nav"] == 0


def test_many_classes_are_cut_to_the_telling_ones():
    size = 300
    matrix = [[0] * size for _ in range(size)]
    for i in range(size):
        matrix[i][i] = 5
    matrix[7][11] = 4
    scores = Scores("m", {"accuracy": 0.99}, tuple(map(tuple, matrix)), samples=1504)
    found = Page(to_html(Report("t", scores=(scores,))))
    assert found.tags["svg"] == 0
    assert "Most confused classes of m" in found.words
    assert "7 11 4" in found.words


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def palettes():
    css = to_html(Report("t")).split("<style>")[1].split("</style>")[0]
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    assert len(blocks) == 3
    return [dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in blocks]


@pytest.mark.parametrize("index", range(3), ids=["light", "dark", "print"])
def test_text_stands_out_from_its_ground(index):
    colors = {
        k: v if len(v) == 7 else "#" + "".join(c * 2 for c in v[1:])
        for k, v in palettes()[index].items()
    }
    pairs = [("ink", "page"), ("ink", "card"), ("ink", "track"), ("soft", "page"), ("soft", "card")]
    pairs += [
        ("soft", "track"),
        ("accent", "page"),
        ("card", "accent"),
        ("on", "hit"),
        ("ink", "warn-soft"),
    ]
    pairs += [(tone, f"{tone}-soft") for tone in ("good", "bad", "warn")]
    pairs += [(tone, "card") for tone in ("good", "bad", "warn", "even")]
    for text, ground in pairs:
        assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for number in range(6):
        assert contrast(colors[f"s{number}"], colors["card"]) >= 3, number


def test_dark_and_print_name_every_color_of_light():
    light, dark, printed = palettes()
    assert set(light) == set(dark) == set(printed)

"""The section on how a model was trained."""

import math

from onnxsmith.pipeline.report.html import to_html
from onnxsmith.pipeline.report.markdown import to_markdown
from onnxsmith.pipeline.report.model import Report
from onnxsmith.pipeline.report.plots import WIDE, curve
from onnxsmith.pipeline.report.training import TrainedEpoch, Training

EPOCHS = (
    TrainedEpoch(1, 2.5, 1e-3, {"accuracy": 0.5, "mse": 3.0}, 1.5, 40),
    TrainedEpoch(2, 1.25, 1e-3, {"accuracy": 0.9, "mse": 1.0}, 1.5, 80),
    TrainedEpoch(3, 0.75, 5e-4, {"accuracy": 0.8, "mse": 2.0}, 1.5, 120),
)
REPORT = Report("t", trainings=(Training("cross-entropy", "adam<b>", EPOCHS, 1234, 4000),))


def test_curves_name_the_best_epoch_by_the_metrics_own_direction():
    text = to_markdown(REPORT)
    assert "1,234 parameters" in text.replace("\u202f", ",")
    assert "best in epoch 2: 90.00" in text
    assert "best in epoch 2: 1.000" in text
    assert (
        "Loss by epoch.** On the samples trained on, from 2.50 to 0.750, best in epoch 3: 0.750"
        in text
    )
    assert "adam<b>" not in text
    table = text[text.index("| Epoch") :].splitlines()
    assert len([line for line in table if line.startswith("| 3 ")]) == 1


def test_the_page_draws_a_curve_a_figure_and_the_data_survives_json():
    page = to_html(REPORT)
    assert page.count("by epoch, on held-out data, from") >= 2
    assert "adam<b>" not in page
    assert Report.from_json(REPORT.to_json()).trainings == REPORT.trainings
    assert "Training" not in to_markdown(Report("t", trainings=(Training("mse", "sgd"),)))


def test_a_broken_loss_leaves_a_gap():
    whole, gap = (curve(v, None, WIDE, "w") for v in ([3.0, 2.0, 1.0], [3.0, math.nan, 1.0]))
    assert whole.count("edge s1") == 1
    assert gap.count("edge s1") == 0
    assert gap.count("speck s1") == 2


def test_what_private_training_guarantees_stands_beside_each_epoch():
    private = tuple(TrainedEpoch(n, 1.0, epsilon=n + 0.25) for n in (1, 2))
    text = to_markdown(Report("t", trainings=(Training("mse", "sgd", private),)))
    assert "| Epsilon |" in text
    assert "| 2.25 |" in text
    assert "Epsilon" not in to_markdown(REPORT)

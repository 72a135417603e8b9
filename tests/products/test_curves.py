"""Pictures of runs: which panels there are, and where things stand."""

import numpy as np
import pytest
from PIL import Image

from aftermap.errors import OutputError
from aftermap.products.figures.curves import RunCurves, draw_runs


def run(label="damage (3f2a91c0)", top=0.7, steps=8):
    positions = [250 * (number + 1) for number in range(steps)]
    return RunCurves(
        label,
        {
            "score": [(p, top * (1 - 0.5**n)) for n, p in enumerate(positions)],
            "loss": [(p, 1 / (n + 1)) for n, p in enumerate(positions)],
            "lr": [(p, 0.002 / (n + 1)) for n, p in enumerate(positions)],
        },
        {
            "localization_f1": 0.8,
            "f1_no-damage": 0.7,
            "f1_minor-damage": 0.3,
            "f1_destroyed": 0.6,
            "score": top,
        },
    )


def test_four_panels_show_score_loss_rate_and_classes(tmp_path, figures):
    draw_runs(tmp_path / "runs.png", [run()], title="damage")
    (figure,) = figures
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "score by which the step is kept (dot: best)",
        "training loss",
        "learning rate (× 1e-3)",
        "F1 by class, step kept",
    ]
    assert [text.get_text() for text in figure.axes[3].get_xticklabels()] == [
        "building",
        "no-\ndamage",
        "minor-\ndamage",
        "destroyed",
    ]
    assert [bar.get_height() for bar in figure.axes[3].patches] == [0.8, 0.7, 0.3, 0.6]
    rates = figure.axes[2].lines[0].get_ydata()
    assert rates[0] == pytest.approx(2.0)


def test_the_dot_stands_on_the_best_step(tmp_path, figures):
    falling = RunCurves("a", {"score": [(1, 0.2), (2, 0.9), (3, 0.4)]})
    draw_runs(tmp_path / "a.png", [falling], title="a")
    dot = figures[0].axes[0].lines[-1]
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (2, 0.9)


def test_panels_without_data_are_left_out(tmp_path, figures):
    draw_runs(tmp_path / "a.png", [RunCurves("a", {"loss": [(1, 0.5)]})], title="a", axis="epoch")
    assert [axes.get_xlabel() for axes in figures[0].axes] == ["epoch"]
    with pytest.raises(ValueError, match="none of the runs has a score"):
        draw_runs(tmp_path / "b.png", [RunCurves("a")], title="a")


def test_a_loss_over_orders_of_magnitude_gets_a_logarithmic_axis(tmp_path, figures):
    draw_runs(tmp_path / "a.png", [RunCurves("a", {"loss": [(1, 5.0), (2, 0.1)]})], title="a")
    assert figures[0].axes[0].get_yscale() == "log"


@pytest.mark.parametrize("count", [1, 3, 12])
def test_nothing_overlaps_and_nothing_leaves_the_picture(tmp_path, figures, count):
    labels = [f"xview2-senet154-damage-tuned-seed{n} (3f2a91c{n})" for n in range(count)]
    path = draw_runs(tmp_path / "runs.png", [run(label) for label in labels], title=f"{count} runs")
    (figure,) = figures
    renderer = figure.canvas.get_renderer()
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [figure.legends[0].get_window_extent(renderer), figure.texts[0].get_window_extent(renderer)]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for other in boxes[:number]:
            assert not box.overlaps(other)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels
    assert np.asarray(Image.open(path)).shape[1] == pytest.approx(2 * 5.4 * 130, abs=2)


def test_runs_without_a_class_leave_a_gap(tmp_path, figures):
    localizer = RunCurves("loc", kept={"localization_f1": 0.9})
    draw_runs(tmp_path / "a.png", [run(), localizer], title="a")
    assert [bar.get_height() for bar in figures[0].axes[3].patches] == [0.8, 0.7, 0.3, 0.6, 0.9]


@pytest.mark.parametrize("count", [0, 13])
def test_too_few_or_too_many_runs_are_refused(tmp_path, count):
    with pytest.raises(ValueError, match="expected 1 to 12"):
        draw_runs(tmp_path / "a.png", [run()] * count, title="a")


def test_names_are_not_read_as_formulas(tmp_path):
    draw_runs(tmp_path / "a.png", [run("cost $x$ and $broken")], title="$a_b$ $")
    assert (tmp_path / "a.png").exists()


def test_a_picture_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        draw_runs(tmp_path / "absent" / "a.png", [run()], title="a")

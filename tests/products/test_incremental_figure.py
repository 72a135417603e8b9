"""Pictures of incremental learning: what is drawn where, in which colours, with room for names."""

import itertools

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from aftermap.classes import ClassScheme
from aftermap.errors import OutputError
from aftermap.products.figures.class_figure import Place, draw_confusion, draw_strips, painted
from aftermap.products.figures.incremental_figure import draw_classes, draw_curves
from aftermap.scoring.class_scores import ClassScores, Confusion
from aftermap.scoring.continual import ContinualScores

NAMES = ("background", "building", "road", "water")
SCHEME = ClassScheme("town", NAMES, ("#000000", "#e6194b", "#3cb44b", "#4363d8"))


def run(right=(9, 6, 3), names=NAMES, heads=(2, 1, 1)):
    """Of ten pixels of a class so many are right after as many steps as it is old; the others are background."""
    confusions, seen = [], 0
    for step, head in enumerate(heads):
        seen += head
        matrix = np.zeros((seen, seen), int)
        matrix[0, 0], first = 10, 1
        for age in range(step + 1):
            stop = sum(heads[: age + 1])
            for index in range(first, stop):
                matrix[index, index] = right[min(step - age, len(right) - 1)]
                matrix[index, 0] = 10 - matrix[index, index]
            first = stop
        confusions.append(Confusion.of(matrix))
    return ContinualScores.of(confusions, names=names, heads=heads)


def joint(names=NAMES):
    return run((10,), names, (len(names),))


def texts(figure):
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def overlaps(figure):
    """Pairs of visible texts that cover each other."""
    renderer = figure.canvas.get_renderer()
    boxes = [
        (t.get_text(), t.get_window_extent(renderer))
        for t in figure.findobj(Text)
        if t.get_visible() and t.get_text() and not t.get_rotation()
    ]
    return [
        (a, b)
        for (a, one), (b, other) in itertools.combinations(boxes, 2)
        if one.x0 < other.x1 - 1 and other.x0 < one.x1 - 1 and one.y0 < other.y1 - 1 and other.y0 < one.y1 - 1
    ]


def outside(figure):
    """Visible texts that reach beyond the picture."""
    renderer, frame = figure.canvas.get_renderer(), figure.bbox
    found = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text():
            box = text.get_window_extent(renderer)
            if box.x0 < 0 or box.y0 < 0 or box.x1 > frame.width or box.y1 > frame.height:
                found.append(text.get_text())
    return found


def test_curves_have_a_panel_for_all_micro_old_and_new(tmp_path, figures):
    draw_curves(tmp_path / "curves.png", {"MiB": [run()]}, title="town", joint=[joint()])
    headings = [axes.get_title(loc="left") for axes in figures[0].axes]
    assert [heading.split(",")[0] for heading in headings] == ["IoU", "micro F1", "IoU", "IoU"]
    all_classes = figures[0].axes[0].lines[0].get_ydata()
    assert all_classes == pytest.approx([0.9, (0.6 + 0.9) / 2, (0.3 + 0.6 + 0.9) / 3])


def test_old_classes_have_no_point_before_there_are_any(tmp_path, figures):
    draw_curves(tmp_path / "curves.png", {"MiB": [run()]}, title="town")
    old = figures[0].axes[2].lines[0].get_ydata()
    assert np.isnan(old[0]) and old[1:] == pytest.approx([0.6, 0.45])


def test_seeds_are_drawn_as_their_mean(tmp_path, figures):
    draw_curves(tmp_path / "curves.png", {"MiB": [run((9, 6, 3)), run((9, 8, 5))]}, title="town")
    assert figures[0].axes[2].lines[0].get_ydata()[1] == pytest.approx(0.7)
    assert "MiB (2 seeds)" in texts(figures[0])


def test_joint_training_is_a_dashed_line_found_by_name(tmp_path, figures):
    bound = run((8,), ("background", "water", "road", "building"), (4,))
    draw_curves(tmp_path / "curves.png", {"MiB": [run()]}, title="town", joint=[bound])
    dashed = [line for line in figures[0].axes[0].lines if line.get_linestyle() == "--"]
    assert dashed[0].get_ydata() == pytest.approx([0.8] * 3)


def test_a_run_of_one_step_has_no_panel_for_old_classes(tmp_path, figures):
    draw_curves(tmp_path / "curves.png", {"joint training": [joint()]}, title="town")
    assert [axes.get_title(loc="left")[:8] for axes in figures[0].axes] == [
        "IoU, all",
        "micro F1",
        "IoU, new",
    ]


def test_every_class_has_a_panel_that_marks_its_step(tmp_path, figures):
    draw_classes(tmp_path / "classes.png", {"MiB": [run()], "LwF": [run((9, 7, 5))]}, title="town")
    assert [axes.get_title(loc="left") for axes in figures[0].axes] == list(NAMES)
    assert [axes.get_xlabel() or axes.xaxis.label.get_text() for axes in figures[0].axes][3].endswith(
        "step 2"
    )
    assert figures[0].axes[2].lines[1].get_ydata() == pytest.approx([np.nan, 0.9, 0.6], nan_ok=True)


@pytest.mark.parametrize("draw", [draw_curves, draw_classes])
def test_long_names_and_many_steps_do_not_cover_each_other(tmp_path, figures, draw):
    names = ("background", *(f"a kind of ground with a long name, number {n}" for n in range(1, 15)))
    heads = (2, *[1] * 13)
    runs = {f"a method with a long name {n}": [run((9, n), names, heads)] for n in range(7)}
    draw(tmp_path / "many.png", runs, title="a task with a long name " * 8, joint=[joint(names)])
    assert overlaps(figures[0]) == []
    assert outside(figures[0]) == []


def test_runs_of_different_tasks_are_not_drawn_together(tmp_path):
    other = run(names=("background", "road", "building", "water"))
    with pytest.raises(ValueError, match="b learned other classes, or in other steps, than a"):
        draw_curves(tmp_path / "curves.png", {"a": [run()], "b": [other]}, title="town")
    assert not (tmp_path / "curves.png").exists()


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run to draw"):
        draw_classes(tmp_path / "classes.png", {"MiB": []}, title="town")


def test_a_confusion_matrix_shows_percent_of_its_rows(tmp_path, figures):
    scores = ClassScores.of(Confusion.of([[30, 10], [5, 15]]), names=("ground", "building"))
    draw_confusion(tmp_path / "confusion.png", scores, title="MiB")
    cells = [t.get_text() for t in figures[0].axes[0].texts]
    assert cells == ["75", "25", "25", "75"]
    assert "ground  66.7 %" in texts(figures[0])


def test_a_class_without_pixels_has_an_empty_row(tmp_path, figures):
    scores = ClassScores.of(Confusion.of([[30, 10], [0, 0]]), names=("ground", "building"))
    draw_confusion(tmp_path / "confusion.png", scores, title="MiB")
    assert [t.get_text() for t in figures[0].axes[0].texts] == ["75", "25"]


@pytest.mark.parametrize("classes", [2, 16, 40])
def test_a_confusion_matrix_of_any_size_keeps_its_names_in_the_picture(tmp_path, figures, classes):
    names = [f"a kind of ground with a long name, {n}" for n in range(classes)]
    scores = ClassScores.of(Confusion.of(np.full((classes, classes), 3)), names=names)
    draw_confusion(tmp_path / "confusion.png", scores, title="a title that is far too long " * 5)
    assert outside(figures[0]) == []
    assert overlaps(figures[0]) == []


def place(name="tile_1", methods=("fine-tuning", "MiB"), shape=(64, 64)):
    truth = np.zeros(shape, np.uint8)
    truth[:32, :32], truth[:32, 32:], truth[32:, 32:] = 1, 2, 3
    image = np.full((*shape, 3), 120, np.uint8)
    return Place(name, image, truth, dict.fromkeys(methods, truth))


def colours_of(path):
    return {colour for _, colour in Image.open(path).convert("RGB").getcolors(1 << 24)}


def test_strips_show_every_class_in_its_colour(tmp_path, figures):
    path = draw_strips(tmp_path / "strips.png", [place(), place("tile_2")], scheme=SCHEME, title="town")
    assert {(0, 0, 0), (230, 25, 75), (60, 180, 75), (67, 99, 216), (120, 120, 120)} <= colours_of(path)
    assert len(figures[0].axes) == 2 * 4
    assert {"image", "truth", "fine-tuning", "MiB", *NAMES} <= set(texts(figures[0]))


def test_a_picture_has_the_size_of_its_figure(tmp_path, figures):
    path = draw_strips(tmp_path / "strips.png", [place()], scheme=SCHEME, title="town")
    width, height = figures[0].get_size_inches() * 130
    assert Image.open(path).size == (int(width), int(height))


def test_classes_that_occur_nowhere_are_not_in_the_key(tmp_path, figures):
    only = Place("tile", np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8), {})
    draw_strips(tmp_path / "strips.png", [only], scheme=SCHEME, title="town")
    assert "building" in texts(figures[0]) and "water" not in texts(figures[0])


def test_a_method_without_a_place_leaves_a_gap(tmp_path, figures):
    places = [place(), place("tile_2", methods=("MiB",))]
    draw_strips(tmp_path / "strips.png", places, scheme=SCHEME, title="town")
    assert len(figures[0].axes) == 4 + 3


def test_strips_with_long_names_do_not_cover_each_other(tmp_path, figures):
    names = tuple(f"a kind of ground with a long name, number {n}" for n in range(16))
    scheme = ClassScheme("long", names, tuple(f"#{n:02x}8040" for n in range(16)))
    mask = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % 16
    methods = {f"method {n} with a very long name that wraps": mask for n in range(5)}
    places = [Place("tile " * 60, np.zeros((64, 64, 3), np.uint8), mask, methods)] * 2
    draw_strips(tmp_path / "strips.png", places, scheme=scheme, title="a title that is far too long " * 9)
    assert overlaps(figures[0]) == []
    assert outside(figures[0]) == []


def test_unknown_pixels_are_striped_and_in_no_class_colour():
    mask = np.full((40, 40), 255, np.uint8)
    mask[:, :20] = 1
    image = painted(mask, SCHEME)
    assert (image[:, :20] == (230, 25, 75)).all()
    assert {tuple(c) for c in image[:, 20:].reshape(-1, 3)} == {(255, 255, 255), (190, 190, 190)}


def test_a_value_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match="the mask holds 7, expected 0 to 3"):
        painted(np.full((4, 4), 7, np.uint8), SCHEME)


def test_a_map_of_another_size_than_its_image_is_refused(tmp_path):
    wrong = Place("tile_1", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9), np.uint8), {})
    with pytest.raises(ValueError, match="a map of tile_1 is"):
        draw_strips(tmp_path / "strips.png", [wrong], scheme=SCHEME, title="town")


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path):
    with pytest.raises(OutputError):
        draw_curves(tmp_path / "none" / "curves.png", {"MiB": [run()]}, title="town")

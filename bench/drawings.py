"""The five drawings of docs/how-it-works.md, as SVG: python bench/drawings.py

They stand on a light ground of their own, so that they can be read on light and dark pages. Windows, weights and the
row of the worked building are computed by what a map computes them with.
"""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from aftermap.classes import DAMAGE
from aftermap.inference.tiling import Axis

OUT = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH = 880
INK, FAINT, PAPER, CARD, BLUE, ORANGE = "#1f2933", "#5b6775", "#f6f7f9", "#ffffff", "#2f6fb3", "#b45309"
GROUND, ROOF = "#b9c7a5", "#8a8f98"


class Drawing:
    """Shapes and words on a ground, in pixels."""

    def __init__(self, name: str, height: int, told: str) -> None:
        self.name, self.height, self.told = name, height, told
        self.parts: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: str = CARD,
        line: str = "#c3cad3",
        *,
        r: float = 6,
        more: str = "",
    ) -> None:
        """A rectangle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{r:g}" fill="{fill}" stroke="{line}" {more}/>'
        )

    def words(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 14,
        fill: str = INK,
        bold: bool = False,
        at: str = "start",
    ) -> None:
        """A line of text, or several, from its first base line."""
        weight = ' font-weight="600"' if bold else ""
        for number, line in enumerate(text.split("\n")):
            self.parts.append(
                f'<text x="{x:g}" y="{y + 1.35 * size * number:g}" font-size="{size:g}" fill="{fill}" '
                f'text-anchor="{at}"{weight}>{escape(line)}</text>'
            )

    def card(self, x: float, y: float, w: float, h: float, title: str, text: str = "") -> None:
        """A box with a title and a few lines."""
        self.box(x, y, w, h)
        self.words(x + 12, y + 23, title, bold=True)
        self.words(x + 12, y + 43, text, size=12.5, fill=FAINT)

    def arrow(self, *points: tuple[float, float], fill: str = FAINT) -> None:
        """A line with a head at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{fill}" stroke-width="1.8" marker-end="url(#head)"/>'
        )

    def curve(self, points: Sequence[tuple[float, float]], colour: str, *, fill: str = "none") -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="{fill}" fill-opacity="0.18" stroke="{colour}" stroke-width="2"/>'
        )

    def town(self, x: float, y: float, side: float, damage: Sequence[int] | None) -> None:
        """Four houses from above: whole, or in the colours of what happened to them."""
        self.box(x, y, side, side, GROUND, INK, r=0)
        self.box(x, y + 0.46 * side, side, 0.1 * side, "#d8d3c5", "none", r=0)
        places = [(0.1, 0.12), (0.58, 0.1), (0.12, 0.64), (0.6, 0.64)]
        for number, (u, v) in enumerate(places):
            fill = ROOF if damage is None else DAMAGE.colours[damage[number]]
            self.box(x + u * side, y + v * side, 0.28 * side, 0.24 * side, fill, INK, r=0)

    def rubble(self, x: float, y: float, side: float) -> None:
        """The same from after: one house gone, one hurt."""
        self.town(x, y, side, None)
        for u, v in ((0.6, 0.64), (0.68, 0.7), (0.76, 0.66), (0.64, 0.8), (0.78, 0.8)):
            self.box(x + u * side, y + v * side, 0.07 * side, 0.06 * side, "#e8e2d4", INK, r=0)
        self.box(x + 0.58 * side, y + 0.1 * side, 0.12 * side, 0.12 * side, "#4b4f57", INK, r=0)

    def svg(self) -> str:
        """The file."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img" '
            f'font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif">\n<title>{escape(self.told)}</title>\n'
            f'<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0,0 L8,4 L0,8 z" fill="{FAINT}"/></marker></defs>\n'
            f'<rect width="{WIDTH}" height="{self.height}" rx="10" fill="{PAPER}"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def pair() -> Drawing:
    """How two images become a map."""
    d = Drawing("how-pair", 330, "From a pair of images to a map")
    d.town(24, 40, 90, None)
    d.words(24, 30, "before.tif", size=12.5, fill=FAINT)
    d.rubble(24, 190, 90)
    d.words(24, 180, "after.tif", size=12.5, fill=FAINT)
    d.card(
        150,
        96,
        158,
        130,
        "1  one grid",
        "the second date is\nput onto the first; the\nshift is measured;\nwhat is no ground is\nmarked",
    )
    d.arrow((116, 85), (146, 130))
    d.arrow((116, 235), (146, 192))
    d.card(
        338,
        96,
        158,
        130,
        "2  the model",
        "sees both dates in\nwindows and gives\nthe probability of each\nclass at each pixel",
    )
    d.arrow((310, 161), (334, 161))
    d.card(
        526,
        96,
        158,
        130,
        "3  buildings",
        "your footprints, or\ntraced outlines; each\ngathers what its\npixels say",
    )
    d.arrow((498, 161), (522, 161))
    d.town(716, 40, 90, (1, 3, 1, 4))
    d.arrow((686, 145), (712, 110))
    d.words(716, 152, "a class and probabilities\nfor each building", size=12.5, fill=FAINT)
    for number, name in enumerate(
        (
            "map.html",
            "buildings.gpkg, .csv",
            "damage.tif",
            "probabilities.tif",
            "summary.json",
            "provenance.json",
        )
    ):
        d.words(716, 204 + 18 * number, name, size=12.5)
    d.arrow((686, 178), (710, 200))
    for number, name in enumerate(DAMAGE.names[1:], 1):
        d.box(150 + 134 * (number - 1), 268, 14, 14, DAMAGE.colours[number], INK, r=0)
        d.words(170 + 134 * (number - 1), 280, name, size=12.5, fill=FAINT)
    d.words(
        150,
        310,
        "What cannot be judged (cloud, no data, outside) is not assessed, with the reason.",
        size=12.5,
        fill=FAINT,
    )
    return d


def windows() -> Drawing:
    """How a large image goes through a model."""
    length, window, halo = 2400, 1024, 128
    axis = Axis.plan(length, window_px=window, halo_px=halo)
    d = Drawing("how-windows", 400, "Windows overlap, and their weights sum to 1")
    left, scale = 40, 800 / length
    colours = (BLUE, ORANGE, "#3f7d4e", "#7a4fa3")
    d.words(
        left,
        32,
        f"{length:,} px of an image in {len(axis.starts)} windows of {axis.size} px, halo {halo} px",
        bold=True,
    )
    d.box(left, 52, length * scale, 96, GROUND, INK, r=0)
    for number, start in enumerate(axis.starts):
        inset = 6 + 9 * (number % 2)
        d.box(
            left + start * scale,
            52 + inset,
            axis.size * scale,
            96 - 2 * inset,
            colours[number],
            colours[number],
            r=0,
            more='fill-opacity="0.25" stroke-width="2"',
        )
        d.words(
            left + (start + axis.size / 2) * scale,
            105,
            f"window {number + 1}",
            size=13,
            at="middle",
            bold=True,
        )
    base, tall = 262, 80
    d.words(left, 174, "weight of each window", size=12.5, fill=FAINT)
    for number, start in enumerate(axis.starts):
        xs = np.arange(0, axis.size, 8)
        line = [(left + (start + x) * scale, base - tall * float(axis.weights[number][x])) for x in xs]
        ends = [(line[0][0], base), *line, (line[-1][0], base)]
        d.curve(ends, colours[number], fill=colours[number])
    d.curve([(left, base), (left + length * scale, base)], INK)
    d.words(left + length * scale + 8, base - tall + 4, "1", size=12.5, fill=FAINT)
    d.words(left + length * scale + 8, base + 4, "0", size=12.5, fill=FAINT)
    second = axis.starts[1]
    overlap = axis.size + axis.starts[0] - second
    d.box(left + second * scale, base + 8, overlap * scale, 8, FAINT, "none", r=2)
    d.words(
        left + (second + overlap / 2) * scale,
        base + 34,
        f"overlap {overlap} px, at least twice the halo",
        size=12.5,
        fill=FAINT,
        at="middle",
    )
    d.words(
        left,
        330,
        "Near its edge a window has seen padding instead of ground: there its weight is 0. "
        "Between, weights ramp, and sum to 1\n"
        "at every pixel, so that no seam shows. Windows run in rows from above. A row that no "
        "later window touches is written at\n"
        "once: memory depends on the width of the image, never on its height.",
        size=12.5,
        fill=FAINT,
    )
    return d


def worked_building() -> tuple[np.ndarray, np.ndarray]:
    """p(level) (4, 4, 6) of a house whose left part was hit harder, and p(building) (6, 8) with its ground."""
    building = np.full((6, 8), 0.05)
    building[1:5, 1:7] = 0.9
    building[1, 1] = building[4, 6] = 0.7
    levels = np.zeros((4, 4, 6))
    for column in range(6):
        worse = 0.7 if column < 3 else 0.2
        levels[:, :, column] = np.array([0.1, 0.9 - worse - 0.1, worse, 0.1])[:, None]
    return levels, building


def buildings() -> Drawing:
    """How pixels become a row of a table."""
    levels, building = worked_building()
    means = levels.mean((1, 2))
    d = Drawing("how-buildings", 330, "From pixels to a building")
    cell = 22

    def cells(x: float, y: float) -> Iterator[tuple[int, int, float, float]]:
        for row in range(6):
            for column in range(8):
                yield row, column, x + cell * column, y + cell * row

    d.words(24, 34, "1  p(building)", bold=True)
    for row, column, x, y in cells(24, 50):
        dark = round(255 - 190 * building[row, column])
        d.box(x, y, cell, cell, f"rgb({dark},{dark},255)", "#ffffff", r=0)
    d.words(24, 206, "each pixel says how\nlikely a roof is there", size=12.5, fill=FAINT)
    d.arrow((206, 116), (240, 116))
    d.words(248, 34, "2  outline", bold=True)
    for _, _, x, y in cells(248, 50):
        d.box(x, y, cell, cell, "#e8ecf1", "#ffffff", r=0)
    d.box(248 + cell, 50 + cell, 6 * cell, 4 * cell, "none", ORANGE, r=0, more='stroke-width="3"')
    d.words(
        248,
        206,
        "traced above the threshold,\ntouching houses parted,\ncorners squared; or yours",
        size=12.5,
        fill=FAINT,
    )
    d.arrow((430, 116), (464, 116))
    d.words(472, 34, "3  what its pixels say", bold=True)
    for row, column, x, y in cells(472, 50):
        inside = 1 <= row < 5 and 1 <= column < 7
        best = int(levels[:, row - 1, column - 1].argmax()) + 1 if inside else 0
        d.box(x, y, cell, cell, DAMAGE.colours[best] if inside else "#e8ecf1", "#ffffff", r=0)
    d.box(472 + cell, 50 + cell, 6 * cell, 4 * cell, "none", ORANGE, r=0, more='stroke-width="3"')
    d.words(
        472,
        206,
        "the mean over the pixels\nthat were seen, given that\nthere is a building",
        size=12.5,
        fill=FAINT,
    )
    d.arrow((652, 116), (674, 116))
    d.words(680, 34, "4  a row", bold=True)
    d.box(680, 50, 184, 140)
    names = ("p_no_damage", "p_minor", "p_major", "p_destroyed")
    decided = int(means.argmax())
    for number, (name, value) in enumerate(zip(names, means, strict=True)):
        d.words(690, 74 + 20 * number, name, size=12.5)
        d.words(854, 74 + 20 * number, f"{value:.2f}", size=12.5, at="end", bold=number == decided)
    d.words(690, 156, "damage", size=12.5)
    d.words(854, 156, DAMAGE.names[decided + 1], size=12.5, at="end", bold=True)
    d.words(690, 176, "confidence", size=12.5)
    d.words(854, 176, f"{means[decided]:.2f}", size=12.5, at="end")
    d.words(
        24,
        278,
        f"Half of the pixels are most likely {DAMAGE.names[3]}, half {DAMAGE.names[2]}; the building is "
        "judged as a whole. The confidence is the\n"
        "probability of its class times the share of it that was seen. Under half seen, it is not assessed.",
        size=12.5,
        fill=FAINT,
    )
    return d


def learning() -> Drawing:
    """How a model learns."""
    d = Drawing("how-learning", 370, "The learning loop")
    d.card(
        24,
        40,
        170,
        100,
        "labelled scenes",
        "both dates and masks,\nprepared once, split so\nthat no place is in two",
    )
    d.card(236, 40, 170, 100, "crops", "rare classes come up\noften; turned, and in\nother light")
    d.card(448, 40, 170, 100, "network", "class logits at\neach pixel")
    d.card(
        660, 40, 196, 100, "objective", "weighted terms: dice,\ncross-entropy, a teacher,\na loss of your own"
    )
    for x in (196, 408, 620):
        d.arrow((x, 90), (x + 36, 90))
    d.card(448, 176, 170, 76, "optimizer", "one step down the\ngradient of the sum")
    d.arrow((758, 142), (758, 214), (622, 214))
    d.arrow((533, 174), (533, 144))
    d.words(640, 206, "gradient", size=12.5, fill=FAINT)
    d.words(544, 163, "new weights", size=12.5, fill=FAINT)
    d.card(236, 176, 170, 76, "evaluation", "now and then, on\nscenes it never saw")
    d.arrow((470, 142), (470, 158), (321, 158), (321, 172))
    d.card(
        24,
        270,
        382,
        80,
        "model folder",
        "the best evaluation: weights, a card with threshold and\n"
        "class weights, what it learned from, and its limits",
    )
    d.arrow((320, 254), (320, 266))
    d.words(
        448,
        292,
        "All randomness of a step follows from the seed and its number:\n"
        "a run that was interrupted ends with the same weights.",
        size=12.5,
        fill=FAINT,
    )
    return d


def totals() -> Drawing:
    """How answers of people become totals and a better model."""
    d = Drawing("how-totals", 350, "From review to totals")
    d.card(24, 40, 164, 104, "map", "a class and\nprobabilities of every\nbuilding; a guess")
    d.card(
        232, 40, 180, 104, "random sample", "strata by class, size\nand p(damaged), in an\norder fixed before"
    )
    d.card(
        456,
        40,
        180,
        104,
        "people look",
        "before and after; one\nkey is one answer; what\nthe map says is hidden",
    )
    d.card(680, 40, 176, 104, "answers", "kept one by one, with\nwho, when, and whether\nthe map was shown")
    for x in (190, 414, 638):
        d.arrow((x, 92), (x + 38, 92))
    d.box(456, 190, 400, 96)
    d.words(468, 213, "totals", bold=True)
    d.words(468, 233, "how many are damaged, with an interval", size=12.5, fill=FAINT)
    d.curve([(500, 262), (800, 262)], INK)
    d.box(590, 257, 120, 10, BLUE, "none", r=3, more='fill-opacity="0.45"')
    d.box(640, 253, 5, 18, BLUE, "none", r=1)
    d.box(766, 257, 10, 10, ORANGE, "none", r=5)
    d.words(643, 281, "estimate and interval", size=11.5, fill=FAINT, at="middle")
    d.words(771, 281, "the map's count", size=11.5, fill=FAINT, at="middle")
    d.arrow((768, 146), (768, 186))
    d.card(
        24,
        190,
        388,
        96,
        "the map learns",
        "answers to doubtful buildings teach the map's own\n"
        "model; it is used only where answers that it did not\n"
        "learn from say that it is better",
    )
    d.arrow((720, 146), (720, 168), (300, 168), (300, 186))
    d.arrow((106, 188), (106, 148))
    d.words(
        24,
        318,
        "Only answers to the random sample count for totals. The interval covers that other "
        "buildings might have been drawn; it does not\n"
        "cover mistakes of the people who looked, or buildings that the map does not have.",
        size=12.5,
        fill=FAINT,
    )
    return d


DRAWINGS = (pair, windows, buildings, learning, totals)

if __name__ == "__main__":
    for make in DRAWINGS:
        drawing = make()
        (OUT / f"{drawing.name}.svg").write_text(drawing.svg())

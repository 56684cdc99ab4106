"""Plots as inline SVG: text that scales, prints, and takes its colours from the page's theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 460, 240, 46, 34, 14
_ROW = 34
_TICKS = 5


def lines(title: str, series: Mapping[str, Sequence[float]], words: str) -> str:
    """Curves over the epochs 1, 2, ...; the second dashed, so that colour is not needed."""
    values = [value for curve in series.values() for value in curve]
    epochs = max(len(curve) for curve in series.values())
    low, high = min(0.0, *values), max(values)
    high = 1.0 if 0.5 < high <= 1 else high or 1.0

    def x(epoch: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 12) * ((epoch - 1) / max(1, epochs - 1))

    y, drawn = _upwards(low, high, digits=2)
    named = sorted({1, (epochs + 1) // 2, epochs})
    drawn += [_text(x(epoch), _HEIGHT - 19, str(epoch)) for epoch in named]
    drawn.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 5, "epoch"))
    for number, (name, curve) in enumerate(series.items(), start=1):
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in enumerate(curve, start=1))
        drawn.append(f'<polyline class="line series{number}" points="{points}"/>')
        at = _LEFT + 14 + 90 * (number - 1)
        drawn.append(f'<line class="line series{number}" x1="{at}" y1="8" x2="{at + 24}" y2="8"/>')
        drawn.append(_text(at + 30, 12, name, "start"))
    return _svg(_HEIGHT, title, words, drawn)


def dots(
    title: str,
    rows: Mapping[str, tuple[Sequence[float], Sequence[float | None]]],
    words: str,
    ceilings: Mapping[str, float | None],
) -> str:
    """Per row: a dot for each case between 0 and 1, the mean as a bar, its interval as a line.

    A row holds the cases' values, and (mean, low, high); ``ceilings`` are drawn as diamonds.
    """
    left = 12 + 7.2 * max(len(name) for name in rows)
    height = _TOP + _ROW * len(rows) + _BOTTOM

    def x(value: float) -> float:
        return left + (_WIDTH - left - 16) * value

    drawn = []
    for step in range(6):
        value = step / 5
        drawn.append(_grid(x(value), _TOP, x(value), height - _BOTTOM))
        drawn.append(_text(x(value), height - 14, f"{value:.1f}"))
    for number, (name, (values, (mean, low, high))) in enumerate(rows.items()):
        y = _TOP + _ROW * (number + 0.5)
        drawn.append(_text(left - 8, y + 4, name, "end"))
        for place, value in enumerate(values):
            off = (place * 7 % 5 - 2) * 2.4  # so that equal scores stay visible
            drawn.append(f'<circle class="dot" cx="{x(value):.1f}" cy="{y + off:.1f}" r="3"/>')
        if mean is not None and low is not None and high is not None:
            box = f'x1="{x(low):.1f}" y1="{y:.1f}" x2="{x(high):.1f}" y2="{y:.1f}"'
            drawn.append(f'<line class="interval" {box}/>')
            bar = f'x1="{x(mean):.1f}" y1="{y - 9:.1f}" x2="{x(mean):.1f}" y2="{y + 9:.1f}"'
            drawn.append(f'<line class="mean" {bar}/>')
        ceiling = ceilings.get(name)
        if ceiling is not None:
            at = f"M{x(ceiling):.1f} {y - 8:.1f}l6 8-6 8-6-8z"
            drawn.append(f'<path class="ceiling" d="{at}"/>')
    return _svg(height, title, words, drawn)


def growth(
    title: str,
    trainings: Sequence[tuple[int, float]],
    curve: Sequence[tuple[float, ...]],
    words: str,
) -> str:
    """Scores by patients, which grow by factors: a circle a training, the curve and its interval.

    ``curve``: patients, low, middle and high, from few patients to many.
    """
    values = [score for _, score in trainings] + [one for row in curve for one in row[1:]]
    low, high = max(min(values) - 0.01, 0.0), min(max(values) + 0.01, 1.0)
    fewest, most = curve[0][0], curve[-1][0]

    def x(patients: float) -> float:
        across = math.log(patients / fewest) / max(math.log(most / fewest), 1e-9)
        return _LEFT + 8 + (_WIDTH - _LEFT - 28) * across

    y, drawn = _upwards(low, high, digits=3)
    named = sorted({patients for patients, _ in trainings} | {round(most)})
    drawn += [_text(x(patients), _HEIGHT - 19, str(patients)) for patients in named]
    drawn.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 5, "patients"))
    edge = [(row[0], row[3]) for row in curve] + [(row[0], row[1]) for row in reversed(curve)]
    around = " ".join(f"{x(patients):.1f},{y(value):.1f}" for patients, value in edge)
    middle = " ".join(f"{x(row[0]):.1f},{y(row[2]):.1f}" for row in curve)
    drawn.append(f'<polygon class="band" points="{around}"/>')
    drawn.append(f'<polyline class="line series1" points="{middle}"/>')
    for patients, score in trainings:
        drawn.append(f'<circle class="dot" cx="{x(patients):.1f}" cy="{y(score):.1f}" r="4"/>')
    return _svg(_HEIGHT, title, words, drawn)


def reliability(
    title: str,
    bins: Sequence[Mapping[str, float]],
    words: str,
    before: Sequence[Mapping[str, float]] = (),
) -> str:
    """Confidence against the share of right answers, a circle per bin, its area by its pixels.

    ``before``: bins that are drawn as rings, joined by a line.
    """
    side = _HEIGHT - _TOP - _BOTTOM
    most = max((one["pixels"] for one in (*bins, *before)), default=1)

    def x(value: float) -> float:
        return _LEFT + side * value

    def y(value: float) -> float:
        return _TOP + side * (1 - value)

    drawn = [_grid(x(0), y(0), x(1), y(1))]
    for value in (0, 0.5, 1):
        drawn.append(_grid(x(0), y(value), x(1), y(value)))
        drawn.append(_text(_LEFT - 6, y(value) + 4, f"{value:g}", "end"))
        drawn.append(_text(x(value), _HEIGHT - 18, f"{value:g}"))
    drawn.append(_text(x(0.5), _HEIGHT - 3, "confidence"))
    drawn.append(_text(x(1) + 14, y(0.9), "circles: share of right answers,", "start"))
    drawn.append(_text(x(1) + 14, y(0.81), "area by number of pixels;", "start"))
    drawn.append(_text(x(1) + 14, y(0.72), "on the diagonal: well calibrated", "start"))
    if before:
        drawn.append(_text(x(1) + 14, y(0.58), "rings: before calibration", "start"))
        joined = " ".join(f"{x(one['confidence']):.1f},{y(one['right']):.1f}" for one in before)
        drawn.append(f'<polyline class="line series2" points="{joined}"/>')
    for kind, some in (("ceiling", before), ("dot", bins)):
        for one in some:
            radius = 2 + 9 * (one["pixels"] / most) ** 0.5
            place = f'cx="{x(one["confidence"]):.1f}" cy="{y(one["right"]):.1f}"'
            drawn.append(f'<circle class="{kind}" {place} r="{radius:.1f}"/>')
    return _svg(_HEIGHT, title, words, drawn)


def _upwards(low: float, high: float, digits: int) -> tuple[Callable[[float], float], list[str]]:
    """Where a value stands between ``low`` at the bottom and ``high``, and lines with numbers."""

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / (high - low))

    drawn = []
    for step in range(_TICKS):
        value = low + (high - low) * step / (_TICKS - 1)
        drawn.append(_grid(_LEFT, y(value), _WIDTH - 12, y(value)))
        drawn.append(_text(_LEFT - 6, y(value) + 4, f"{value:.{digits}f}", "end"))
    return y, drawn


def _svg(height: float, title: str, words: str, drawn: Sequence[str]) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height:g}"'
    return (
        f'<svg class="plot" role="img" {box} aria-label="{escape(words)}">'
        f"<title>{escape(title)}</title>{''.join(drawn)}</svg>"
    )


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, content: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'

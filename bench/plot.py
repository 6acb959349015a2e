"""The rates as a bar chart: plain SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.report import Figures, ratio

_WIDTH = 760
_LEFT = 250
_RIGHT = 130
_BAR = 14
_GROUP = 44
_TOP = 34
_COLOURS = ("#8a94a6", "#d1495b")


def plot(figures: Figures) -> str:
    """An SVG document: one group of bars per shape, each with its rate, and the ratio behind the last."""
    most = max((run.rate for run in figures.runs), default=1.0)
    height = _TOP + _GROUP * len(figures.shapes) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12" fill="#6b7280">',
        *_legend(figures.contenders),
    ]
    for number, shape in enumerate(figures.shapes):
        top = _TOP + _GROUP * number
        parts.append(f'<text x="{_LEFT - 10}" y="{top + 19}" text-anchor="end">{escape(shape.title)}</text>')
        for place, name in enumerate(figures.contenders):
            rate = figures.median(shape.name, name, lambda run: run.rate)
            label = f"{rate:,.0f}/s"
            if place == 1:
                label += f" ({ratio(figures, shape):.1f}x)"
            parts += _bar(top + place * (_BAR + 2), rate / most, label, _COLOURS[place % len(_COLOURS)])
    return "\n".join([*parts, "</svg>", ""])


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    for place, name in enumerate(names):
        left = _LEFT + 120 * place
        parts.append(f'<rect x="{left}" y="8" width="12" height="12" fill="{_COLOURS[place % len(_COLOURS)]}"/>')
        parts.append(f'<text x="{left + 18}" y="18">{escape(name)}</text>')
    return parts


def _bar(top: int, share: float, label: str, colour: str) -> list[str]:
    width = max(1.0, share * (_WIDTH - _LEFT - _RIGHT))
    return [
        f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
        f'<text x="{_LEFT + width + 6:.1f}" y="{top + 11}">{escape(label)}</text>',
    ]

"""Draws test AUC against bytes from the `metrics.json` of runs.

Example:
    python docs/figure.py runs/frappe --out docs/auc-bytes.svg
"""

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import click

COLORS = {
    "keras-pep": "#1565c0",
    "uniform": "#ef6c00",
    "mixed-dimension": "#2e7d32",
    "magnitude": "#8e24aa",
    "gradual-magnitude": "#c62828",
    "narrow": "#ef6c00",
    "low-rank": "#2e7d32",
    "hash-embedding": "#8e24aa",
    "cce": "#c62828",
}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 400, 76, 40, 24, 56


def curves(metrics: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Collect (kB of the table in int8, test AUC) of each method."""
    found: dict[str, list[tuple[float, float]]] = {}

    def add(name: str, model: dict[str, Any]) -> None:
        size = model["exported_bytes"]["int8"]["table"] / 1000
        found.setdefault(name, []).append((size, model["test"]["auc"]))

    add("dense", metrics["dense"])
    for model in metrics["budgets"]:
        add("keras-pep", model)
    for model in metrics["baselines"]:
        add(model["method"], model)
    return {name: sorted(points) for name, points in found.items()}


def svg(metrics: dict[str, Any]) -> str:
    """Draw the curves; the dense model is a dashed line."""
    found = curves(metrics)
    (dense,) = found.pop("dense")
    points = [point for curve in found.values() for point in curve] + [dense]
    most = max(size for size, _ in points)
    low, high = min(a for _, a in points), max(a for _, a in points)
    margin = (high - low or 1e-3) / 10
    low, high = low - margin, high + margin

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * size / most

    def y(auc: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - auc) / (high - low)

    def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        return f"<line {ends} {style}/>"

    def text(at: tuple[float, float], words: str, more: str = "") -> str:
        return (
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" {more}>'
            f"{escape(words)}</text>"
        )

    middle = 'text-anchor="middle"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
        f'{HEIGHT}" font-family="sans-serif" font-size="13">',
        "<title>Test AUC against bytes of the table</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for step in range(5):
        auc, size = low + (high - low) * step / 4, most * step / 4
        drawn += [
            line(LEFT, y(auc), WIDTH - RIGHT, y(auc), 'stroke="#ddd"'),
            text((LEFT - 8, y(auc) + 4), f"{auc:.4f}", 'text-anchor="end"'),
            text((x(size), HEIGHT - BOTTOM + 20), f"{size:.0f}", middle),
        ]
    drawn += [
        text(((LEFT + WIDTH) / 2, HEIGHT - 12), "table in int8, kB", middle),
        text((12, 18), f"test AUC, {metrics['dataset']}"),
        line(
            *(LEFT, y(dense[1]), WIDTH - RIGHT, y(dense[1])),
            'stroke="#555" stroke-dasharray="6 4"',
        ),
        text((LEFT + 6, y(dense[1]) - 6), f"dense, {dense[0]:.0f} kB"),
    ]
    for number, (name, curve) in enumerate(found.items()):
        color = COLORS.get(name, "#555")
        path = " ".join(f"{x(s):.1f},{y(a):.1f}" for s, a in curve)
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" '
            'stroke-width="2"/>'
        )
        drawn += [
            f'<circle cx="{x(s):.1f}" cy="{y(a):.1f}" r="4" fill="{color}"/>'
            for s, a in curve
        ]
        at = WIDTH - RIGHT - 140, HEIGHT - BOTTOM - 76 + 20 * number
        drawn.append(text(at, f"● {name}", f'fill="{color}"'))
    return "\n".join([*drawn, "</svg>", ""])


@click.command(help=__doc__.partition("\n")[0] if __doc__ else None)
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default="docs/auc-bytes.svg"
)
def main(run: Path, out: Path) -> None:
    """Draw one run."""
    metrics = json.loads((run / "metrics.json").read_text())
    out.write_text(svg(metrics))


if __name__ == "__main__":
    main()

"""Draw the curves of bench/label_efficiency: what a model is worth after so many labels, set by set."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "label-efficiency"  # the same curves give the same file
matplotlib.rcParams["svg.fonttype"] = "none"
matplotlib.rcParams["font.family"] = "sans-serif"

import matplotlib.pyplot as plt  # noqa: E402 - after the choice of the backend
import numpy as np  # noqa: E402
from matplotlib.ticker import PercentFormatter  # noqa: E402

from bench.support.curves import labels_needed, mean_curve  # noqa: E402

TITLES = {
    "e_mails": "E-mail triage, 10 classes",
    "brown": "Brown corpus, genre, 15 classes",
    "movies": "Film reviews, 3 classes",
    "debian": "Debian package sections, 24 classes",
    "odd_news_zzzteana": "Rare class: e-mails, odd news",
    "other_personal": "Rare class: e-mails, personal",
    "php": "Rare class: Debian, php",
    "graphics": "Rare class: Debian, graphics",
}
LOOKS = {
    "random": ("random", "#8a8a8a", "-"),
    "margin": ("plain margin", "#d08a1d", "-"),
    "rival": ("scikit-activeml, its best", "#7d4fa3", "--"),
    "ours": ("Labelwheel", "#0b6e8e", "-"),
}
LEVEL, RARE_LEVEL = 0.95, 0.90
LEAST = 0.55  # lower values are of no interest


def curves_of(results: list[dict[str, Any]]) -> list[tuple[str, str, float, dict[str, Any]]]:
    """(title, axis, level, {side: curves}) of each panel."""
    panels = []
    for name in dict.fromkeys(one["set"] for one in results):
        mine = [one for one in results if one["set"] == name]
        sides = {side: [one["plain"][side] for one in mine] for side in mine[0]["plain"]}
        others = [side for side in sides if side not in LOOKS]
        best = min(others, key=lambda side: labels_needed(sides[side], LEVEL))
        shown = {"random": sides["random"], "margin": sides["margin"], "rival": sides[best], "ours": sides["ours"]}
        panels.append((TITLES.get(name, name), "share of full accuracy", LEVEL, shown))
        for wanted in mine[0]["rare"]:
            rare = {side: [one["rare"][wanted][side] for one in mine] for side in ("random", "margin", "ours")}
            panels.append((TITLES.get(wanted, wanted), "share of full average precision", RARE_LEVEL, rare))
    return sorted(panels, key=lambda panel: panel[2], reverse=True)


def main() -> int:
    """Read the results of the benchmark (first argument), write the plot (second)."""
    source, target = (Path(one) for one in sys.argv[1:3])
    panels = curves_of(json.loads(source.read_text(encoding="utf-8")))
    rows = -(-len(panels) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(10, 3.0 * rows + 0.9), squeeze=False)
    for axis, (title, what, level, sides) in zip(axes.flat, panels, strict=False):
        needed = {side: labels_needed(curves, level) for side, curves in sides.items()}
        for side, curves in sides.items():
            label, color, line = LOOKS[side]
            grid, mean = mean_curve(curves)
            axis.plot(grid, mean, color=color, linestyle=line, linewidth=2.2 if side == "ours" else 1.5, label=label)
            axis.plot([needed[side]], [np.interp(needed[side], grid, mean)], "o", color=color, markersize=5)
        axis.axhline(level, color="#444444", linewidth=0.8, linestyle=":")
        share = needed["ours"] / needed["random"]
        axis.set_title(
            f"{title}\n{needed['ours']:.0f} labels instead of {needed['random']:.0f} ({share:.0%})", fontsize=10
        )
        axis.set_xlim(0, needed["random"] * 1.25)
        axis.set_ylim(LEAST, 1.03)
        axis.set_xlabel("labels people gave", fontsize=9)
        axis.set_ylabel(what, fontsize=9)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axis.grid(color="#e6e6e6", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=4, frameon=False, fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / (3.0 * rows + 0.9)))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())

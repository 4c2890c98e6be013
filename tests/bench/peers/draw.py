"""Draws how figures grow: `draw.py FILE SVG`, one plot beside the other, both axes logarithmic. Uses matplotlib."""

import json
import sys

import matplotlib as mpl
from matplotlib.figure import Figure

MARKS = "os^Dv"
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "linkly", "font.size": 9})

with open(sys.argv[1]) as file:
    told = json.load(file)
figure = Figure(figsize=(4.2 * len(told["plots"]), 3.2))
axes = figure.subplots(1, len(told["plots"]), squeeze=False)
for axis, plot in zip(axes[0], told["plots"], strict=True):
    for mark, (side, points) in zip(MARKS, plot["lines"].items(), strict=False):
        axis.plot(list(map(int, points)), list(points.values()), marker=mark, markersize=4, label=side)
    axis.set(xscale="log", yscale="log", xlabel=told["axis"], title=plot["figure"])
    axis.grid(visible=True, which="major", alpha=0.3)
axes[0][0].legend(frameon=False, fontsize=8)
figure.tight_layout()
figure.savefig(sys.argv[2], metadata={"Date": None})

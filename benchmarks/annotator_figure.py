"""The figure and the tables of docs/annotator.md, from what `annotator.py` has stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- annotator: begin -->", "<!-- annotator: end -->"
COLOURS = {"suggested": "#0072b2", "random": "#d55e00"}


def waits(cells):
    """Seconds of waiting after each round: the median over the set's cells, because other work shared the machine."""
    rounds = [[row["train_s"] + row["predict_s"] for row in cell["rounds"]] for cell in cells]
    return np.median(np.array(rounds), axis=0)


def curves(cells):
    """Strokes, seconds and Dice of each cell, one row a cell."""
    waited = np.cumsum(waits(cells))
    return {
        key: np.array([[row[name] for row in cell["rounds"]] for cell in cells]) + add
        for key, name, add in (
            ("strokes", "strokes", 0),
            ("seconds", "person_s", waited),
            ("dice", "dice", 0),
        )
    }


def area(x, y):
    """Mean Dice under the curve over strokes, from the first round to the last."""
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def draw(table):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets = list(dict.fromkeys(cell["set"] for cell in table["cells"]))
    figure, axes = plt.subplots(2, len(sets), figsize=(3.1 * len(sets), 4.8), squeeze=False, sharey="col")
    for column, name in enumerate(sets):
        cells = [cell for cell in table["cells"] if cell["set"] == name]
        found = curves(cells)
        for row, (key, label) in enumerate(
            (("strokes", "strokes"), ("seconds", "minutes, waiting included"))
        ):
            axis = axes[row][column]
            for cell, x, y in zip(cells, found[key], found["dice"], strict=True):
                x = x / 60 if key == "seconds" else x
                axis.plot(x, y, "o-", ms=3, lw=1.2, color=COLOURS[cell["strategy"]], alpha=0.8)
            axis.set_xlabel(label)
            axis.set_xlim(left=0)
            axis.grid(alpha=0.3)
        axes[0][column].set_title(name, fontsize=10)
    for row in axes:
        row[0].set_ylabel("Dice, test patients")
    handles = [plt.Line2D([], [], color=colour, marker="o", ms=3) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc="upper center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(DOCS / "images" / "annotator.png", dpi=130)
    page = DOCS / "annotator.md"
    text = page.read_text()
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{tables(table, sets)}\n{END}{rest.split(END)[1]}")


def tables(table, sets):
    """Markdown: a row for each cell, and what each pair of them says."""
    lines = [
        "| Set | Next slice | Seed | Strokes | Person | Waiting | Dice after rounds 1 to 5 |",
        "|" + "---|" * 7,
    ]
    for name in sets:
        cells = [cell for cell in table["cells"] if cell["set"] == name]
        waited = float(waits(cells).sum())
        for cell in sorted(cells, key=lambda one: (one["seed"], one["strategy"] != "suggested")):
            last = cell["rounds"][-1]
            dice = ", ".join(f"{row['dice']:.3f}" for row in cell["rounds"])
            lines.append(
                f"| `{name}` | {cell['strategy']} | {cell['seed']} | {last['strokes']} | {last['person_s']:.0f} s "
                f"| {waited:.0f} s | {dice} |"
            )
    lines += [
        "",
        "| Set | Seed | Suggested minus random: last Dice | mean Dice over the strokes |",
        "|" + "---|" * 4,
    ]
    for name in sets:
        for seed, pair in pairs(table, name):
            last = {kind: cell["rounds"][-1]["dice"] for kind, cell in pair.items()}
            mean = {kind: over_common(pair, kind) for kind in pair}
            lines.append(
                f"| `{name}` | {seed} | {last['suggested'] - last['random']:+.3f} "
                f"| {mean['suggested'] - mean['random']:+.3f} |"
            )
    return "\n".join(lines)


def pairs(table, name):
    """Seeds of a set that were played with both strategies."""
    cells = [cell for cell in table["cells"] if cell["set"] == name]
    for seed in sorted({cell["seed"] for cell in cells}):
        pair = {cell["strategy"]: cell for cell in cells if cell["seed"] == seed}
        if len(pair) == 2:
            yield seed, pair


def over_common(pair, kind):
    """Mean Dice over the strokes that both have made."""
    end = min(cell["rounds"][-1]["strokes"] for cell in pair.values())
    strokes = [row["strokes"] for row in pair[kind]["rounds"]]
    dice = [row["dice"] for row in pair[kind]["rounds"]]
    at = np.linspace(strokes[0], end, 50)
    return area(at, np.interp(at, strokes, dice))

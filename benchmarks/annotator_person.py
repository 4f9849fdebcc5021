"""A scripted person who labels slices with strokes, for `annotator.py` and `crash_drill.py`.

The person knows the reference, looks at the largest mistake of the slice, and mends it with one stroke: what is compact is
outlined with the polygon tool, what is thin is followed along its middle with a brush about as wide as the structure. What
a stroke and a change of slice cost is assumed, not measured on people: see `SECONDS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

#: Seconds: to begin a stroke (find the mistake, choose the tool), to draw one pixel of it, to take up another slice.
SECONDS = {"stroke": 1.5, "pixel": 1 / 40, "slice": 4.0}
#: Half the width, in pixels, from which on a structure is outlined instead of followed.
COMPACT = 4.0
#: Mistakes of fewer pixels are let pass.
SMALLEST = 12
#: Strokes after which the person goes on to the next slice.
MOST = 25


@dataclass
class Effort:
    """What the person has spent."""

    strokes: int = 0
    slices: int = 0
    seconds: float = 0.0
    log: list[tuple[int, int]] = field(default_factory=list)  # slice, strokes in it

    def stroke(self, length: float) -> None:
        self.strokes += 1
        self.seconds += SECONDS["stroke"] + SECONDS["pixel"] * length

    def turn(self) -> None:
        self.slices += 1
        self.seconds += SECONDS["slice"]


def mistakes(drawn: np.ndarray, truth: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Connected mistakes of a slice and the value that mends each, largest first."""
    found = []
    for value, wrong in ((1, (truth == 1) & (drawn == 0)), (0, (truth == 0) & (drawn == 1))):
        pieces, count = ndimage.label(wrong, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        found += [(pieces == i, value) for i in range(1, count + 1) if sizes[i] >= SMALLEST]
    return sorted(found, key=lambda one: -int(one[0].sum()))


def depth(mask: np.ndarray) -> np.ndarray:
    """Distance to the edge of a mask; the border of the picture is one."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


def outline(mask: np.ndarray) -> np.ndarray:
    """Polygon around a piece, as exact as a hand draws one."""
    from skimage.measure import approximate_polygon, find_contours

    around = max(find_contours(np.pad(mask, 1).astype(float), 0.5), key=len) - 1
    return approximate_polygon(around, 0.7)


def middle_line(mask: np.ndarray, deep: np.ndarray) -> np.ndarray:
    """A way through a thin piece, from one far end to the other, along its middle."""
    from skimage.graph import MCP_Geometric

    cost = np.where(mask, 1 / (deep + 0.1), -1.0)
    start = np.unravel_index(int(np.argmax(deep * mask)), mask.shape)
    for _ in range(
        2
    ):  # the place furthest from anywhere is an end; the place furthest from that is the other
        ways = MCP_Geometric(cost)
        far, _ = ways.find_costs([start])
        end = np.unravel_index(int(np.argmax(np.where(np.isfinite(far) & mask, far, -1))), mask.shape)
        line, start = ways.traceback(end), end
    return np.array(line)


def length_of(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum()) if len(points) > 1 else 0.0


def one_stroke(labels, index: int, mask: np.ndarray, value: int) -> float:
    """Mend a piece in a labels layer, as one step of its undo history; returns the length of what the hand drew."""
    deep = depth(mask)
    if deep.max() >= COMPACT:
        points = outline(mask)
        labels.paint_polygon([(index, *point) for point in points], value)
        return length_of(points)
    line = middle_line(mask, deep)
    labels.brush_size = max(1, 2 * int(np.median(deep[tuple(line.T)])) - 1)
    with labels.block_history():
        for point in line:
            labels.paint((index, *point), value)
    return length_of(line)


def label_slice(labels, index: int, truth: np.ndarray, effort: Effort, most: int = MOST) -> int:
    """Mend a slice, largest mistake first, until only small ones are left or the person has had enough."""
    tried = 0
    while tried < most:
        found = mistakes(np.asarray(labels.data[index]), truth)
        if not found:
            break
        effort.stroke(one_stroke(labels, index, *found[0]))
        tried += 1
    effort.log.append((index, tried))
    return tried


def worth_mending(predicted: np.ndarray, truth: np.ndarray) -> bool:
    """Whether it is less work to mend a prediction than to draw the slice: fewer strokes, or as many for fewer pixels."""
    mend, draw = mistakes(predicted, truth), mistakes(np.zeros_like(truth), truth)
    return _work(mend) < _work(draw)


def _work(found: list[tuple[np.ndarray, int]]) -> tuple[int, int]:
    return len(found), sum(int(mask.sum()) for mask, _ in found)


def dice(found: np.ndarray, truth: np.ndarray) -> float | None:
    """Of two masks; None where there is nothing to find and nothing was."""
    both = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / both if both else None

"""A made short-axis cardiac MR phantom: no download, no patient, the same for the same seed.

Anatomy is painted in millimetres with partial volume at every edge, then seen through a receive coil and
given the noise of a magnitude image. It stands in for balanced steady-state free-precession cine MR at
end-diastole: bright blood and fat, dark lungs, grey myocardium. Papillary muscles lie inside the left
ventricle, look like myocardium and are labelled *cavity*, as most volume measurements count them: intensity
alone cannot find it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_ctxseg.cases import Case
from napari_ctxseg.image import Image, plain_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Field = NDArray[np.floating[Any]]

#: Class names and values of the phantom's labels.
CLASSES = {"LV": 1, "myo": 2}
#: Pixels along each side of a slice, and their size in mm.
SIDE, PIXEL = 160, 1.4

_NEAR = (slice(None), slice(15, 118), slice(18, 138))

#: Signal of each tissue before the coil, in arbitrary units.
SIGNAL = {
    "air": 2.0,
    "skin": 90.0,
    "fat": 205.0,
    "muscle": 62.0,
    "marrow": 125.0,
    "bone": 22.0,
    "lung": 14.0,
    "vessel": 150.0,
    "liver": 88.0,
    "spleen": 118.0,
    "stomach": 45.0,
    "mediastinum": 120.0,
    "blood": 228.0,
    "myocardium": 82.0,
}


@dataclass(frozen=True)
class Heart:
    """One subject's measures; lengths in mm, angles in radians.

    Parameters
    ----------
    centre : tuple of float
        Of the left ventricle at the base, ``(y, x)`` from the middle of the image.
    turn : float
        Rotation of the heart about its long axis.
    cavity : float
        Radius of the left ventricle's cavity at its widest.
    wall : float
        Thickness of the myocardium.
    right : float
        Reach of the right ventricle beyond the septum.
    depth : tuple of float
        Position of each slice along the long axis: 0 at the base, 1 at the tip of the cavity.
    step : float
        Distance between slices.
    """

    centre: tuple[float, float]
    turn: float
    cavity: float
    wall: float
    right: float
    depth: tuple[float, ...]
    step: float


def make_phantom(subjects: int = 4, seed: int = 0) -> list[Case]:
    """Make subjects that differ in position, size, wall thickness, rotation, intensity, coil and noise.

    Parameters
    ----------
    subjects : int
        Their number. Subject k is the same however many are made.
    seed : int
        Same seed, same phantom.

    Returns
    -------
    list of Case
        Each a stack of 6 to 8 slices of 160 x 160 pixels of 1.4 mm, 8 to 10 mm apart, base first; image
        uint16, labels uint8 with the values of `CLASSES`. The group is the subject.

    Raises
    ------
    ValueError
        If the number of subjects is below 1.

    Examples
    --------
    >>> case = make_phantom(subjects=1)[0]
    >>> case.image.axes, case.image.unit, case.labels.shape == case.image.array.shape
    ('zyx', 'mm', True)
    """
    if subjects < 1:
        raise ValueError(f"subjects must be 1 or more, got {subjects}")
    return [_subject(number, np.random.default_rng([seed, number])) for number in range(subjects)]


def _subject(number: int, rng: np.random.Generator) -> Case:
    heart = _draw_heart(rng)
    scene = _Scene(heart, rng)
    _paint_chest(scene, rng)
    window = scene.near_heart()
    _paint_right_heart(window, rng)
    labels = np.zeros(scene.image.shape, np.uint8)
    labels[_NEAR] = _paint_left_ventricle(window, rng)
    signal = _acquire(scene.image, rng)
    spacing = (heart.step, PIXEL, PIXEL)
    name = f"subject-{number + 1}"
    image = Image(signal, "zyx", spacing, plain_affine(spacing), unit="mm")
    return Case(name, image, labels, group=name)


def _draw_heart(rng: np.random.Generator) -> Heart:
    slices = int(rng.integers(6, 9))
    return Heart(
        centre=(float(rng.uniform(-20, -8)), float(rng.uniform(8, 24))),
        turn=float(rng.uniform(-0.35, 0.35)),
        cavity=float(rng.uniform(20.5, 24)),
        wall=float(rng.uniform(7.0, 9.5)),
        right=float(rng.uniform(25, 33)),
        depth=tuple(np.linspace(0.02, rng.uniform(0.84, 0.9), slices).tolist()),
        step=float(rng.choice([8.0, 9.0, 10.0])),
    )


class _Scene:
    """The image being painted, ``(z, y, x)``, and the coordinates to paint with.

    Signed distances are negative inside. Where an outline is a circle or nearly one they are exact or nearly
    so; for longer shapes they are good near the edge, which is where partial volume needs them.
    """

    def __init__(self, heart: Heart, rng: np.random.Generator) -> None:
        self.heart = heart
        slices = len(heart.depth)
        middle = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) * PIXEL
        self.y, self.x = (a.astype(np.float32) for a in np.meshgrid(middle, middle, indexing="ij"))
        self.image: Field = np.full((slices, SIDE, SIDE), SIGNAL["air"], np.float32)
        # Each slice is a breath-hold of its own, and the long axis is never quite normal to the slices.
        drift = np.cumsum(rng.normal(0, 0.7, (slices, 2)), axis=0) + np.outer(
            heart.depth, rng.normal(0, 5, 2)
        )
        self.heart_y = self.y - heart.centre[0] - drift[:, 0, None, None].astype(np.float32)
        self.heart_x = self.x - heart.centre[1] - drift[:, 1, None, None].astype(np.float32)
        #: Distances to the inside of the chest wall and to the liver: fat lies between them and the heart.
        self.pleura, self.liver = self.y, self.image
        self.depth = np.asarray(heart.depth, np.float32)[:, None, None]

    def paint(self, distance: Field, signal: float | Field, soft: float = PIXEL) -> None:
        """Cover what lies inside an outline; `soft` is the width of the edge in mm."""
        inside = np.clip(0.5 - distance / soft, 0, 1)
        self.image += inside * (signal - self.image)

    def near_heart(self) -> _Scene:
        """A view of the part that the heart can reach: half the pixels, half the time."""
        part = copy.copy(self)
        for name in ("image", "y", "x", "heart_y", "heart_x", "pleura", "liver"):
            array = getattr(self, name)
            setattr(part, name, array[_NEAR[-array.ndim :]])
        return part

    def ellipse(self, centre: tuple[float, float], axes: tuple[float, float], turn: float = 0.0) -> Field:
        """Distance to an ellipse in image coordinates, shape ``(y, x)``."""
        return _ellipse(self.y - centre[0], self.x - centre[1], axes, turn)


def _ellipse(y: Field, x: Field, axes: tuple[float, float], turn: float) -> Field:
    v, u = (y * np.cos(turn) - x * np.sin(turn)) / axes[0], (y * np.sin(turn) + x * np.cos(turn)) / axes[1]
    radius = np.hypot(v, u)
    slope = np.hypot(v / axes[0], u / axes[1]) / np.maximum(radius, 1e-6)
    distance: Field = ((radius - 1) / np.maximum(slope, 1e-6)).astype(np.float32)
    return distance


def _waves(angle: Field, rng: np.random.Generator, size: float, orders: range = range(2, 6)) -> Field:
    """Smooth closed curve around zero, to make outlines irregular."""
    total = np.zeros_like(angle)
    for order in orders:
        total += rng.normal(0, size / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return total


def _texture(shape: tuple[int, ...], rng: np.random.Generator, scale: float) -> Field:
    """Smooth noise of deviation 1 in the plane; `scale` in pixels."""
    noise = rng.standard_normal(shape, np.float32)
    smooth = ndimage.gaussian_filter(noise, (*(0,) * (len(shape) - 2), scale, scale), truncate=3)
    texture: Field = (smooth / smooth.std()).astype(np.float32)
    return texture


def _paint_chest(scene: _Scene, rng: np.random.Generator) -> None:
    """Air, skin, fat, muscle, ribs, lungs, diaphragm, liver, spleen, spine, aorta."""
    y, x = scene.y, scene.x
    tilt = float(rng.normal(0, 0.05))
    front = _ellipse(y - 45, x + 10, (136.0, 178.0), tilt + 0.06) + _waves(np.arctan2(y - 45, x), rng, 3.0)
    fat, muscle = float(rng.uniform(8, 17)), float(rng.uniform(12, 16))
    scene.paint(front, SIGNAL["skin"])
    scene.paint(front + 2.2, SIGNAL["fat"] * (1 + 0.05 * _texture(y.shape, rng, 5)))
    inner = front + fat + 1.5 * _texture(y.shape, rng, 12)
    scene.paint(inner, SIGNAL["muscle"] * (1 + 0.12 * _texture(y.shape, rng, 3)), 2.5)
    _paint_ribs(scene, inner + muscle * 0.55, rng)
    pleura = inner + muscle
    scene.pleura = pleura
    scene.paint(pleura, SIGNAL["fat"] * 0.6, 2.0)
    scene.paint(pleura + 2.5, SIGNAL["lung"] * (1 + 0.5 * np.abs(_texture(y.shape, rng, 1.5))), 2.0)
    _paint_vessels(scene, pleura + 8, rng, 15, SIGNAL["vessel"] * 0.45)
    _paint_abdomen(scene, pleura + 2.5, rng)
    _paint_back(scene, rng)


def _paint_ribs(scene: _Scene, middle: Field, rng: np.random.Generator) -> None:
    """Ribs cut across: marrow between two dark lines, in pieces along the chest wall."""
    angle = np.arctan2(scene.y - 45, scene.x + 10)
    uneven = _waves(angle, rng, 1.2, range(5, 14))
    along = np.cos(angle * float(rng.uniform(13, 17)) + float(rng.uniform(0, 6)) + uneven) * 8.0
    rib = np.hypot(np.maximum(np.abs(middle + uneven) - 1.5, 0), np.maximum(2.0 - along, 0)) - 3.2
    scene.paint(rib, SIGNAL["bone"] * 1.5, 3.0)
    grain = 1 + 0.15 * _texture(scene.y.shape, rng, 2)
    scene.paint(rib + 2.6, SIGNAL["marrow"] * 0.9 * grain, 3.0)


def _paint_vessels(
    scene: _Scene, region: Field, rng: np.random.Generator, number: int, signal: float
) -> None:
    """Small round or oblique vessels in a region, other ones in every slice."""
    inside = np.argwhere(region < 0)
    if len(inside) == 0:
        return
    for z in range(len(scene.image)):
        for row, column in inside[rng.integers(len(inside), size=number)]:
            size = float(rng.gamma(3, 0.5)) + 0.6
            axes, turn = (size, size * float(rng.uniform(1, 3.5))), float(rng.uniform(0, np.pi))
            reach = int(axes[1] / PIXEL) + 3
            box = (slice(max(row - reach, 0), row + reach), slice(max(column - reach, 0), column + reach))
            y, x = scene.y[box] - scene.y[row, column], scene.x[box] - scene.x[row, column]
            cover = np.clip(0.5 - _ellipse(y, x, axes, turn) / PIXEL, 0, 1)
            patch = scene.image[z][box]
            patch += cover * (signal * float(rng.uniform(0.6, 1.2)) - patch)


def _paint_back(scene: _Scene, rng: np.random.Generator) -> None:
    """Mediastinum behind the heart, spine and descending aorta."""
    grain = 1 + 0.12 * _texture(scene.y.shape, rng, 3)
    scene.paint(scene.ellipse((78, -20), (50, 30), -0.2), SIGNAL["mediastinum"] * 0.75 * grain, 4.0)
    spine = scene.ellipse((100, -28), (24, 25), 0.1)
    scene.paint(spine, SIGNAL["bone"], 2.0)
    scene.paint(spine + 2.4, SIGNAL["marrow"] * 0.85 * grain, 2.0)
    aorta = scene.ellipse((float(rng.uniform(66, 73)), float(rng.uniform(6, 12))), (11.5, 10.5))
    scene.paint(aorta - 1.6, SIGNAL["muscle"])
    scene.paint(aorta, SIGNAL["blood"] * float(rng.uniform(0.9, 1.02)))


def _paint_abdomen(scene: _Scene, pleura: Field, rng: np.random.Generator) -> None:
    """Liver under the right ventricle and stomach or spleen to the right; both rise towards the apex."""
    dome = (scene.depth - 0.4) * float(rng.uniform(16, 26))
    y, x = scene.y - 60 + dome, scene.x
    wavy = _waves(np.arctan2(scene.y - 68, scene.x + 70), rng, 3.0)
    liver = np.maximum(_ellipse(y, x + 78, (52.0, 74.0), 0.35) + wavy, pleura + 1)
    scene.liver = liver
    scene.paint(liver - 1.8, SIGNAL["fat"] * 0.55, 2.0)
    scene.paint(liver, SIGNAL["liver"] * (1 + 0.06 * _texture(scene.image.shape, rng, 2)), 2.0)
    _paint_vessels(scene, liver.max(axis=0) + 9, rng, 5, SIGNAL["vessel"])
    left = np.maximum(_ellipse(y - 14, x - 88, (34.0, 40.0), -0.4) - wavy, pleura + 1)
    scene.paint(left - 1.5, SIGNAL["fat"] * 0.6, 2.0)
    organ = "spleen" if rng.random() < 0.6 else "stomach"
    scene.paint(left, SIGNAL[organ] * (1 + 0.08 * _texture(scene.y.shape, rng, 2)), 2.0)


def _taper(depth: Field) -> Field:
    """Radius of the left ventricle relative to its widest place: a bullet that closes at depth 1."""
    return np.sqrt(np.clip(1 - np.clip(depth, 0, 1) ** 2.6, 0.02, 1)).astype(np.float32)


def _ventricle(scene: _Scene, rng: np.random.Generator) -> tuple[Field, Field]:
    """Distances to the inner and the outer outline of the left ventricle's wall."""
    heart = scene.heart
    y, x = scene.heart_y, scene.heart_x
    angle = np.arctan2(y, x) - heart.turn
    oval = 1 + float(rng.normal(0, 0.035)) * np.cos(2 * angle)
    radius = heart.cavity * _taper(scene.depth) * oval
    # The inner outline is uneven (trabeculae), the outer one smooth; the lateral wall is a little thicker.
    inner = np.hypot(y, x) - radius - _waves(angle, rng, 0.9, range(2, 9))
    wall = heart.wall * (1 + 0.1 * np.cos(angle) + 0.05 * np.cos(2 * angle + 1)) * (1 - 0.22 * scene.depth**2)
    outer = np.hypot(y, x) - radius - wall
    return inner.astype(np.float32), np.minimum(outer, inner - 3.5).astype(np.float32)


def _paint_right_heart(scene: _Scene, rng: np.random.Generator) -> None:
    """Fat around the heart, and the right ventricle: a crescent at the septum that ends before the apex."""
    heart = scene.heart
    reach = np.maximum(_taper(np.clip(scene.depth * 1.12, 0, 1)), 0.15)
    septum = heart.cavity * 0.6
    v = (scene.heart_y - np.float32(np.sin(heart.turn) * septum) + 3) / reach
    u = (scene.heart_x + np.float32(np.cos(heart.turn) * septum) + heart.right * 0.42 * reach) / reach
    angle = np.arctan2(v, u)
    shape = _ellipse(v, u, (heart.cavity * 1.4, heart.right * 0.98), heart.turn - 0.3)
    right = (shape * reach + _waves(angle, rng, 2.6)).astype(np.float32)
    left = np.hypot(scene.heart_y, scene.heart_x) - heart.cavity * _taper(scene.depth) - heart.wall
    sac = np.minimum(left, right - 3).astype(np.float32)
    _paint_fat(scene, sac, rng)
    scene.paint(sac - 1.0, SIGNAL["muscle"] * 0.7, 2.5)  # pericardium: a thin dark line
    scene.paint(right - 2.8, SIGNAL["myocardium"] * 0.95, 2.0)
    flow = 1 + 0.05 * _texture(scene.image.shape, rng, 5)
    scene.paint(right + 1.1 * _texture(scene.image.shape, rng, 2), SIGNAL["blood"] * 0.93 * flow, 2.5)
    # Trabeculae: the free wall's inner third is a mixture of blood and muscle.
    mixture = np.clip(_texture(scene.image.shape, rng, 1.6) - 0.3, 0, 1) * np.clip(1 + (right + 2) / 9, 0, 1)
    scene.image += np.where(right < 1.5, mixture * 0.75, 0) * (SIGNAL["myocardium"] - scene.image)


def _paint_fat(scene: _Scene, sac: Field, rng: np.random.Generator) -> None:
    """Fat: bridges from the heart to chest wall and diaphragm, and an uneven layer around the heart."""
    y, x = scene.heart_y, scene.heart_x
    grain = 1 + 0.1 * _texture(scene.y.shape, rng, 2)
    bumps = 2.5 * _texture(scene.y.shape, rng, 6)
    for outside, reach in (
        (-scene.pleura, float(rng.uniform(20, 30))),
        (scene.liver, float(rng.uniform(8, 14))),
    ):
        bridge = np.maximum(sac, 0) + outside - reach + bumps
        scene.paint(np.maximum(bridge, -outside), SIGNAL["fat"] * 0.62 * grain, 5.0)
    angle = np.arctan2(y, x)
    front = np.exp(-((np.sin((angle - float(rng.uniform(-2.0, -1.2))) / 2) / 0.35) ** 2))
    below = np.exp(-((np.sin((angle - float(rng.uniform(1.6, 2.4))) / 2) / 0.2) ** 2))
    layer = 0.6 + float(rng.uniform(3, 8)) * front + float(rng.uniform(2, 6)) * below
    scene.paint(sac - layer + 1.5 * _texture(scene.y.shape, rng, 5), SIGNAL["fat"] * 0.75 * grain, 3.0)


def _paint_left_ventricle(scene: _Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Myocardium, cavity and papillary muscles; returns the labels, shape ``(z, y, x)``."""
    inner, outer = _ventricle(scene, rng)
    scene.paint(outer, SIGNAL["myocardium"] * (1 + 0.05 * _texture(scene.image.shape, rng, 2)))
    flow = 1 + 0.045 * _texture(scene.image.shape, rng, 4)
    scene.paint(inner + 0.5 * _texture(scene.image.shape, rng, 1.5), SIGNAL["blood"] * flow, 2.0)
    _paint_papillaries(scene, rng)
    labels = np.zeros(scene.image.shape, np.uint8)
    labels[outer < 0] = CLASSES["myo"]
    labels[inner < 0] = CLASSES["LV"]
    return labels


def _paint_papillaries(scene: _Scene, rng: np.random.Generator) -> None:
    """Two muscles on the free wall, thickest half-way down, gone at the base."""
    heart = scene.heart
    belly = np.clip(1 - ((scene.depth - 0.55) / 0.42) ** 2, 0, 1)
    for where in (-0.75, 1.25):
        angle = heart.turn + where + float(rng.normal(0, 0.12))
        away = heart.cavity * _taper(scene.depth) * float(rng.uniform(0.62, 0.72))
        y, x = scene.heart_y - np.sin(angle) * away, scene.heart_x - np.cos(angle) * away
        size = (float(rng.uniform(4.2, 5.6)) * belly * _taper(scene.depth)).astype(np.float32)
        lumpy = _waves(np.arctan2(y, x), rng, 1.0) * belly
        muscle = np.where(size > 1, np.hypot(y, x * 1.1) - size - lumpy, 9).astype(np.float32)
        scene.paint(muscle, SIGNAL["myocardium"] * 1.02, 2.0)


def _acquire(scene: Field, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Point spread, coil sensitivity, Rician noise and the scanner's arbitrary scale."""
    blurred = ndimage.gaussian_filter(scene, (0, 0.45, 0.45), truncate=3)
    y, x = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE), indexing="ij")
    # A front array over the heart and a weaker one in the back: bright near the elements, darker in between.
    front = np.exp(-((y + 1.0) ** 2 / 1.1 + (x - rng.normal(0, 0.25)) ** 2 / 1.8))
    back = np.exp(-((y - 1.2) ** 2 / 0.9 + (x - rng.normal(0, 0.3)) ** 2 / 2.2))
    slope = 1 + rng.normal(0, 0.12) * x + rng.normal(0, 0.08) * y
    coil = (0.62 + 0.75 * front + 0.45 * back) * slope
    # Rician: magnitude of a complex signal with equal Gaussian noise in both parts (Gudbjartsson, Patz 1995).
    noise = float(rng.uniform(4.5, 8.5))
    real, imaginary = rng.standard_normal((2, *scene.shape), np.float32) * np.float32(noise)
    magnitude = np.hypot(blurred * coil.astype(np.float32) + real, imaginary)
    scaled: NDArray[np.uint16] = np.round(magnitude * float(rng.uniform(1.5, 5.0))).astype(np.uint16)
    return scaled

"""Step sizes and units of the three kinds of TIFF, as read and as written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from napari_ctxseg.errors import FileError
from napari_ctxseg.io import _common

if TYPE_CHECKING:
    from pathlib import Path

    import tifffile

_MAX_XML = 16 << 20
_UNITS = {
    "micron": "um", "microns": "um", "um": "um", "µm": "um", "μm": "um", "\\u00b5m": "um", "micrometer": "um",
    "mm": "mm", "millimeter": "mm", "nm": "nm", "nanometer": "nm", "cm": "cm", "m": "m", "inch": "inch",
    "": "pixel", "pixel": "pixel", "pixels": "pixel",
}  # fmt: skip
_METRES = {"nm": 1e-9, "um": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0, "inch": 0.0254}
_OME_UNITS = {"um": "µm", "inch": "in"}
_RESOLUTION_TAGS = (282, 283, 296)
#: What ImageJ can hold.
_IMAGEJ_TYPES = (np.uint8, np.uint16, np.float32)
_IMAGEJ_KEEP = ("spacing", "unit", "finterval", "fps", "tunit")


@dataclass(frozen=True)
class Scale:
    """How large the steps of an image are.

    Parameters
    ----------
    kind : str
        ``"plain"``, ``"imagej"`` or ``"ome"``.
    steps : dict
        One size for each of the letters ``tzyx``; time is 1.
    unit : str
        Unit of the spatial steps.
    kept : dict
        What the file said, to be written back as it was.
    notes : tuple of str
        What had to be guessed.
    """

    kind: str
    steps: dict[str, float]
    unit: str
    kept: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def options(self, axes: str, dtype: np.dtype[Any], *, ome: bool) -> dict[str, Any]:
        """Keyword arguments of ``tifffile.imwrite`` for values with these axes.

        Parameters
        ----------
        axes : str
            ``"yx"``, ``"zyx"`` or ``"tyx"``.
        dtype : numpy.dtype
            Type of the values.
        ome : bool
            Write OME whatever the kind.
        """
        if ome or self.kind == "ome" or (self.kind == "imagej" and dtype not in _IMAGEJ_TYPES):
            return {"ome": True, "metadata": {"axes": axes.upper(), **self._ome_attributes(axes)}}
        resolution = self.kept.get("resolution")
        options: dict[str, Any] = {}
        if resolution is not None:
            options = {"resolution": resolution[:2], "resolutionunit": resolution[2]}
        if self.kind == "plain":
            return {**options, "metadata": {"axes": axes.upper()} if len(axes) > 2 else None}
        if resolution is None:
            options = {"resolution": (1 / self.steps["x"], 1 / self.steps["y"]), "resolutionunit": 1}
        said = {key: self.kept[key] for key in _IMAGEJ_KEEP if key in self.kept}
        if not self.kept:
            said = {"unit": {"um": "micron"}.get(self.unit, self.unit)}
            if "z" in axes:
                said["spacing"] = repr(self.steps["z"])
        return {**options, "imagej": True, "metadata": {"axes": axes.upper(), **said}}

    def _ome_attributes(self, axes: str) -> dict[str, Any]:
        if self.kind == "ome":
            return {key: value for key, value in self.kept.items() if key.startswith("PhysicalSize")}
        unit = _OME_UNITS.get(self.unit, self.unit)
        said: dict[str, Any] = {}
        for letter in axes.replace("t", ""):
            said[f"PhysicalSize{letter.upper()}"] = self.steps[letter]
            said[f"PhysicalSize{letter.upper()}Unit"] = unit
        return said


def ome_pixels(path: Path, tif: tifffile.TiffFile) -> dict[str, str] | None:
    """Attributes of the first ``Pixels`` element, channel names under ``"names"``; None without OME-XML.

    Raises
    ------
    FileError
        If the XML is huge, has a DOCTYPE, cannot be parsed, or says that planes are in other files.
    """
    if not tif.is_ome:
        return None
    text = tif.pages.first.description
    if len(text) > _MAX_XML:
        raise FileError(path, f"has {len(text)} characters of OME-XML", "Save it again with less metadata")
    if "<!doctype" in text.lower():
        raise FileError(path, "has a DOCTYPE in its OME-XML", "Save it again with another program")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise _common.damaged(path, f"its OME-XML cannot be parsed ({error})") from error
    pixels = root.find(".//{*}Pixels")
    if root.find(".//{*}BinaryOnly") is not None or pixels is None:
        raise FileError(path, "keeps its OME description in another file", "Export the image as one OME-TIFF")
    own = root.get("UUID")
    others = {(uuid.text or "", uuid.get("FileName", "")) for uuid in root.iterfind(".//{*}TiffData/{*}UUID")}
    if len(others) > 1 or (own and any(uuid.strip() != own for uuid, _ in others)):
        names = ", ".join(sorted(name for _, name in others)[:3])
        raise FileError(
            path, f"spreads its planes over other files ({names})", "Export the image as one OME-TIFF"
        )
    found = dict(pixels.attrib)
    for key in ("SizeZ", "SizeC", "SizeT"):
        if not found.get(key, "").isascii() or not found.get(key, "").isdigit():
            raise _common.damaged(path, f"its OME-XML says {key} is {found.get(key)!r}")
    found["names"] = "\n".join(channel.get("Name", "") for channel in pixels.iterfind("{*}Channel"))
    return found


def read_scale(path: Path, tif: tifffile.TiffFile, ome: dict[str, str] | None) -> Scale:
    """Read step sizes and unit.

    Parameters
    ----------
    path : Path
        For messages.
    tif : tifffile.TiffFile
        Open.
    ome : dict or None
        From `ome_pixels`.
    """
    if ome is not None:
        return _ome_scale(ome)
    tags = tif.pages.first.tags
    kept: dict[str, Any] = {}
    if all(code in tags for code in _RESOLUTION_TAGS[:2]):
        unit = int(tags[296].value) if 296 in tags else 1
        kept["resolution"] = (tags[282].value, tags[283].value, unit)
    if tif.is_imagej:
        return _imagej_scale(tif.imagej_metadata or {}, kept)
    notes: tuple[str, ...] = ()
    if kept.get("resolution", (0, 0, 1))[2] == 3:
        notes = ("The resolution tag (pixels per centimetre) was not taken as a pixel size; it is kept.",)
    return Scale("plain", dict.fromkeys("tzyx", 1.0), "pixel", kept, notes)


def _imagej_scale(said: dict[str, Any], kept: dict[str, Any]) -> Scale:
    notes = []
    word = str(said.get("unit", ""))
    unit = _UNITS.get(word.lower())
    if unit is None:
        notes.append(f"The unit {word!r} is not known; step sizes are as the file gives them.")
    steps = {"t": 1.0, "z": _number(said.get("spacing", 1.0))}
    for axis, value in zip("xy", kept.get("resolution", ((1, 1), (1, 1)))[:2], strict=True):
        steps[axis] = _number(value[1] / value[0] if value[0] else 0.0)
    for axis in "zyx":
        if not steps[axis] > 0:
            steps[axis] = 1.0
            notes.append(f"The step size along {axis} is 0 or no number; 1.0 was taken.")
    kept = {**kept, **{key: said[key] for key in _IMAGEJ_KEEP if key in said}}
    return Scale("imagej", steps, unit or "pixel", kept, tuple(notes))


def _ome_scale(ome: dict[str, str]) -> Scale:
    notes = []
    steps, units = {"t": 1.0}, {}
    for axis in "zyx":
        key = f"PhysicalSize{axis.upper()}"
        size = _number(ome.get(key, 0.0))
        units[axis] = _UNITS.get(ome.get(key + "Unit", "µm").lower(), "pixel")
        if key in ome and not size > 0:
            notes.append(f"The step size along {axis} is 0 or no number; 1.0 was taken.")
        elif key not in ome and "PhysicalSizeX" in ome and (axis != "z" or ome["SizeZ"] != "1"):
            notes.append(f"The file gives no step size along {axis}; 1.0 was taken.")
        steps[axis] = size if size > 0 else 1.0
    unit = units["x"] if "PhysicalSizeX" in ome else "pixel"
    for axis in "zy":
        if (
            f"PhysicalSize{axis.upper()}" in ome
            and units[axis] in _METRES
            and unit in _METRES
            and units[axis] != unit
        ):
            steps[axis] *= _METRES[units[axis]] / _METRES[unit]
    return Scale("ome", steps, unit, dict(ome), tuple(notes))


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if np.isfinite(number) else 0.0

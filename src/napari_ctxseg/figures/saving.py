"""Pictures as files: the same figure gives the same bytes, with no date and no version in them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from matplotlib import style as styles
from matplotlib.font_manager import FontProperties, findfont

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.figure import Figure

    from napari_ctxseg.config import FigureStyle

#: What each format is saved with; None takes out what matplotlib would write by itself.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": "napari-ctxseg"},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": "napari-ctxseg"},
}


@contextmanager
def drawing_style(style: FigureStyle) -> Iterator[None]:
    """Matplotlib's own defaults with a figure's style, whatever this machine's matplotlibrc says, until the end.

    Raises
    ------
    InputError
        If this machine has no such font.
    """
    try:
        findfont(FontProperties(family=style.font), fallback_to_default=False)
    except ValueError as error:
        raise InputError(
            "style.font", f"{style.font} is not on this machine", "Take DejaVu Sans, or install it"
        ) from error
    ours = {
        "font.family": style.font,
        "font.size": style.size,
        "axes.linewidth": 0.6,
        "figure.dpi": style.dpi,
        "savefig.dpi": style.dpi,
        "svg.fonttype": "none",  # text stays text, and can be edited
        "svg.hashsalt": "ctxseg",
        "pdf.fonttype": 42,
        "path.simplify": False,
    }
    with styles.context(["default", ours]):
        yield


def save_picture(figure: Figure, path: Path, style: FigureStyle) -> None:
    """Write a figure in the format of its suffix, within `drawing_style`.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    form = path.suffix.lower().removeprefix(".")

    def write(temp: Path) -> None:
        figure.savefig(temp, format=form, dpi=style.dpi, metadata=METADATA[form])

    write_atomic(path, write, suffix=path.suffix)

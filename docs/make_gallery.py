"""Figures of the gallery, from real open data: `uv run python docs/make_gallery.py [name ...]`.

Data: CTXSEG_DATA (default ../shared/data). The recipes are `docs/gallery/*.yaml`; this script makes the predictions that
they name in a temporary folder, runs `ctxseg figure` on each, and keeps the pictures in `docs/images/gallery/`. What the
predictions are is said on the page: thresholds, a second observer, and networks trained for about a minute on one core.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import PIL.Image
from scipy import ndimage
from skimage import filters
from typer.testing import CliRunner

from napari_ctxseg import io
from napari_ctxseg.cli import app
from napari_ctxseg.config import FigureStyle
from napari_ctxseg.figures import SeenLayer, View, view_recipe
from napari_ctxseg.figures.recipe import save_recipe

HERE = Path(__file__).resolve().parent
OUT = HERE / "images" / "gallery"
DATA = Path(os.environ.get("CTXSEG_DATA", HERE.parents[1] / "shared" / "data"))
#: Test images of the nuclei: every fourth name, as the set's own advice has it.
NUCLEI = 12
SIGMAS = (0.5, 1, 2, 4, 8, 16)
#: Hippocampus: the first 24 names train, this one is drawn.
TRAIN, HELD = 24, "hippocampus_366"
TINY = ("--set", "network.features=[8,16,32]", "--dims", "2", "--threads", "1")


def ctxseg(*words: object) -> None:
    """Run a command, or stop with what it says."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exit_code:
        sys.exit(f"ctxseg {' '.join(map(str, words))}\n{done.output}")


def nuclei(work: Path) -> None:
    """Thresholds after a blur, and two other thresholds; their scores."""
    folder = DATA / "dsb2018_fluo"
    for path in sorted((folder / "images").iterdir())[::4][:NUCLEI]:
        image = io.read(path)
        grey = image.channel_array.astype(float).mean(axis=0)
        masks = {
            "local": grey > filters.threshold_local(grey, 101, offset=-5),
            "triangle": grey > filters.threshold_triangle(grey),
        }
        for sigma in SIGMAS:
            blurred = ndimage.gaussian_filter(grey, sigma)
            masks[f"blur{sigma}"] = blurred > filters.threshold_otsu(blurred)
        for name, mask in masks.items():
            (work / name).mkdir(exist_ok=True)
            io.write_labels(work / name / path.name, mask, image)
    for method in sorted(
        p for p in work.iterdir() if p.is_dir() and p.name.startswith(("blur", "local", "triangle"))
    ):
        done = CliRunner().invoke(
            app,
            ["evaluate", "--pred", str(method), "--ref", str(folder / "labels"), "--foreground", "--json"],
        )
        (work / f"{method.name}.json").write_text(json.dumps(json.loads(done.stdout)))


def hippocampus(work: Path) -> None:
    """A small network of 150 steps, and a CR-GAN of 600 over all its parts, each about a minute on one core."""
    folder = DATA / "msd_hippocampus"
    for kind in ("images", "labels"):
        names = sorted((folder / kind).iterdir())[:TRAIN]
        (work / f"{kind}.txt").write_text("\n".join(map(str, names)))
    given = ("--images", f"@{work / 'images.txt'}", "--labels", f"@{work / 'labels.txt'}", *TINY)
    if not (work / "run").exists():
        ctxseg(
            "train",
            *given,
            "--classes",
            "anterior=1,posterior=2",
            "--steps",
            150,
            "--out",
            work / "run",
            "--json",
        )
    held = folder / "images" / f"{HELD}.nii.gz"
    ctxseg("predict", work / "run", held, "--out", work / "network", "--overwrite")
    if not (work / "crgan").exists():
        ctxseg(
            "train", *given, "--foreground", "--method", "cr_gan", "--set", "method.adversarial_weight=0", "--set",
            "method.refine.network={kind: unet, features: [8, 16, 32]}", "--steps", 600, "--out", work / "crgan", "--json",
        )  # fmt: skip
    ctxseg("predict", work / "crgan", held, "--out", work / "refined", "--maps", "--overwrite")


def seen(work: Path) -> None:
    """What a viewer would show of the spleen: a coronal slice, zoomed, with the annotation over it."""
    folder = DATA / "tiny_msd_spleen_crop"
    image, labels = (
        io.read(folder / "images" / "spleen2_crop.nii.gz"),
        io.read_labels(folder / "labels" / "spleen2_crop.nii.gz"),
    )
    place = {"scale": image.spacing, "translate": (0.0, 0.0, 0.0)}
    drawn = {**place, "type": "labels", "labels": {1: "#e69f00"}}
    view = View(
        layers=[
            SeenLayer("CT", image.array, limits=(-100, 250), **place),
            SeenLayer("spleen", labels.array, opacity=0.35, names={1: "spleen"}, **drawn),
            SeenLayer("outline", labels.array, contour=True, **drawn),
        ],
        field=(20.0, 5.0, 110.0, 125.0), axis=0, position=60.0, unit=image.unit, ends=("R", "L", "A", "P"),
        caption="what the viewer showed",
    )  # fmt: skip
    recipe = view_recipe(view, work / "view.npz", FigureStyle(dpi=150))
    save_recipe(work / "view.yaml", recipe, work, {}, {})


def make(work: Path, names: list[str]) -> None:
    """Make the predictions, then the pictures."""
    nuclei(work)
    hippocampus(work)
    seen(work)
    (work / "data").unlink(missing_ok=True)
    (work / "data").symlink_to(DATA)
    OUT.mkdir(parents=True, exist_ok=True)
    for recipe in sorted((HERE / "gallery").glob("*.yaml")):
        shutil.copy(recipe, work / recipe.name)
    for recipe in sorted(work.glob("*.yaml")):
        if recipe.name.endswith(".recipe.yaml") or (names and recipe.stem not in names):
            continue
        ctxseg("figure", recipe)
        with PIL.Image.open(
            work / f"{recipe.stem}.png"
        ) as picture:  # the same pixels, packed as well as can be
            picture.convert("RGB").save(OUT / f"{recipe.stem}.png", optimize=True)
        print(OUT / f"{recipe.stem}.png")


if __name__ == "__main__":
    kept = os.environ.get("CTXSEG_GALLERY_WORK")  # keeps the trained networks between two calls
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        make(Path(kept), sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), sys.argv[1:])

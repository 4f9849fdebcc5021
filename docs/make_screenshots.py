"""Make the pictures of the dock: `uv run python docs/make_screenshots.py` writes docs/images/*.png.

Opens napari (under xvfb-run where there is no display) on a phantom subject, paints as a person would, trains with the
real engine, and takes pictures on the way.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

IMAGES = Path(__file__).parent / "images"


def pump(seconds, until=None):
    """Let Qt work until the time is over or the wish fulfilled."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, done = QEventLoop(), []
    watch, end = QTimer(), QTimer()
    watch.timeout.connect(lambda: until is not None and until() and (done.append(1), loop.quit()))
    watch.start(50)
    end.setSingleShot(True)
    end.timeout.connect(loop.quit)
    end.start(int(1000 * seconds))
    loop.exec()
    watch.stop()
    return bool(done)


def outline(mask):
    """Polygons around the parts of a mask."""
    from skimage.measure import find_contours

    return [line - 1 for line in find_contours(np.pad(mask, 1).astype(float), 0.5) if len(line) > 8]


def paint(labels, truth, slices, value):
    """Draw a class in some slices, as a person does with the polygon tool."""
    for z in slices:
        for line in outline(truth[z] == value):
            labels.paint_polygon([(z, *point) for point in line], value)


CR_GAN = """
import sys
from pathlib import Path
from napari_ctxseg.config import parse_config
from napari_ctxseg.phantom import make_phantom
from napari_ctxseg.training import fit
small = {"kind": "unet", "features": (8, 16, 32)}
config = {
    "network": small,
    "method": {"kind": "cr_gan", "discriminator": {"kind": "patch", "width": 16}, "refine": {"folds": 2, "network": small}},
    "data": {"classes": {"left ventricle": 1, "myocardium": 2}}, "budget": {"steps": int(sys.argv[2])},
    "patch": {"size": (64, 64), "batch": 4},
}
for event in fit(parse_config(config), make_phantom(subjects=5, seed=20), Path(sys.argv[1])):
    pass
"""


def recommended_method(kind):
    """What the dock starts a method with."""
    from napari_ctxseg.config import MethodConfig
    from napari_ctxseg.gui.fields import kinds_of, start_of

    return next(start_of(cls) for cls in kinds_of(MethodConfig) if cls.model_fields["kind"].default == kind)


def refined_picture(dock, picture, steps, run=None):
    """A run that the command line would make, of several patients, predicts this one; the sliders have been moved."""
    if run is None:
        run = Path(tempfile.mkdtemp(prefix="cr-gan-")) / "run"
        subprocess.run([sys.executable, "-c", CR_GAN, str(run), str(steps)], check=True)
    session = dock.session
    session.use_run(run)
    pump(300, dock.predict_button.isEnabled)
    dock.predict_button.click()
    pump(120, lambda: session.phase == "idle" and session.refined is not None)
    dock.refined_panel.sliders[0].setValue(0.3)
    pump(5, lambda: not session.refined.busy)
    session.prediction.contour = 2  # so that the error masks are seen for themselves
    picture("train-dock-refined")


def review_pictures(viewer, session, dock, picture):
    """The Review of a prediction with its uncertainty: a piece in question, and the slice to label next."""
    _, review_dock = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Review", tabify=True)
    review = review_dock.review
    review_dock.parent().raise_()
    pump(20, lambda: session.options.uncertainty == "entropy")
    dock.predict_button.click()
    pump(120, lambda: session.phase == "idle" and "heart uncertainty" in viewer.layers)
    pump(30, lambda: not review.busy)
    session.labels.visible = True
    review_dock.island.setValue(40)
    pump(30, lambda: not review.busy)
    wanted = [
        row for row in review.rows if row.suspect.reason in ("unsure", "island", "not annotated")
    ] or review.rows
    if wanted:
        review.go(wanted[0])
    zoom = viewer.scene.camera.zoom
    viewer.scene.camera.zoom = 1.6 * zoom
    picture("review")
    viewer.reset_view()
    viewer.window.remove_dock_widget(review_dock)
    viewer.layers.remove("heart uncertainty")


def lens_pictures(viewer, index, picture):
    """The Lens on a painted slice: weights, contour, region, and the five panels of a trained network."""
    from napari_ctxseg.config import parse_loss
    from napari_ctxseg.gui.lens_show import weigh

    _, lens_dock = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Lens", tabify=True)
    lens, boxes = lens_dock.lens, lens_dock.boxes
    lens_dock.parent().raise_()
    viewer.dims.set_current_step(0, index)

    def show(loss, *kinds):
        for kind, box in boxes.items():
            box.setChecked(kind in kinds)
        lens_dock.form.set_value(parse_loss(loss))
        pump(20, lambda: lens.shown is not None and lens.shown.loss == lens_dock.form.value)
        pump(3, lambda: not lens._pending)

    dilated = {"kind": "dilated_balanced_ce", "radius": 12, "unit": "px"}
    pump(60, lambda: lens.maps is not None)
    lens_dock.outlines.setChecked(True)
    show(dilated, "weight")
    lens_dock.weigh.setChecked(True)
    cursor = [lens.shown.grid.spacing[0] * index, *(70 * step for step in lens.shown.grid.spacing[1:])]
    lens_dock.answer.setText(weigh(lens, cursor))
    picture("lens-weight")
    lens_dock.weigh.setChecked(False)
    show({"kind": "contour_weighted_ce", "contour": {"iterations": 2}, "alpha": 3}, "interior", "contour")
    picture("lens-contour")
    show({"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 8}}, "roi", "crop")
    picture("lens-roi")
    lens_dock.outlines.setChecked(False)
    for name in [layer.name for layer in viewer.layers if layer.name.startswith("Lens")]:
        viewer.layers.remove(name)
    show(dilated, "weight", "ce", "weighted")
    pump(60, lambda: lens.maps.ce is not None and not lens._pending)
    for layer in viewer.layers:
        layer.opacity, layer.blending = 1, "translucent"
        layer.name_overlay.visible = True
        if hasattr(layer, "colorbar"):
            layer.colorbar.size, layer.colorbar.font_size = (10, 60), 7
    viewer.canvas.grid.enabled = True
    viewer.reset_view()
    picture("lens-panels")
    viewer.canvas.grid.enabled = False


def workbench_pictures(out, steps):
    """A project of five subjects in the workbench: labelled, trained twice, with what it brought."""
    import napari

    from napari_ctxseg.phantom import make_phantom
    from napari_ctxseg.project import Project

    cases = make_phantom(subjects=5, seed=1)
    folder = Path(tempfile.mkdtemp(prefix="workbench-")) / "heart.ctxseg"
    with Project.create(folder, classes={"left ventricle": 1, "myocardium": 2}) as project:
        for case in cases:
            project.add_array(case.image, case.name)
        kept = project.groups("validation")
        for case in cases[1:]:  # the others were labelled yesterday
            labels = np.zeros_like(case.labels)
            chosen = range(1, len(labels) - 1, 2 if case.name in kept else 6)
            labels[list(chosen)] = case.labels[list(chosen)]
            project.import_labels(case.name, labels, complete=False)
            project.labels(case.name)
        if cases[0].name in kept:
            project.set_role(cases[0].name, "train")
            project.set_role(cases[1].name, "validation")
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    _, bench = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Workbench")
    viewer.canvas.overlays.scale_bar.visible = True
    session, workspace = bench.train_dock.session, bench.project_dock.workspace

    def picture(name):
        pump(1)
        viewer.window.screenshot(str(out / f"{name}.png"), canvas_only=False, flash=False)

    bench.project_dock.workspace.open(folder, cases[0].name)
    pump(60, lambda: workspace.opened is not None and workspace.saving[0] == "saved")
    truth = cases[0].labels
    bench.train_dock.model_panel.unit.setCurrentText("steps")
    bench.train_dock.model_panel.amount.setValue(steps)
    for slices, minutes in (((3,), 4), ((6,), 6)):
        for value in (2, 1):
            paint(workspace.opened.labels, truth, slices, value)
        viewer.dims.set_current_step(0, slices[0])
        workspace.effort.seconds = 60 * minutes
        pump(600, lambda: not session.train_problem() and workspace.saving[0] == "saved")
        bench.train_dock.train_button.click()
        pump(900, lambda: session.phase in ("training", "idle"))
        pump(900, lambda: session.phase == "idle" and not bench.project_dock.training._queue)
    pump(5, lambda: len(bench.project_dock.training.rounds) == 2)
    picture("workbench-project")
    bench.tabs.setCurrentIndex(1)
    picture("workbench-train")
    viewer.close()
    pump(0.5)


def docks_project(subjects):
    """A project of completely labelled subjects, open in the workbench of a fresh viewer."""
    import napari

    from napari_ctxseg.phantom import make_phantom
    from napari_ctxseg.project import Project

    cases = make_phantom(subjects=subjects, seed=1)
    folder = Path(tempfile.mkdtemp(prefix="docks-")) / "heart.ctxseg"
    with Project.create(folder, classes={"left ventricle": 1, "myocardium": 2}) as project:
        for case in cases:
            project.add_array(case.image, case.name)
            project.import_labels(case.name, case.labels, complete=True)
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    _, bench = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Workbench")
    workspace = bench.project_dock.workspace
    workspace.open(folder, cases[0].name)
    pump(60, lambda: workspace.opened is not None and workspace.saving[0] == "saved")
    return viewer, bench


def tab_of(bench, title):
    """Bring a tab to the front; it is made when its module is loaded."""
    number = [bench.tabs.tabText(n) for n in range(bench.tabs.count())].index(title)
    bench.tabs.setCurrentIndex(number)
    pump(60, lambda: number in bench._made)
    return bench._made[number]


def compare_pictures(out, steps):
    """Two losses on six subjects: plan, queue, result."""
    from napari_ctxseg.config import parse_loss

    viewer, bench = docks_project(6)
    dock = tab_of(bench, "Compare")

    def picture(name):
        pump(1)
        viewer.window.screenshot(str(out / f"{name}.png"), canvas_only=False, flash=False)

    pump(20, lambda: len(dock.plan.offer.images) == 6)
    variants = dock.plan.variants
    for loss in ("dice_ce", {"kind": "dilated_balanced_ce", "radius": 8, "unit": "px"}):
        variants.forms["loss"].set_value(parse_loss(loss))
        variants.add.click()
    dock.plan.unit.setCurrentText("steps")
    dock.plan.amount.setValue(steps)
    dock.plan.folds.setValue(2)
    picture("compare-plan")
    dock.start.click()
    pump(
        1200, lambda: any(row.state == "done" for row in dock.comparing.rows) and dock.comparing._share > 0.4
    )
    picture("compare-runs")
    pump(3600, lambda: dock.comparing.phase == "idle")
    pump(20, lambda: dock.results.pictures["curves"].isVisible())
    picture("compare-results")
    viewer.close()
    pump(0.5)


def figure_pictures(out):
    """A figure from what the viewer shows: annotation and a prediction, a zoomed part, and the picture itself."""
    viewer, bench = docks_project(1)
    labels = bench.project_dock.workspace.opened.labels
    place = {name: getattr(labels, name) for name in ("scale", "translate", "units")}
    guess = viewer.add_labels(np.roll(np.asarray(labels.data), 3, axis=2), name="prediction", **place)
    guess.colormap, guess.contour = labels.colormap, 2
    viewer.scene.camera.zoom *= 1.5
    dock = tab_of(bench, "Figure")
    dock.zoom.draw()
    dock.zoom.layer.add_rectangles(np.array([[95, 100], [95, 145], [140, 145], [140, 100]], float))
    viewer.layers.selection.active = labels
    dock.view_panel.panels.setCurrentIndex(1)
    pump(60, lambda: dock.making.picture is not None and not dock.making.busy)
    pump(2)
    viewer.window.screenshot(str(out / "figure-dock.png"), canvas_only=False, flash=False)
    made = Path(tempfile.mkdtemp(prefix="figure-")) / "figure.png"
    dock.style_panel.form.editor("width").value = 120.0
    dock.style_panel.form.editor("dpi").value = 150
    dock.save_to(made)
    pump(60, lambda: "Saved" in dock.making.status)
    (out / "figure-from-viewer.png").write_bytes(made.read_bytes())
    viewer.close()
    pump(0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--steps", type=int, help="instead of minutes, on a busy machine")
    parser.add_argument(
        "--refine-steps", type=int, default=400, help="of the CR-GAN whose prediction is shown"
    )
    parser.add_argument("--refine-run", type=Path, help="a run of such a CR-GAN that is there already")
    parser.add_argument("--only", default="", help="pictures whose name begins with this, e.g. lens")
    args = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, *sys.argv])
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only.startswith("workbench"):
        workbench_pictures(args.out, args.steps or 300)
        return
    if args.only.startswith("compare"):
        compare_pictures(args.out, args.steps or 200)
        return
    if args.only.startswith("figure"):
        figure_pictures(args.out)
        return
    import napari

    from napari_ctxseg.gui.choices import renamed
    from napari_ctxseg.phantom import make_phantom

    case = make_phantom(subjects=1, seed=1)[0]
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    units = (case.image.unit,) * 3
    viewer.add_image(case.image.array, name="heart", scale=case.image.spacing, units=units, axis_labels="zyx")
    viewer.canvas.overlays.scale_bar.visible = True
    _, dock = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Train and predict")
    session = dock.session
    session.runs = Path(tempfile.mkdtemp(prefix="screenshots-"))

    def picture(name):
        pump(0.5)
        if not name.startswith(args.only):
            return
        viewer.window.screenshot(str(args.out / f"{name}.png"), canvas_only=False, flash=False)

    pump(60, dock.layer_panel.new.isEnabled)
    dock.layer_panel.new.click()
    truth, depth = case.labels, case.image.array.shape[0]
    slices = range(1, depth - 1, 3)
    session.set_classes(renamed(session.classes, 0, name="left ventricle"))
    dock.class_panel.add.click()
    session.set_classes(renamed(session.classes, 1, name="myocardium"))
    for value in (2, 1):  # the muscle's outline holds the cavity
        paint(session.labels, truth, slices, value)
    viewer.dims.set_current_step(0, slices[1])
    pump(600, dock.train_button.isEnabled)
    pump(120, lambda: bool(dock.model_panel.describer.text))
    picture("train-dock-painted")
    dock.scroll_area.ensureWidgetVisible(dock.model_panel.earlier, 0, 20)
    dock.model_panel.method.set_value(recommended_method("seg_glgan"))
    before = dock.model_panel.describer.text
    pump(60, lambda: dock.model_panel.describer.text != before)
    dock.scroll_area.ensureWidgetVisible(dock.model_panel.earlier, 0, 20)
    picture("train-dock-method")
    dock.model_panel.method.set_value(recommended_method("supervised"))
    viewer.dims.set_current_step(0, slices[1] + 1)
    if args.steps:
        dock.model_panel.unit.setCurrentText("steps")
    dock.model_panel.amount.setValue(args.steps or args.minutes)
    dock.train_button.click()
    pump(300, lambda: session.fraction is not None and session.fraction > 0.6)
    picture("train-dock-training")
    pump(600, lambda: session.phase == "idle")
    pump(300, dock.predict_button.isEnabled)
    dock.predict_button.click()
    pump(120, lambda: session.phase == "idle")
    dock.scroll_area.ensureWidgetVisible(dock.model_panel)
    session.labels.visible = False
    picture("train-dock-predicted")
    review_pictures(viewer, session, dock, picture)
    session.labels.visible = False
    if "train-dock-refined".startswith(args.only):
        refined_picture(dock, picture, args.refine_steps, args.refine_run)
    for name in ("heart FN", "heart FP", "heart prediction"):
        if name in viewer.layers:
            viewer.layers.remove(name)
    session.labels.visible = True
    if not args.only or args.only.startswith("lens"):
        lens_pictures(viewer, slices[1], picture)
    viewer.close()
    pump(0.5)
    if not args.only:
        workbench_pictures(args.out, args.steps or 300)
        compare_pictures(args.out, args.steps or 200)
        figure_pictures(args.out)


if __name__ == "__main__":
    main()

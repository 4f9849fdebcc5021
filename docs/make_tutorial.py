"""Make the pictures of the tutorial: `uv run python docs/make_tutorial.py` writes docs/images/tutorial/*.png.

Walks the whole loop in the Workbench as docs/tutorial.md tells it, on made subjects (`napari_ctxseg.phantom`): opened
from files, painted, trained with the real engine, reviewed and predicted. Without a display it starts itself under xvfb-run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from make_screenshots import paint, pump

IMAGES = Path(__file__).parent / "images" / "tutorial"
SUBJECTS = 5
#: Slices painted of each subject before the first training.
SLICES = (2, 5)


class Walk:
    """One person in one viewer."""

    def __init__(self, out: Path, steps: int) -> None:
        import napari

        from napari_ctxseg.phantom import make_phantom

        self.out, self.steps = out, steps
        self.cases = make_phantom(subjects=SUBJECTS, seed=7)
        self.folder = Path(tempfile.mkdtemp(prefix="tutorial-"))
        self.files = [self._file(case) for case in self.cases]
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1280, 800)

    def _file(self, case):
        from napari_ctxseg.io import write_map

        path = self.folder / f"{case.name}.nii.gz"
        write_map(path, case.image.array.astype(np.float32), like=case.image)
        return path

    def picture(self, name: str) -> None:
        pump(1.0)
        self.viewer.window.screenshot(str(self.out / f"{name}.png"), canvas_only=False, flash=False)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()

    def tab(self, number: int):
        self.bench.tabs.setCurrentIndex(number)
        pump(0.5)
        return self.bench._made[number]

    def wait(self, wish, what: str, seconds: float = 600) -> None:
        if not pump(seconds, wish):
            raise SystemExit(f"gave up waiting for {what}: {self.session.status}")

    def show(self, name: str) -> None:
        """Open another image of the project, as a double click in the table does."""
        opened = self.workspace.opened
        if opened is None or opened.name != name:
            self.workspace.open_image(name)
        self.wait(
            lambda: (
                self.workspace.opened is not None and self.workspace.opened.name == name and self.settled()
            ),
            name,
        )

    def settled(self) -> bool:
        return not self.workspace.doing and self.workspace.saving[0] == "saved"

    # ------------------------------------------------------------ the steps

    def open(self) -> None:
        self.viewer.open(str(self.files[0]), plugin="napari-ctxseg")
        self.viewer.canvas.overlays.scale_bar.visible = True
        _, self.bench = self.viewer.window.add_plugin_dock_widget("napari-ctxseg", "Workbench")
        self.session, self.workspace = self.bench.train_dock.session, self.bench.project_dock.workspace
        self.training = self.bench.project_dock.training
        self.wait(lambda: self.session.engine.state == "ready", "the engine")
        self.viewer.dims.set_current_step(0, SLICES[0])
        self.viewer.reset_view()  # the docks have taken room
        self.picture("1-open")

    def project(self) -> None:
        from napari_ctxseg.gui.choices import renamed
        from napari_ctxseg.project import NewImage

        session = self.session
        session.set_classes(renamed(session.classes, 0, name="left ventricle"))
        self.bench.project_dock.class_panel.add.click()
        session.set_classes(renamed(session.classes, 1, name="myocardium"))
        self.bench.project_dock.automatic = False  # what New... does after its file dialog
        self.workspace.new(self.folder / "hearts.ctxseg")
        self.wait(lambda: self.workspace.opened is not None and self.settled(), "the project")
        self.workspace.add_files([NewImage((path,)) for path in self.files[1:]])
        self.wait(lambda: self.settled() and len(self.workspace.project.names) == SUBJECTS, "the images")
        for name in (
            self.workspace.project.names
        ):  # the box "Selected is for"; the project's own draw differs each time
            role = "validation" if name == self.workspace.project.names[3] else "train"
            self.workspace.project.set_role(name, role)
        self.training.look()
        pump(3)
        self.picture("2-project")

    def draw(self, number: int, slices) -> None:
        """Paint slices of one subject."""
        name = self.workspace.project.names[number]
        self.show(name)
        for value in (2, 1):  # the muscle's outline holds the cavity
            paint(self.workspace.opened.labels, self.cases[number].labels, slices, value)
        self.viewer.dims.set_current_step(0, slices[0])
        self.workspace.effort.seconds += 40 * len(slices)  # what a hand would have taken
        self.wait(self.settled, "saving")

    def annotate(self) -> None:
        for number in (1, 2, 3):
            self.draw(number, SLICES)
        self.draw(0, SLICES)
        pump(3)
        self.picture("3-paint")

    def lens(self) -> None:
        from napari_ctxseg.config import parse_loss

        dock = self.tab(2)
        self.wait(lambda: dock.lens.maps is not None, "the Lens")
        dock.outlines.setChecked(True)
        loss = {"kind": "dilated_balanced_ce", "radius": 12, "unit": "px"}
        dock.form.set_value(parse_loss(loss))
        self.wait(
            lambda: dock.lens.shown is not None and dock.lens.shown.loss == dock.form.value, "the map", 30
        )
        self.wait(lambda: not dock.lens._pending, "the map", 30)
        self.picture("4-lens")
        dock.outlines.setChecked(False)
        dock.boxes["weight"].setChecked(False)

    def train(self, name: str) -> None:
        dock = self.tab(1)
        dock.model_panel.unit.setCurrentText("steps")
        dock.model_panel.amount.setValue(self.steps)
        self.wait(lambda: not self.session.train_problem(), "Train")
        self.viewer.dims.set_current_step(0, 3)
        pump(0.5)
        dock.train_button.click()
        if name:
            self.wait(lambda: self.session.fraction is not None and self.session.fraction > 0.7, "the curve")
            self.picture(name)
        self.wait(lambda: self.session.phase == "idle" and not self.training._queue, "the predictions", 1200)
        pump(3)

    def review(self) -> None:
        dock = self.tab(3)
        review = dock.review
        dock.island.setValue(30)
        # The Review asks for uncertainty with the next prediction.
        self.wait(lambda: self.session.options.uncertainty == "entropy", "the Review")
        self.wait(self.bench.train_dock.predict_button.isEnabled, "Predict")
        self.bench.train_dock.predict_button.click()
        self.wait(
            lambda: self.session.phase == "idle" and any("uncertainty" in x.name for x in self.viewer.layers),
            "it",
        )
        self.wait(lambda: not review.busy and review.rows, "rows", 60)
        wrong = next((row for row in review.rows if not self.is_there(row)), None)
        if wrong is not None:
            review.go(wrong)
            self.picture("6-review")
            review.reject()
            self.wait(lambda: not review.busy, "rows")
        right = max(
            (row for row in review.rows if self.is_there(row)), key=lambda row: row.size, default=None
        )
        if right is not None:
            review.go(right)
            review.accept()
        self.picture("7-accepted")

    def is_there(self, row) -> bool:
        """Whether a piece is what the network says, for the most part; a person sees that."""
        one = row.suspect
        return bool((self.cases[0].labels[row.index][one.box][one.mask] == one.value).mean() > 0.5)

    def suggest(self) -> None:
        review = self.bench._made[3].review
        self.wait(lambda: not review.busy, "rows")
        review.next_slice()
        self.wait(lambda: review.status.startswith("Slice "), "a suggestion", 60)
        pump(0.5)
        self.picture("8-suggest")
        index = self.viewer.dims.current_step[0]
        self.draw(0, (index,))

    def rounds(self) -> None:
        for number in (1, 2, 3):
            self.draw(number, (3, 4))
        self.train("")
        self.tab(0)
        dock = self.bench.project_dock
        dock.scroll_area.ensureWidgetVisible(dock.rounds_panel)
        self.wait(lambda: len(self.training.rounds) == 2, "the rounds", 60)
        self.picture("9-rounds")

    def predict(self) -> None:
        name = self.workspace.project.names[-1]  # never labelled
        self.show(name)
        self.viewer.dims.set_current_step(0, 5)
        dock = self.tab(1)
        dock.scroll_area.ensureWidgetVisible(dock.model_panel)
        self.wait(dock.predict_button.isEnabled, "Predict")
        dock.predict_button.click()
        self.wait(lambda: self.session.phase == "idle", "the prediction")
        self.picture("10-predict")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--steps", type=int, default=150, help="of each training")
    args = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, *sys.argv])
    args.out.mkdir(parents=True, exist_ok=True)
    walk = Walk(args.out, args.steps)
    walk.open()
    walk.project()
    walk.annotate()
    walk.lens()
    walk.train("5-train")
    walk.review()
    walk.suggest()
    walk.rounds()
    walk.predict()
    walk.viewer.close()
    pump(0.5)


if __name__ == "__main__":
    main()

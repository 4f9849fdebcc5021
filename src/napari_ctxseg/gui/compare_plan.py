"""The page "Plan" of the dock Compare: which data, which variants, how they are split, how long each trains."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.compare.plan import MeasureSettings, parse_plan
from napari_ctxseg.compare.queue import OWN_IMAGES, OWN_LABELS
from napari_ctxseg.config import DataConfig, RunConfig
from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.metrics import ALL_MEASURES, DISTANCES, WITHOUT_DIRECTION
from napari_ctxseg.evaluation.statistics import FEWEST
from napari_ctxseg.gui.compare_variants import VariantList
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.cases import Case
    from napari_ctxseg.compare.plan import ComparePlan
    from napari_ctxseg.project import Project

PROJECT, FOLDERS = "Labelled images of the project", "Folders of images and complete masks"


@dataclass(frozen=True)
class Offer:
    """What the rest of the Workbench offers to a comparison.

    Attributes
    ----------
    run : RunConfig
        Settings of the tab Train, or defaults.
    from_train : bool
        Whether they are of the tab Train.
    project : Project or None
        The open one.
    images : tuple of (str, str)
        Labelled images that are not kept for testing, and their patients.
    """

    run: RunConfig
    from_train: bool = False
    project: Project | None = None
    images: tuple[tuple[str, str], ...] = ()


class PlanPage(QWidget):
    """Form of a plan."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.offer = Offer(RunConfig())
        column = QVBoxLayout(self)
        column.setContentsMargins(2, 2, 2, 2)
        for box in (self._data_box(), self._variant_box(), self._split_box()):
            column.addWidget(box)
        self.about = QLabel()
        self.about.setWordWrap(True)
        column.addWidget(self.about)
        column.addStretch(1)
        self._refresh()

    # ------------------------------------------------------------ laying out

    def _data_box(self) -> QGroupBox:
        box = QGroupBox("1  Data")
        form = QFormLayout(box)
        self.source = QComboBox()
        self.source.addItems([PROJECT, FOLDERS])
        self.source.setMinimumContentsLength(16)
        self.source.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.source.setToolTip("A network is tested on patients it has not seen, on complete masks only.")
        self.source.currentIndexChanged.connect(self._refresh)
        form.addRow(self.source)
        self.images, self.labels = QLineEdit(), QLineEdit()
        self.group, self.classes = QLineEdit(), QLineEdit()
        self.group.setPlaceholderText("every image is a patient")
        self.classes.setPlaceholderText("all values that are found")
        for title, edit, tooltip in (
            ("Images", self.images, "Folder, or a pattern such as data/*.nii.gz."),
            ("Masks", self.labels, "Folder of label files, named like the images."),
            ("Patient", self.group, "Regular expression: equal matches in the file names are one patient."),
            ("Classes", self.classes, "Names and values: LV=1, myo=2."),
        ):
            edit.setToolTip(tooltip)
            edit.textChanged.connect(self._refresh)
            form.addRow(title, _with_browse(edit) if edit in (self.images, self.labels) else edit)
        self._folder_form = form
        return box

    def _variant_box(self) -> QGroupBox:
        box = QGroupBox("2  Compare")
        column = QVBoxLayout(box)
        self.variants = VariantList()
        self.variants.changed.connect(self._refresh)
        column.addWidget(self.variants)
        return box

    def _split_box(self) -> QGroupBox:
        box = QGroupBox("3  Test and budget")
        form = QFormLayout(box)
        self.how, self.folds, self.test = QComboBox(), QSpinBox(), QLineEdit()
        self.how.addItems(["folds by patient", "test patients"])
        self.how.setToolTip(
            "Folds: patients are dealt into parts, and each part is tested once by networks that saw the others. "
            "Or name the patients that are only tested."
        )
        self.folds.setRange(2, 20)
        self.folds.setValue(3)
        self.test.setPlaceholderText("P5, P6")
        row = QHBoxLayout()
        for widget in (self.how, self.folds, self.test):
            row.addWidget(widget)
        form.addRow("Split", row)
        self.seeds = QSpinBox()
        self.seeds.setRange(1, 20)
        self.seeds.setToolTip(
            "Trainings with different random starts. They say how much chance changes; they are no further patients."
        )
        form.addRow("Seeds", self.seeds)
        self.amount, self.unit = QDoubleSpinBox(), QComboBox()
        self.amount.setRange(0.1, 1e6)
        self.amount.setDecimals(1)
        self.amount.setValue(2.0)
        self.unit.addItems(["minutes", "steps"])
        for each in (self.amount, self.unit):
            each.setToolTip(
                "Training time of each run, the same for all. In minutes a slower one takes fewer steps."
            )
        budget = QHBoxLayout()
        budget.addWidget(self.amount, 1)
        budget.addWidget(self.unit)
        form.addRow("Each run", budget)
        self.primary = QComboBox()
        names = MeasureSettings().names
        self.primary.addItems([*names, *(n for n in ALL_MEASURES if n not in (*names, *WITHOUT_DIRECTION))])
        self.primary.setToolTip(
            "The one measure that is tested; the first six of this list are always described. cldice: thin structures; "
            "lesion_f1: objects found and missed; surface_dice: boundaries within one voxel."
        )
        form.addRow("Tested", self.primary)
        self.how.currentIndexChanged.connect(self._refresh)
        self.unit.currentIndexChanged.connect(self._choose_unit)
        self.test.textChanged.connect(self._refresh)
        for spin in (self.folds, self.seeds, self.amount):
            spin.valueChanged.connect(self._refresh)
        return box

    # ------------------------------------------------------------ following

    def show_offer(self, offer: Offer) -> None:
        """Take over what the Workbench offers now."""
        if offer != self.offer:
            self.offer = offer
            self._refresh()

    def _choose_unit(self, index: int) -> None:
        self.amount.setDecimals(1 - index)
        self.amount.setValue(2.0 if index == 0 else 500.0)

    @timed
    def _refresh(self, *_: object) -> None:
        folders = self.of_folders
        for row in range(1, self._folder_form.rowCount()):
            self._folder_form.setRowVisible(row, folders)
        self.folds.setVisible(self.how.currentIndex() == 0)
        self.test.setVisible(self.how.currentIndex() == 1)
        self.about.setText(
            "\n".join(filter(None, (self._data_text(), self.amount_text(), self._common_text())))
        )
        self.changed.emit()

    @property
    def of_folders(self) -> bool:
        """Whether the data are files, not the project's."""
        return self.source.currentIndex() == 1

    def _patients(self) -> int:
        return len({group for _, group in self.offer.images})

    def _data_text(self) -> str:
        if self.of_folders or self.offer.project is None:
            return ""
        images, patients = len(self.offer.images), self._patients()
        text = f"{_many(images, 'labelled image')} of {_many(patients, 'patient')}"
        if patients < FEWEST:
            return f"{text}: below {FEWEST} patients there is no p value, only means and intervals."
        return f"{text}."

    def amount_text(self) -> str:
        """How many runs it takes, and how long."""
        if not (self.variants.variants() or self.variants.sweep.text().strip()):
            return ""
        variants = max(1, len(self.variants.variants()))
        with contextlib.suppress(InputError):  # half typed
            variants *= max([len(values) for values in self.variants.sweeps().values()], default=1)
        runs = variants * (self.folds.value() if self.how.currentIndex() == 0 else 1) * self.seeds.value()
        text = _many(runs, "run")
        if self.unit.currentIndex() == 1:
            return f"{text} of {self.amount.value():g} steps."
        minutes = runs * self.amount.value()
        long = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
        return f"{text}: {long} of training, and the predictions of the test cases."

    def _common_text(self) -> str:
        run = self.offer.run
        where = "as in the tab Train" if self.offer.from_train else "by default"
        kinds = f"{run.network.kind} {run.network.dims}-D, {run.method.kind}, {run.loss.kind}"
        return f"All else {where}: {kinds}, from scratch."

    # ------------------------------------------------------------ the plan

    def problem(self) -> str:
        """Why a comparison cannot begin; empty if it can."""
        if self.of_folders:
            if not (self.images.text().strip() and self.labels.text().strip()):
                return "Choose the folders of images and masks."
        elif self.offer.project is None:
            return "No project is open: label images in the Workbench, or choose folders."
        elif self.offer.project.spec.policy == "scribbles":
            return "The project has scribbles, and measuring needs complete masks: choose folders."
        elif not self.offer.images:
            return "Nothing is labelled yet: label images of at least two patients, or choose folders."
        elif self._patients() < 2:
            return (
                "One patient only: no test is possible, because a network must be tested on patients it has not seen. "
                "Label a second one."
            )
        elif self.how.currentIndex() == 0 and self._patients() < self.folds.value():
            return f"{self.folds.value()} folds need {self.folds.value()} patients; there are {self._patients()}."
        if self.how.currentIndex() == 1 and not self.test.text().strip():
            return "Name the test patients."
        return self.variants.problem()

    def values(self) -> dict[str, Any]:
        """What the form says, as `napari_ctxseg.compare.plan.parse_plan` takes it; the data come later.

        Raises
        ------
        InputError
            If the sweep or the classes are not of their form.
        """
        steps = self.unit.currentIndex() == 1
        budget = {"steps": int(self.amount.value())} if steps else {"minutes": self.amount.value()}
        data = DataConfig(planes=self.offer.run.data.planes)
        run = self.offer.run.updated(data=data.model_dump(), budget=budget, init=None)
        split: dict[str, Any] = {"folds": self.folds.value()}
        if self.how.currentIndex() == 1:
            split = {"test": [name.strip() for name in self.test.text().split(",") if name.strip()]}
        values = {
            "run": run.model_dump(mode="json"), "variants": self.variants.variants(), "sweep": self.variants.sweeps(),
            "seeds": list(range(self.seeds.value())), "primary": self.primary.currentText(), **split,
        }  # fmt: skip
        if self.of_folders:
            values["run"]["data"] |= {
                "images": [str(Path(self.images.text().strip()).absolute())],
                "labels": [str(Path(self.labels.text().strip()).absolute())],
                "group": self.group.text().strip() or None,
                "classes": _classes(self.classes.text()),
            }
        return values


def of_project(
    values: dict[str, Any],
    cases: Sequence[Case],
    group: str | None,
    project: Project,
    folder: Path,
    *,
    cut: bool,
) -> ComparePlan:
    """The plan of a comparison on images of a project, which lie in the comparison's own folder.

    Raises
    ------
    InputError
        If settings do not go together.
    """
    of_spec = project.spec.data_config().model_dump(mode="json", include={"classes", "regions"})
    data = {
        "images": [str(folder.absolute() / OWN_IMAGES)], "labels": [str(folder.absolute() / OWN_LABELS)], "group": group,
        **of_spec,
    }  # fmt: skip
    run = {**values["run"], "data": {**values["run"]["data"], **data}}
    if not cut:
        return parse_plan({**values, "run": run}, "plan")
    run["data"]["planes"] = ["z"]
    if values["primary"] in DISTANCES:
        raise InputError(
            f"the tested measure {values['primary']}",
            "is a distance, and some images have labels in some slices only",
            "Test dice, or label every slice",
        )
    names = [name for name in MeasureSettings().names if name not in DISTANCES]
    return parse_plan({**values, "run": run, "measures": {"names": names}}, "plan")


def _classes(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = re.fullmatch(r"(.+?)\s*=\s*(\d+)", part)
        if match is None:
            raise InputError(f"classes {part}", "is not of the form NAME=VALUE", "Write LV=1, myo=2")
        found[match[1]] = int(yaml.safe_load(match[2]))
    return found


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _with_browse(edit: QLineEdit) -> QWidget:
    """A line for a folder, and a button to choose one."""
    holder, button = QWidget(), QToolButton()
    button.setText("...")
    button.setToolTip("Choose a folder.")

    def choose() -> None:
        if folder := QFileDialog.getExistingDirectory(edit, "Folder", edit.text()):
            edit.setText(folder)

    button.clicked.connect(choose)
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(edit, 1)
    row.addWidget(button)
    return holder

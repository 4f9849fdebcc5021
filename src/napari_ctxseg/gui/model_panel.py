"""The section of the dock that holds model, method, loss and budget: the configuration of the next run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.config import LossConfig, MethodConfig, NetworkConfig
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui.choices import with_budget
from napari_ctxseg.gui.describe import Describer
from napari_ctxseg.gui.editors import RunChoice
from napari_ctxseg.gui.fields import label_width
from napari_ctxseg.gui.form import ConfigForm, enable_item
from napari_ctxseg.gui.rules import greyed
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from napari_ctxseg.gui.session import Session

NEEDS = (
    "Estimated for the image's size, before anything is started: weights, gradients, optimiser and what the layers keep. "
    "The program itself takes some 0.5 GB more."
)


class ModelPanel(QGroupBox):
    """Dimensions, network, method, loss and budget."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("3  Model and loss", parent)
        self.session = session
        self.describer = Describer(session)
        self._shown: Any = None
        self.dims = QComboBox()
        self.dims.addItem("2-D, slice by slice", 2)
        self.dims.addItem("3-D, whole volume", 3)
        self.dims.setToolTip(
            "2-D learns from single slices and is faster; 3-D also uses the neighbouring slices."
        )
        self.dims.currentIndexChanged.connect(self._choose_dims)
        self.network = ConfigForm(NetworkConfig, session.config.network, "Model", {"dims"}, self)
        self.network.changed.connect(self._follow_network)
        self.method = ConfigForm(MethodConfig, session.config.method, "Method", {"dims"}, self)
        self.loss = ConfigForm(LossConfig, session.config.loss, "Loss", parent=self)
        for form in (self.method, self.loss):
            form.changed.connect(self._collect)
        self.needs = QLabel()
        self.needs.setWordWrap(True)
        self.needs.setToolTip(NEEDS)
        self.describer.changed.connect(self._show_needs)
        layout = QVBoxLayout(self)
        layout.addLayout(_row("Dimensions", self.dims))
        for widget in (self.network, self.method, self.needs, self.loss):
            layout.addWidget(widget)
        self._add_budget(layout)
        self._add_start(layout)
        self.refresh()

    def _add_budget(self, layout: QVBoxLayout) -> None:
        self.amount, self.unit = QDoubleSpinBox(), QComboBox()
        self.amount.setRange(0.1, 1e6)
        self.amount.setDecimals(1)
        self.amount.setValue(self.session.config.budget.minutes or 5.0)
        self.unit.addItems(["minutes", "steps"])
        for widget in (self.amount, self.unit):
            widget.setToolTip(
                "How long to train. The learning rate falls to zero at the end; Stop keeps the best so far."
            )
        self.amount.valueChanged.connect(self._collect)
        self.unit.currentIndexChanged.connect(self._choose_unit)
        budget = QHBoxLayout()
        budget.addWidget(self.amount, 1)
        budget.addWidget(self.unit)
        layout.addLayout(_row("Train for", budget))

    def _add_start(self, layout: QVBoxLayout) -> None:
        self.scratch, self.earlier = QCheckBox("Start from scratch"), QPushButton("Use a run...")
        self.scratch.setToolTip(
            "Ticked: forget what was learned. Otherwise training goes on from the last model."
        )
        self.scratch.toggled.connect(self._collect)
        self.earlier.setToolTip(
            "Take the model of an earlier run, made here or by `ctxseg train`: to predict with, or to train on from."
        )
        self.earlier.clicked.connect(self._use_run)
        start = QHBoxLayout()
        start.addWidget(self.scratch)
        start.addWidget(self.earlier)
        layout.addLayout(start)

    def refresh(self) -> None:
        """Grey what does not go together; cheap when nothing has changed."""
        config, facts = self.session.config, self.session.facts()
        state = (config.network, config.method, config.patch, facts)
        if state == self._shown:
            return
        self._shown = state
        reasons = greyed(config, facts)
        for row in range(self.dims.count()):
            enable_item(self.dims, row, reasons["dims"].get(str(self.dims.itemData(row)), ""), "")
        self.network.grey(reasons["network"])
        self.method.grey(reasons["method"])
        judge = self.method.nested("discriminator")
        if judge is not None:
            judge.grey(reasons["discriminator"])
        refine = self.method.nested("refine")
        if refine is not None:
            base = refine.editor("base")
            assert isinstance(base, RunChoice)
            base.start = str(self.session.runs)
        self._show_needs()

    @timed
    def _show_needs(self) -> None:
        lines = [*filter(None, [self.describer.text]), *self.describer.warnings()]
        self.needs.setText("\n".join(lines))
        self.needs.setVisible(bool(lines))

    def _use_run(self, *_: object) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a run", str(self.session.runs))
        if not folder:
            return
        try:
            self.session.use_run(Path(folder))
        except CtxsegError as error:
            self.session.failed.emit(str(error))
        else:
            self.scratch.setChecked(False)

    @timed
    def _choose_unit(self, index: int) -> None:
        with QSignalBlocker(self.amount):
            self.amount.setDecimals(1 - index)
            self.amount.setValue(5.0 if index == 0 else 1000.0)
        self._collect()

    @timed
    def _choose_dims(self, *_: object) -> None:
        self.network.set_value(self.network.value.model_copy(update={"dims": self.dims.currentData()}))

    @timed
    def _follow_network(self) -> None:
        """A preset may be for volumes: then the dimensions follow it."""
        with QSignalBlocker(self.dims):
            self.dims.setCurrentIndex(self.dims.findData(getattr(self.network.value, "dims", 2)))
        self._collect()

    @timed
    def _collect(self, *_: object) -> None:
        session = self.session
        config = session.config.updated(
            network=self.network.value.model_dump(),
            method=self.method.value.model_dump(),
            loss=self.loss.value.model_dump(),
        )
        session.config = with_budget(config, self.amount.value(), self.unit.currentText())
        session.form_problem = self.network.problem or self.method.problem or self.loss.problem
        session.from_scratch = self.scratch.isChecked()
        session.changed.emit()


def _row(text: str, field: QWidget | QHBoxLayout) -> QFormLayout:
    """A labelled row that lines up with those of the forms."""
    form, label = QFormLayout(), QLabel(text)
    label.setMinimumWidth(label_width(label))
    form.addRow(label, field)
    return form

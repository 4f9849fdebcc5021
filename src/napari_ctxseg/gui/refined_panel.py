"""Two sliders for the thresholds of a CR-GAN's error masks; there only while such a prediction is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QFormLayout, QGroupBox, QHBoxLayout, QLabel, QPushButton, QWidget
from superqt import QLabeledDoubleSlider

from napari_ctxseg.gui.fields import label_width
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from napari_ctxseg.gui.session import Session

ROWS = {
    "Missed above": "Blue: what the first stage has probably missed. Where it is above this, it is added to the "
    "prediction. Further left adds more; at 1 nothing is added.",
    "Made up above": "Red: what the first stage has probably made up. Where it is above this, it is taken away from the "
    "prediction. Further left takes away more; at 1 nothing is taken.",
}


class RefinedPanel(QGroupBox):
    """Thresholds of the ticked image's prediction, and the way back to those of the run."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Refinement", parent)
        self.session = session
        self.sliders: list[QLabeledDoubleSlider] = []
        form = QFormLayout(self)
        for text, tooltip in ROWS.items():
            label, slider = QLabel(text), QLabeledDoubleSlider(Qt.Orientation.Horizontal)
            label.setMinimumWidth(label_width(label))
            slider.setRange(0.0, 1.0)
            slider.setDecimals(2)
            slider.setSingleStep(0.01)  # type: ignore[arg-type]
            slider.valueChanged.connect(self._move)
            for widget in (label, slider):
                widget.setToolTip(tooltip)
            form.addRow(label, slider)
            self.sliders.append(slider)
        self.fitted, self.reset = QLabel(), QPushButton("Reset")
        self.reset.setToolTip("Back to the thresholds that were best on the run's validation patients.")
        self.reset.clicked.connect(self._reset)
        row = QHBoxLayout()
        row.addWidget(self.fitted, 1)
        row.addWidget(self.reset)
        form.addRow(row)
        self.refresh()

    def refresh(self) -> None:
        """Show the thresholds of the ticked image's prediction, or nothing where there is none."""
        refined = self.session.refined
        if self.isHidden() != (refined is None):
            self.setVisible(refined is not None)
        if refined is None:
            return
        for slider, value in zip(self.sliders, refined.thresholds, strict=True):
            if abs(slider.value() - value) > 0.004:  # less than a step: what the person has just chosen
                with QSignalBlocker(slider):
                    slider.setValue(value)
        fn, fp = refined.fitted
        self.fitted.setText(f"The run's own: {fn:g} and {fp:g}")
        self.reset.setEnabled(refined.thresholds != refined.fitted)

    @timed
    def _move(self, *_: object) -> None:
        fn, fp = (round(slider.value(), 2) for slider in self.sliders)
        self.session.set_thresholds(fn, fp)
        self.refresh()

    @timed
    def _reset(self, *_: object) -> None:
        refined = self.session.refined
        if refined is not None:
            self.session.set_thresholds(*refined.fitted)
            self.refresh()

"""The first sections of the dock: layers and classes. Each shows a `Session` and changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.choices import ClassRow, Policy, renamed
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from napari_ctxseg.gui.session import Session

OURS = (".nii", ".nii.gz", ".mhd", ".mha")
FILES = "Images (*.nii *.nii.gz *.mhd *.mha *.tif *.tiff *.png *.jpg *.jpeg);;All files (*)"

POLICIES: dict[Policy, tuple[str, str]] = {
    "masks": (
        "Full masks",
        "Draw every structure in the slices you choose. Unpainted pixels of a slice you painted in are "
        "background; slices without paint are ignored.",
    ),
    "scribbles": (
        "Scribbles",
        "Draw a few strokes on each class and on the background. Unpainted pixels are ignored everywhere.",
    ),
}


class LayerPanel(QGroupBox):
    """Choice of image layers (channels) and of the labels layer."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("1  Layers", parent)
        self.session = session
        self._shown: list[tuple[int, str, bool]] = []
        self.images = QListWidget()
        self.images.setToolTip(
            "Tick the image to learn from. Several ticks: channels of one image. RGB images too."
        )
        self.images.setMaximumHeight(58)
        self.images.itemChanged.connect(self._choose)
        self.labels = QComboBox()
        self.labels.setToolTip("The layer you paint in. It must have the image's shape and scale.")
        self.labels.currentIndexChanged.connect(self._choose)
        self.new = QPushButton("New")
        self._held = False
        self.new.clicked.connect(self._new_labels)
        self.open = QPushButton("Open images...")
        self.open.setToolTip(
            "NIfTI and MetaImage open with their voxel size; TIFF, PNG and JPEG as napari reads them."
        )
        self.open.clicked.connect(self._open)
        row = QHBoxLayout()
        row.addWidget(QLabel("Labels"))
        row.addWidget(self.labels, 1)
        row.addWidget(self.new)
        layout = QVBoxLayout(self)
        layout.addWidget(self.open)
        layout.addWidget(self.images)
        layout.addLayout(row)

    def refresh(self) -> None:
        """Follow the viewer's layer list: cheap when nothing has changed."""
        images = lay.layers_of(self.session.viewer, "image")
        labels = [
            layer for layer in lay.layers_of(self.session.viewer, "labels") if not lay.is_prediction(layer)
        ]
        now = [(id(layer), layer.name, layer in self.session.images) for layer in images]
        now += [(id(layer), layer.name, layer is self.session.labels) for layer in labels]
        if now == self._shown:
            return
        self._shown = now
        self.session.forget_missing_layers()
        with QSignalBlocker(self.images), QSignalBlocker(self.labels):
            self.images.clear()
            for layer in images:
                item = QListWidgetItem(layer.name)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                checked = layer in self.session.images
                item.setCheckState(Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)
                item.setData(Qt.ItemDataRole.UserRole, layer)
                self.images.addItem(item)
            self.labels.clear()
            self.labels.addItem("(none)", None)
            for layer in labels:
                self.labels.addItem(layer.name, layer)
                if layer is self.session.labels:
                    self.labels.setCurrentIndex(self.labels.count() - 1)
        self._choose_obvious(images, labels)

    def hold_new(self, held: bool) -> None:
        """Keep the button New back while napari's labels are still loading."""
        self._held = held
        self.show_new()

    def show_new(self) -> None:
        """Enable the button New, or say why not."""
        problem = "Loading ..." if self._held else lay.image_problem(self.session.images)
        self.new.setEnabled(not problem)
        self.new.setToolTip(problem or "Add an empty labels layer on the grid of the ticked image.")

    def _choose_obvious(self, images: list[Any], labels: list[Any]) -> None:
        """The first layers of a viewer are taken without asking."""
        session = self.session
        chosen = session.images or images[:1]
        fitting = [layer for layer in labels if chosen and not lay.labels_problem(chosen, layer)]
        mask = session.labels if session.labels is not None else next(iter(fitting), None)
        if chosen != session.images or mask is not session.labels:
            session.choose(chosen, mask)
            self._shown = []
            self.refresh()

    @timed
    def _choose(self, *_: object) -> None:
        items = [self.images.item(row) for row in range(self.images.count())]
        ticked = [
            i.data(Qt.ItemDataRole.UserRole) for i in items if i and i.checkState() == Qt.CheckState.Checked
        ]
        self.session.choose(ticked, self.labels.currentData())

    @timed
    def _new_labels(self, *_: object) -> None:
        self.session.new_labels()

    def _open(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Open images", "", FILES)
        for name in names:
            try:
                plugin = "napari-ctxseg" if name.lower().endswith(OURS) else "napari"
                self.session.viewer.open(name, plugin=plugin)
            except CtxsegError as error:
                self.session.failed.emit(str(error))


class ClassPanel(QGroupBox):
    """Annotation policy and the table of classes."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("2  Classes", parent)
        self.session = session
        self._shown: list[tuple[str, str, str]] | None = None
        self.policy = QComboBox()
        for name, (title, text) in POLICIES.items():
            self.policy.addItem(title, name)
            self.policy.setItemData(self.policy.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
        self.policy.currentIndexChanged.connect(self._choose_policy)
        self.explanation = QLabel()
        self.explanation.setWordWrap(True)
        self.background = QSpinBox()
        self.background.setRange(1, 65535)
        self.background.setValue(session.background_value)
        self.background.setToolTip("Paint this label value where there is none of the classes.")
        self.background.valueChanged.connect(self._choose_background)
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["Class", "Value", "Colour"])
        self.table.setToolTip(
            "Name, painted label value and colour of each class. Click a colour to change it."
        )
        header, side = self.table.horizontalHeader(), self.table.verticalHeader()
        assert header is not None
        assert side is not None
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.setColumnWidth(1, 56)
        self.table.setColumnWidth(2, 56)
        side.setVisible(False)
        self.table.cellChanged.connect(self._edit)
        self.table.cellClicked.connect(self._click)
        self.add, self.remove = QPushButton("Add class"), QPushButton("Remove class")
        self.add.setToolTip("Add a class with the next free value. Values you paint are added by themselves.")
        self.remove.setToolTip(
            "Remove the selected class from the table. Its pixels then count as background."
        )
        self.add.clicked.connect(self._add)
        self.remove.clicked.connect(self._remove)
        self._background_label = QLabel("Background value")
        form = QFormLayout()
        form.addRow("Annotation", self.policy)
        form.addRow(self.explanation)
        form.addRow(self._background_label, self.background)
        buttons = QHBoxLayout()
        buttons.addWidget(self.add)
        buttons.addWidget(self.remove)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's policy and classes."""
        scribbles = self.session.policy == "scribbles"
        self.explanation.setText(POLICIES[self.session.policy][1])
        self.background.setVisible(scribbles)
        self._background_label.setVisible(scribbles)
        rows, colors = self.session.classes, self.session.colors()
        shown = [(row.name, str(row.value), QColor(colors[row.value]).name()) for row in rows]
        if shown == self._shown:
            return
        self._shown = shown
        with QSignalBlocker(self.table):
            self.table.setRowCount(len(rows))
            self._fit_height(min(5, max(2, len(rows))))
            for index, (name, value, color) in enumerate(shown):
                self.table.setItem(index, 0, QTableWidgetItem(name))
                self.table.setItem(index, 1, QTableWidgetItem(value))
                swatch = QTableWidgetItem()
                swatch.setFlags(Qt.ItemFlag.ItemIsEnabled)
                swatch.setBackground(QColor(color))
                self.table.setItem(index, 2, swatch)

    def _fit_height(self, lines: int) -> None:
        """Room for this many classes; more of them scroll."""
        header, side = self.table.horizontalHeader(), self.table.verticalHeader()
        if header is not None and side is not None:
            rows = lines * side.defaultSectionSize()
            self.table.setFixedHeight(header.sizeHint().height() + rows + 2 * self.table.frameWidth() + 2)

    @timed
    def _choose_policy(self, index: int) -> None:
        self.session.policy = self.policy.itemData(index)
        self.session.recolor()
        self.session.changed.emit()
        self.refresh()

    @timed
    def _choose_background(self, value: int) -> None:
        self.session.background_value = value
        self.session.recolor()
        self.session.changed.emit()

    @timed
    def _edit(self, index: int, column: int) -> None:
        item = self.table.item(index, column)
        text = item.text().strip() if item else ""
        rows = self.session.classes
        self._shown = None
        if column == 0 and text and text not in {row.name for i, row in enumerate(rows) if i != index}:
            self.session.set_classes(renamed(rows, index, name=text))
        elif column == 1 and text.isdecimal() and 0 < int(text) < 65536:
            self.session.set_classes(renamed(rows, index, value=int(text)))
        else:
            self.refresh()  # what was typed cannot be: show what was there

    def _click(self, index: int, column: int) -> None:
        if column == 1 and self.session.labels is not None:
            self.session.labels.selected_label = self.session.classes[index].value
        if column != 2:
            return
        old = QColor(self.session.colors()[self.session.classes[index].value])
        color = QColorDialog.getColor(old, self, "Colour of the class")
        if color.isValid():
            self.session.set_classes(renamed(self.session.classes, index, color=color.name()))

    @timed
    def _add(self, *_: object) -> None:
        rows = self.session.classes
        taken = {row.value for row in rows}
        if self.session.policy == "scribbles":
            taken.add(self.session.background_value)
        value = next(v for v in range(1, 65536) if v not in taken)
        self.session.set_classes([*rows, ClassRow(f"class {value}", value)])
        self.refresh()

    @timed
    def _remove(self, *_: object) -> None:
        index = self.table.currentRow()
        if 0 <= index < len(self.session.classes):
            self.session.set_classes([row for i, row in enumerate(self.session.classes) if i != index])
            self.refresh()

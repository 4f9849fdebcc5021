"""Live curve of loss and Dice. Drawn with QPainter: a redraw takes a millisecond, matplotlib's fifty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qtpy.QtGui import QPaintEvent

    from napari_ctxseg.gui.history import History

LOSS_COLOR = "#8c8c8c"
#: Of the discriminator's mean answers: none of the first classes' colours.
ANSWER_COLORS = {"real": "#cc79a7", "predicted": "#f0e442"}
REDRAW_MS = 200


class CurveWidget(QWidget):
    """Loss (left axis, grey) and Dice per class (right axis, class colours) over steps."""

    def __init__(self, history: History, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._history = history
        self._colors: Mapping[str, str] = {}
        self.drawn = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumHeight(150)
        self.setToolTip(
            "Grey, left axis: training loss, smoothed. Coloured, right axis: Dice per class. "
            "Dotted lines: training went on from an earlier run. Dashed, right axis: how sure the discriminator is that "
            "labels (real) and predictions are drawn by a person; when both are near 0.5 it cannot tell them apart."
        )
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW_MS)
        self._timer.timeout.connect(self.update)

    def sizeHint(self) -> QSize:
        """Wide and low."""
        return QSize(320, 150)

    def refresh(self, colors: Mapping[str, str]) -> None:
        """Redraw soon, but not more than five times a second."""
        self._colors = colors
        if not self._timer.isActive():
            self._timer.start()

    @timed
    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes and curves."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        metrics = painter.fontMetrics()
        room = metrics.horizontalAdvance("0.000") + 6
        line = metrics.height()
        area = QRectF(room, 2.0 * line + 4, self.width() - 2.0 * room, self.height() - 3.0 * line - 8)
        history = self._history
        faint = QColor(ink)
        faint.setAlpha(60)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        painter.setPen(ink)
        if not history.loss:
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, "The learning curve appears here.")
            painter.end()
            return
        last = max(history.loss[-1][0], *(points[-1][0] for points in history.dice.values()), 1)
        values = [loss for _, loss in history.loss]
        low, high = min(0.0, *values), _round_up(sorted(values)[int(0.98 * (len(values) - 1))])
        self._axes(painter, area, low, high, last)
        painter.setPen(QPen(faint, 1, Qt.PenStyle.DotLine))
        for start in history.starts:
            x = area.left() + area.width() * start / last
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
        painter.setClipRect(area.adjusted(-2, -2, 2, 2))
        self._curve(painter, area, history.loss, last, low, high, LOSS_COLOR, 1.2)
        for name, points in history.dice.items():
            self._curve(painter, area, points, last, 0.0, 1.0, self._color(name), 2.0)
        for name, points in history.answers.items():
            self._curve(painter, area, points, last, 0.0, 1.0, ANSWER_COLORS[name], 1.2, Qt.PenStyle.DashLine)
        painter.end()
        self.drawn += 1

    def _color(self, name: str) -> str:
        return self._colors.get(name, "#e69f00")

    def _axes(self, painter: QPainter, area: QRectF, low: float, high: float, last: int) -> None:
        metrics = painter.fontMetrics()
        height = metrics.height()
        right, left = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignLeft
        for value, y in ((high, area.top()), (low, area.bottom() - height)):
            painter.drawText(QRectF(0, y, area.left() - 4, height), right, f"{value:.3g}")
        if self._history.dice or self._history.answers:
            for text, y in (("1", area.top()), ("0", area.bottom() - height)):
                painter.drawText(QRectF(area.right() + 4, y, area.left() - 4, height), left, text)
        below = QRectF(area.left(), area.bottom() + 2, area.width(), height)
        painter.drawText(below, left, "0")
        painter.drawText(below, right, f"{last} steps")
        ink = painter.pen()
        x, y = 0.0, float(metrics.ascent())
        for number, (text, color) in enumerate(self._legend()):
            width = metrics.horizontalAdvance(text)
            if number == 2 or x + width > self.width():  # classes on a line of their own
                x, y = 0.0, y + height
            painter.setPen(QColor(color))
            painter.drawText(QPointF(x, y), text)
            x += width + 10
        painter.setPen(ink)

    def _legend(self) -> list[tuple[str, str]]:
        """Names with their colours; the latest Dice stands beside each class."""
        entries = [("loss", LOSS_COLOR)]
        if self._history.dice:
            entries.append((self._history.curve, self.palette().color(QPalette.ColorRole.WindowText).name()))
        entries += [
            (f"{name} {points[-1][1]:.2f}", self._color(name)) for name, points in self._history.dice.items()
        ]
        entries += [
            (f"- - {name} {points[-1][1]:.2f}", ANSWER_COLORS[name])
            for name, points in self._history.answers.items()
            if points
        ]
        return entries

    @staticmethod
    def _curve(
        painter: QPainter,
        area: QRectF,
        points: Sequence[tuple[int, float]],
        last: int,
        low: float,
        high: float,
        color: str,
        width: float,
        style: Qt.PenStyle = Qt.PenStyle.SolidLine,
    ) -> None:
        span = (high - low) or 1.0
        line = [
            QPointF(area.left() + area.width() * x / last, area.bottom() - area.height() * (y - low) / span)
            for x, y in points
        ]
        painter.setPen(QPen(QColor(color), width, style))
        painter.drawPolyline(QPolygonF(line))
        if len(line) < 30 and style == Qt.PenStyle.SolidLine:
            painter.setBrush(QColor(color))
            for point in line:
                painter.drawEllipse(point, 1.5, 1.5)
            painter.setBrush(Qt.BrushStyle.NoBrush)


def _round_up(value: float) -> float:
    """Upper end of an axis: the next of 1, 2, 5, 10, ..."""
    if not value > 0:
        return 1.0
    scale = 1.0
    while scale > value:
        scale /= 10
    while scale * 10 <= value:
        scale *= 10
    return next((scale * step for step in (1, 2, 3, 5, 7, 10) if scale * step >= value), scale * 10)

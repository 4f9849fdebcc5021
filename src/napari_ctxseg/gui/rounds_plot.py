"""Plot of a project's rounds: validation Dice against the minutes spent on annotating."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QPaintEvent

    from napari_ctxseg.project import Round

COLOR = "#56b4e9"


def points_of(rounds: Sequence[Round]) -> list[tuple[float, float]]:
    """Minutes spent until each round that was measured, and its mean validation Dice."""
    minutes, points = 0.0, []
    for each in rounds:
        minutes += each.minutes
        if each.after is not None and each.after.mean is not None:
            points.append((minutes, each.after.mean))
    return points


class RoundsPlot(QWidget):
    """A dot for each round."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.points: list[tuple[float, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Mean Dice on the validation images after each round, over the minutes spent on annotating."
        )

    def sizeHint(self) -> QSize:
        """Wide and low."""
        return QSize(300, 110)

    def show_rounds(self, rounds: Sequence[Round]) -> None:
        """Draw these."""
        points = points_of(rounds)
        if points != self.points:
            self.points = points
            self.update()

    @timed
    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes and dots."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        metrics = painter.fontMetrics()
        room, line = metrics.horizontalAdvance("0.00") + 6, metrics.height()
        area = QRectF(room, line / 2, self.width() - room - line, self.height() - 2.0 * line)
        faint = QColor(ink)
        faint.setAlpha(60)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        painter.setPen(ink)
        if not self.points:
            text = "Each round of training appears here:\nvalidation Dice over minutes of annotating."
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, text)
            painter.end()
            return
        values = [dice for _, dice in self.points]
        low, high = max(0.0, min(values) - 0.05), min(1.0, max(values) + 0.05)
        last = max(self.points[-1][0], 1e-9)
        right, left = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignLeft
        painter.drawText(QRectF(0, area.top() - line / 2, room - 4, line), right, f"{high:.2f}")
        painter.drawText(QRectF(0, area.bottom() - line / 2, room - 4, line), right, f"{low:.2f}")
        below = QRectF(area.left(), area.bottom() + 2, area.width(), line)
        painter.drawText(below, left, "0")
        painter.drawText(below, right, f"{self.points[-1][0]:.0f} min")
        line_ = [
            QPointF(
                area.left() + area.width() * x / last,
                area.bottom() - area.height() * (y - low) / (high - low),
            )
            for x, y in self.points
        ]
        painter.setPen(QPen(QColor(COLOR), 2))
        painter.drawPolyline(QPolygonF(line_))
        painter.setBrush(QColor(COLOR))
        for point in line_:
            painter.drawEllipse(point, 3, 3)
        painter.end()

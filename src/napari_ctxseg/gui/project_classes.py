"""The class table and the annotation policy on screen, and those of the project: kept the same. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.gui.choices import ClassRow
from napari_ctxseg.project import ClassSpec, LabelStore, Project

if TYPE_CHECKING:
    from napari_ctxseg.gui.choices import Choices


def specs_of(choices: Choices) -> list[ClassSpec]:
    """Classes on screen, as a project keeps them.

    Raises
    ------
    ValueError
        If a name cannot be.
    """
    colors = choices.colors()
    return [
        ClassSpec(name=row.name, value=row.value, colour=_hex(colors[row.value])) for row in choices.classes
    ]


def _hex(color: Any) -> str:
    from napari.utils.colormaps.standardize_color import rgb_to_hex, transform_color

    return str(rgb_to_hex(transform_color(color))[0])[:7].lower()


class ClassSync:
    """Two copies of the settings. What the person changes goes into the project; what cannot be is taken back.

    Parameters
    ----------
    choices : Choices
        The screen's.
    """

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self._seen: Any = None

    def _now(self) -> Any:
        choices = self.choices
        return choices.policy, choices.background_value, tuple(choices.classes)

    def show(self, project: Project) -> None:
        """Put the project's classes, colours and policy on the screen."""
        choices, spec = self.choices, project.spec
        choices.policy = spec.policy
        if spec.background is not None:
            choices.background_value = spec.background
        if spec.classes:
            choices.classes = [ClassRow(each.name, each.value, each.colour) for each in spec.classes]
        self._seen = self._now()
        choices.recolor()
        choices.changed.emit()

    def keep(self, project: Project) -> str:
        """Write what has changed on the screen into the project; why it cannot be, or an empty string."""
        if self._now() == self._seen:
            return ""
        self._seen = self._now()
        try:
            policy = self.choices.policy
            background = self.choices.background_value if policy == "scribbles" else None
            if policy != project.spec.policy:
                _check_unlabelled(project)
            if (policy, background) != (project.spec.policy, project.spec.background):
                project.update(policy=policy, background=background)
            project.set_classes(specs_of(self.choices))
        except CtxsegError as error:
            self.show(project)
            return str(error)
        except ValueError as error:
            return f"The classes are not saved: {error}"
        return ""


def _check_unlabelled(project: Project) -> None:
    for name in project.names:
        if project.has_labels(name) and LabelStore.open(project.labels_path(name), read_only=True).written:
            raise InputError(
                "policy", f"cannot be changed: '{name}' is labelled", "Make a new project for it"
            )

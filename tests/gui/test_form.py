from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from napari_ctxseg.config import (
    Config,
    ContextCE,
    CrossEntropy,
    DilatedBalancedCE,
    DynamicRoi,
    LossConfig,
    NetworkConfig,
    StaticRoi,
    UNetConfig,
)
from napari_ctxseg.gui.form import ConfigForm, kinds_of, summary_of, title_of

pytestmark = pytest.mark.viewer  # Qt widgets need a screen


@pytest.fixture
def form(qtbot):
    made = ConfigForm(LossConfig, DilatedBalancedCE(), "Loss")
    qtbot.addWidget(made)
    return made


def choose(form, cls):
    form._kinds.setCurrentIndex(form._classes.index(cls))


def test_every_loss_shows_its_declared_defaults(form):
    for cls in kinds_of(LossConfig):
        choose(form, cls)
        assert form.value == cls()
        shown = set(form._editors)
        assert shown == set(cls.model_fields) - {"kind"}
        form._collect()
        assert form.value == cls(), "reading the editors back changes nothing"


def test_editing_a_number(form, qtbot):
    with qtbot.waitSignal(form.changed):
        form._editors["radius"].value = 7.5
    assert form.value == DilatedBalancedCE(radius=7.5)
    form._editors["unit"].value = "world"
    assert form.value == DilatedBalancedCE(radius=7.5, unit="world")


def test_tooltips_come_from_the_config(form):
    for name, editor in form._editors.items():
        text = DilatedBalancedCE.model_fields[name].description
        assert editor.tooltip == text
        assert form._form.labelForField(editor.native).toolTip() == text
    assert form._kinds.toolTip() == summary_of(DilatedBalancedCE)


def test_limits_of_the_config_are_limits_of_the_editor(form):
    editor = form._editors["radius"]
    assert editor.min == 0
    editor.value = 500
    assert form.value.radius == 500


def test_choice_within_a_choice(form):
    choose(form, ContextCE)
    nested = form._editors["roi"]
    assert nested.value == DynamicRoi()
    choose(nested, StaticRoi)
    assert form.value == ContextCE(roi=StaticRoi())
    nested._editors["size"].value = 50
    assert form.value == ContextCE(roi=StaticRoi(size=50))
    choose(form, CrossEntropy)
    assert form.value == CrossEntropy()
    assert not form._editors


def test_hidden_fields_keep_their_value(qtbot):
    value = UNetConfig(dims=3)
    form = ConfigForm(NetworkConfig, value, "Model", {"dims", "in_channels", "out_channels", "features"})
    qtbot.addWidget(form)
    assert not form._editors
    assert form.value == value


class Touchy(Config):
    """Refuses some numbers that its limits allow."""

    kind: Literal["touchy"] = "touchy"
    size: int = Field(4, ge=0, multiple_of=2, title="Size")


def test_a_value_that_cannot_be_is_named(qtbot):
    form = ConfigForm(Touchy, Touchy())
    qtbot.addWidget(form)
    form._editors["size"].value = 5
    assert "size" in form.problem
    assert form.value == Touchy(), "the last valid one"
    form._editors["size"].value = 6
    assert form.problem == ""


def test_titles():
    assert [title_of(cls) for cls in kinds_of(LossConfig)][-1] == "Dilated balanced CE"
    assert title_of(UNetConfig) == "U-Net"
    assert kinds_of(int) == []
    assert kinds_of(int | None) == []

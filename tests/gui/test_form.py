from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from napari_ctxseg.config import (
    BalancedCE,
    Config,
    ContextCE,
    ContourConfig,
    ContourWeightedCEDice,
    CrossEntropy,
    Dice,
    DiceCE,
    DilatedBalancedCE,
    DynamicRoi,
    Focal,
    LossConfig,
    MaskRoi,
    NetworkConfig,
    StaticRoi,
    Sum,
    Term,
    UNetConfig,
    VNetConfig,
    WeightedCE,
    parse_loss,
    preset_values,
    presets_of,
    recommended,
)
from napari_ctxseg.gui.fields import kinds_of, summary_of, title_of
from napari_ctxseg.gui.form import ConfigForm

pytestmark = pytest.mark.viewer  # Qt widgets need a screen


@pytest.fixture
def form(qtbot):
    made = ConfigForm(LossConfig, DilatedBalancedCE(), "Loss")
    qtbot.addWidget(made)
    return made


def choose(form, cls):
    form._kinds.setCurrentIndex(form._classes.index(cls))


def test_every_loss_starts_as_recommended_and_shows_all_its_fields(form):
    for cls in kinds_of(LossConfig):
        choose(form, cls)
        assert form.value == recommended(cls.model_fields["kind"].default)
        shown = set(form._editors)
        assert shown == set(cls.model_fields) - {"kind"}
        form._collect()
        assert form.value == recommended(form.value.kind), "reading the editors back changes nothing"
        assert form.problem == ""


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
    assert nested.value == DynamicRoi(margin=4)
    choose(nested, MaskRoi)
    assert form.value == ContextCE(roi=MaskRoi(unit="px")), "docks write lengths in pixels"
    choose(nested, StaticRoi)
    assert form.value == ContextCE(roi=StaticRoi())
    nested._editors["size"].value = 50
    assert form.value == ContextCE(roi=StaticRoi(size=50))
    choose(form, CrossEntropy)
    assert form.value == CrossEntropy()
    assert not form._editors


def test_hidden_fields_keep_their_value(qtbot):
    value = UNetConfig(dims=3)
    form = ConfigForm(NetworkConfig, value, "Model", {"dims"})
    qtbot.addWidget(form)
    off = {"dims", "in_channels", "out_channels", "features", "factors"}
    assert set(form._editors) == set(UNetConfig.model_fields) - off - {"kind"}
    form._editors["norm"].value = "group"
    assert form.value == UNetConfig(dims=3, norm="group")


@pytest.mark.parametrize("cls", kinds_of(NetworkConfig))
def test_every_network_goes_through_the_form(cls, qtbot):
    form = ConfigForm(NetworkConfig, UNetConfig() if cls is VNetConfig else VNetConfig(), "Model", {"dims"})
    qtbot.addWidget(form)
    choose(form, cls)
    assert form.value == cls()
    for name in presets_of(cls.model_fields["kind"].default):
        form.set_value(cls())  # what a preset says nothing of and the form hides stays as it is
        menu_of(form)[name].trigger()
        assert form.value == cls.model_validate(preset_values(form.value.kind, name))
    assert not form.problem


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


def menu_of(form):
    form._list_presets()
    return {action.text(): action for action in form.presets.menu().actions()}


def test_presets_fill_the_fields(form, qtbot):
    choose(form, ContextCE)
    actions = menu_of(form)
    assert tuple(actions) == presets_of("context_ce")
    assert actions["recommended"].isChecked()
    assert actions["paper"].toolTip() == "As printed: two sums; PROMISE12 window."
    with qtbot.waitSignal(form.changed):
        actions["paper"].trigger()
    assert form.value == parse_loss(preset_values("context_ce", "paper"))
    assert form._editors["roi"].value == StaticRoi(size=50)
    assert menu_of(form)["paper"].isChecked()
    assert not form._editors["roi"].presets.isVisibleTo(form)
    choose(form, CrossEntropy)
    assert not form.presets.isVisibleTo(form)


def test_every_preset_goes_through_the_form(form):
    for cls in kinds_of(LossConfig):
        kind = cls.model_fields["kind"].default
        for name in presets_of(kind):
            wanted = parse_loss(preset_values(kind, name))
            form.set_value(wanted)
            form._collect()
            assert form.value == wanted, "nothing is rounded on the way"


def test_a_contour_has_no_choice_of_kinds_and_rare_fields_wait_behind_one_toggle(form, qtbot):
    form.show()
    choose(form, ContourWeightedCEDice)
    qtbot.wait(1)  # new widgets appear with the next event
    contour = form._editors["contour"]
    assert not contour._kinds.isVisibleTo(form)
    rare = [contour._editors["border"].native, contour._editors["adapt"].native, form._editors["smooth"]]
    assert not any(widget.isVisibleTo(form) for widget in rare)
    assert contour._editors["iterations"].native.isVisibleTo(form)
    assert not contour._more.isVisibleTo(form), "one toggle for both"
    assert form._more.text() == "More"
    form._more.click()
    assert all(widget.isVisibleTo(form) for widget in rare)
    contour._editors["adapt"].value = 0.3
    assert form.value.contour == ContourConfig(adapt=0.3)
    assert form._more.text() == "More (1 changed)"
    form._more.click()
    assert not any(widget.isVisibleTo(form) for widget in rare)
    choose(form, CrossEntropy)
    assert not form._more.isVisibleTo(form)


def test_numbers_are_typed_with_commas_and_empty_is_none(form):
    choose(form, WeightedCE)
    editor = form._editors["weights"]
    assert form.value == WeightedCE()
    editor.setText("0.1, 0.5, 0.4")
    assert form.value == WeightedCE(weights=(0.1, 0.5, 0.4))
    editor.setText("0.1 x")
    assert "'0.1 x' is not numbers" in form.problem
    assert form.value == WeightedCE(weights=(0.1, 0.5, 0.4)), "the last valid ones"
    editor.setText("0.1, nan")
    assert form.problem
    editor.setText("1")
    assert "at least 2" in form.problem
    editor.setText("-1, 2")
    assert "0 or more" in form.problem
    editor.setText(" ")
    assert form.value == WeightedCE()
    assert form.problem == ""
    choose(form, BalancedCE)
    form._editors["frequencies"].setText("0.9;0.1")
    assert form.value == BalancedCE(frequencies=(0.9, 0.1))


def test_tiny_numbers_are_text(form):
    choose(form, Dice)
    editor = form._editors["smooth"]
    assert editor.text() == "1e-05"
    editor.setText("1e-7")
    assert form.value == Dice(smooth=1e-7)
    editor.setText("0")
    assert "smooth" in form.problem
    choose(form, Focal)
    form._editors["floor"].setText("1e-7")
    assert form.value == Focal(floor=1e-7)


def test_terms_of_a_sum(form, qtbot):
    choose(form, Sum)
    terms = form._editors["terms"]
    assert [one.value.loss for one in terms.forms] == [CrossEntropy(), Dice()]
    loss = terms.forms[1]._editors["loss"]
    assert Sum not in loss._classes, "a sum of sums is a sum"
    choose(loss, DilatedBalancedCE)
    terms.forms[1]._editors["weight"].value = 0.5
    wanted = Term(weight=0.5, loss=recommended("dilated_balanced_ce"))
    assert form.value == Sum(terms=(Term(loss=CrossEntropy()), wanted))
    with qtbot.waitSignal(form.changed):
        terms.add.click()
    assert form.value.terms[2] == wanted
    terms.remove(0)
    assert [term.loss.kind for term in form.value.terms] == ["dilated_balanced_ce"] * 2
    terms.remove(0)
    assert len(terms.forms) == 1
    assert not terms._rows[0][2].isEnabled(), "the last term stays"
    terms.remove(0)
    assert len(form.value.terms) == 1


def test_a_value_from_elsewhere_is_shown_and_told_once(form):
    told = []
    form.changed.connect(lambda: told.append(form.value))
    values = (
        DilatedBalancedCE(radius=12.345678, unit="px", per="component"),
        DilatedBalancedCE(radius=3),
        DilatedBalancedCE(radius=1e9),
        ContextCE(roi=MaskRoi(radius=4, unit="px"), weight=1 / 3),
        Sum(terms=(Term(loss=CrossEntropy()),)),
        Sum(terms=(Term(loss=Dice()), Term(weight=-2, loss=ContextCE()), Term(loss=Focal()))),
        Sum(terms=(Term(loss=Sum(terms=(Term(loss=CrossEntropy()),))),)),
        ContourWeightedCEDice(contour=ContourConfig(adapt=0.3)),
        DiceCE(),
    )
    for value in values:
        form.set_value(value)
        assert told == [value]
        told.clear()
        form._collect()
        assert form.value == value
        told.clear()
    assert form._kinds.currentText() == "Dice + CE"


def test_narrow_enough_for_a_dock(form):
    for cls in kinds_of(LossConfig):
        choose(form, cls)
        form.open_more(True)
        assert form.minimumSizeHint().width() <= 360, cls


def test_titles():
    titles = [title_of(cls) for cls in kinds_of(LossConfig)]
    assert "Dilated balanced CE" in titles
    assert "Contour CE + Dice" in titles
    assert len(set(titles)) == len(titles)
    assert title_of(UNetConfig) == "U-Net"
    assert kinds_of(int) == []
    assert kinds_of(int | None) == []

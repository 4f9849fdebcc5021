"""Models and methods in the dock: their forms, what is greyed and why, what training would need."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ctxseg.config import (
    CGanConfig,
    Config,
    CrGanConfig,
    GanConfig,
    MaskRoi,
    MethodConfig,
    NetworkConfig,
    SegGlGanConfig,
    SupervisedConfig,
    UNetConfig,
    preset_values,
    presets_of,
)
from napari_ctxseg.config.combinations import Facts, refusals
from napari_ctxseg.events import Described, Note, StepEnd
from napari_ctxseg.gui.describe import PAUSE, Describer
from napari_ctxseg.gui.fields import kinds_of, start_of, title_of
from napari_ctxseg.gui.form import ConfigForm
from napari_ctxseg.gui.model_panel import ModelPanel
from napari_ctxseg.gui.rules import greyed

pytestmark = pytest.mark.viewer  # Qt widgets need a screen


def choose(form, cls):
    form._kinds.setCurrentIndex(form._classes.index(cls))


def offered(form):
    return [cls.model_fields["kind"].default for cls in form._classes]


def enabled(box):
    return [box.itemText(row) for row in range(box.count()) if box.model().item(row).isEnabled()]


def tooltip(box, text):
    return box.model().item(box.findText(text)).toolTip()


@pytest.fixture
def form(qtbot):
    made = ConfigForm(MethodConfig, SupervisedConfig(), "Method", {"dims"})
    qtbot.addWidget(made)
    return made


@pytest.fixture
def panel(session, qtbot):
    made = ModelPanel(session)
    qtbot.addWidget(made)
    session.changed.connect(made.refresh)  # what the dock's timer does
    return made


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize("cls", kinds_of(MethodConfig), ids=lambda cls: cls.__name__)
def test_every_method_goes_through_its_form(form, cls):
    choose(form, cls)
    form.open_more(True)
    assert form.value == start_of(cls)
    form._collect()
    assert (form.value, form.problem) == (start_of(cls), ""), "reading the editors back changes nothing"
    for name, editor in form._editors.items():
        if not isinstance(editor, ConfigForm):
            assert editor.tooltip == cls.model_fields[name].description
    assert form.minimumSizeHint().width() <= 360


@pytest.mark.parametrize("cls", kinds_of(NetworkConfig), ids=lambda cls: cls.__name__)
def test_every_network_and_its_presets_go_through_the_form(qtbot, cls):
    form = ConfigForm(NetworkConfig, start_of(cls), "Model", {"dims"})
    qtbot.addWidget(form)
    values = [start_of(cls)]
    values += [cls.model_validate(preset_values(values[0].kind, name)) for name in presets_of(values[0].kind)]
    for value in values:
        form.set_value(value)
        form._collect()
        assert (form.value, form.problem) == (value, "")
    form.open_more(True)
    assert form.minimumSizeHint().width() <= 360


def test_names_are_those_of_the_papers():
    titles = [title_of(cls) for cls in kinds_of(MethodConfig)]
    assert titles == ["Supervised", "GAN", "Seg-GLGAN", "cGAN", "CR-GAN"]


def test_a_discriminator_that_never_fits_is_not_offered(form):
    choose(form, GanConfig)
    assert "context" not in offered(form.nested("discriminator"))
    choose(form, CGanConfig)
    assert offered(form.nested("discriminator")) == ["pixel", "patch", "image"]
    choose(form, SegGlGanConfig)
    assert form.nested("discriminator") is None, "there is only one"


def test_nested_sections_reach_the_value(form):
    choose(form, SegGlGanConfig)
    choose(form.nested("roi"), MaskRoi)
    form.nested("optim").editor("lr").setText("3e-5")
    assert form.value.roi == MaskRoi(unit="px")
    assert form.value.optim.lr == 3e-5
    choose(form, CrGanConfig)
    refine = form.nested("refine")
    refine.editor("folds").value = 4
    refine.editor("steps").setText("50")
    assert (form.value.refine.folds, form.value.refine.steps) == (4, 50)
    refine.editor("steps").setText("0")
    assert "whole number above 0" in form.problem
    refine.editor("steps").setText("")
    assert (form.value.refine.steps, form.problem) == (None, "")
    choose(form.nested("discriminator"), form.nested("discriminator")._classes[1])
    assert form.value.discriminator.kind == "patch"


def test_rare_settings_wait_behind_more(form, qtbot):
    form.show()
    choose(form, CGanConfig)
    qtbot.wait(1)
    rare = [form.editor("noise").native, form.nested("optim"), form.editor("l1_weight").native]
    assert not any(widget.isVisibleTo(form) for widget in rare)
    form._more.click()
    assert all(widget.isVisibleTo(form) for widget in rare)


def test_a_first_stage_is_chosen_and_taken_back(form, qtbot, monkeypatch, tmp_path):
    choose(form, CrGanConfig)
    base = form.nested("refine").editor("base")
    assert base.text.text() == "train the first stage too"
    opened = []
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getExistingDirectory",
        lambda *args: opened.append(args[-1]) or str(tmp_path / "0003-ce"),
    )
    base.start = str(tmp_path)
    base.choose.click()
    assert opened == [str(tmp_path)]
    assert form.value.refine.base == str(tmp_path / "0003-ce")
    assert base.text.text() == "0003-ce"
    base.forget.click()
    assert form.value.refine.base is None
    assert base.text.text() == "train the first stage too"
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *_: "")
    base.choose.click()
    assert form.value.refine.base is None


# ---------------------------------------------------------------- the panel


def test_the_method_reaches_the_run(panel, session):
    choose(panel.method, SegGlGanConfig)
    panel.method.editor("adversarial_weight").setText("0.5")
    session.new_labels()
    assert session.run_config().method == start_of(SegGlGanConfig).model_copy(
        update={"adversarial_weight": 0.5}
    )


def test_a_preset_for_volumes_turns_the_dimensions(panel, session):
    actions = {}
    panel.network._list_presets()
    for action in panel.network.presets.menu().actions():
        actions[action.text()] = action
    actions["contour"].trigger()
    assert (panel.dims.currentData(), session.config.network.dims) == (3, 3)
    panel.network._list_presets()
    next(a for a in panel.network.presets.menu().actions() if a.text() == "nnunet").trigger()
    assert session.config.network.dims == 3, "this one says nothing of dimensions"
    panel.dims.setCurrentIndex(0)
    assert session.config.network.dims == 2
    assert session.config.network.deep_supervision


def test_one_patient_greys_folds_and_patient_wise_normalisation(panel):
    assert enabled(panel.method._kinds) == ["Supervised", "GAN", "Seg-GLGAN", "cGAN"]
    assert "only one patient" in tooltip(panel.method._kinds, "CR-GAN")
    assert "ctxseg train --group" in tooltip(panel.method._kinds, "CR-GAN")
    norm = panel.network.editor("norm").native
    assert "patient" not in enabled(norm)
    assert "only one to train on" in tooltip(norm, "patient")


def test_a_flat_image_greys_three_dimensions(panel, session, viewer_model):
    assert enabled(panel.dims) == ["2-D, slice by slice", "3-D, whole volume"]
    session.choose([viewer_model.add_image(np.zeros((80, 90)), name="flat")], None)
    assert enabled(panel.dims) == ["2-D, slice by slice"]
    assert "needs a volume" in tooltip(panel.dims, "3-D, whole volume")
    assert enabled(panel.method._kinds) == ["Supervised", "GAN", "Seg-GLGAN", "cGAN"]
    session.choose([], None)
    assert len(enabled(panel.method._kinds)) == 5, "without an image nothing is known"


def test_a_small_patch_greys_discriminators(panel, session):
    session.config = session.config.updated(patch={"size": (32, 32)})
    choose(panel.method, CGanConfig)
    assert enabled(panel.method.nested("discriminator")._kinds) == ["Pixel", "Patch", "Image"]
    session.config = session.config.updated(
        patch={"size": (20, 48)}, network={"kind": "unet", "features": [4, 8]}
    )
    panel.refresh()
    assert enabled(panel.method.nested("discriminator")._kinds) == ["Pixel", "Image"]
    assert "Take 24 or more" in tooltip(panel.method.nested("discriminator")._kinds, "Patch")
    assert enabled(panel.method._kinds) == ["Supervised", "GAN", "cGAN"]
    assert "too small for the context discriminator" in tooltip(panel.method._kinds, "Seg-GLGAN")


def test_networks_too_deep_for_the_patch_are_greyed(panel, session):
    session.config = session.config.updated(
        patch={"size": (20, 48)}, network={"kind": "unet", "features": [4, 8]}
    )
    panel.refresh()
    assert "UNETR" not in enabled(panel.network._kinds)
    assert "The nearest that fits is" in tooltip(panel.network._kinds, "V-Net")


def test_what_is_greyed_is_what_is_refused(session):
    for size in ((16, 16), (32, 48), (64, 64)):
        for method in kinds_of(MethodConfig):
            network = {"kind": "unet", "features": [4, 8]}
            config = session.config.updated(
                method=method().model_dump(), patch={"size": size}, network=network
            )
            facts = Facts((80, 80))
            found = greyed(config, facts)
            said = [one.section for one in refusals(config, facts)]
            blocked = (
                method().kind in found["method"]
                or getattr(method(), "discriminator", Config()).model_dump().get("kind")
                in found["discriminator"]
            )
            assert bool(said) == blocked, (size, method, said, found)


def test_noise_is_warned_of(panel):
    choose(panel.method, CGanConfig)
    assert "harmful" not in panel.needs.text()
    panel.method.editor("noise").value = 0.1
    assert "harmful" in panel.needs.text()


def test_why_training_cannot_start(panel, session):
    session.new_labels().paint((2, 8, 8), 1)
    while not session.census.complete:
        session.tick()
    assert session.train_problem() == ""
    session.config = session.config.updated(patch={"size": (32, 32)})
    choose(panel.method, SegGlGanConfig)
    assert "too small for the context discriminator" in session.train_problem()


# ---------------------------------------------------------------- what it needs


def asked(session):
    return [entry for entry in session.engine.asked if entry[0] == "describe"]


def test_the_engine_is_asked_when_the_choice_rests(session):
    describer = Describer(session)
    describer.tick(0.0)
    describer.tick(PAUSE / 2)
    assert not asked(session)
    session.config = session.config.updated(network={"kind": "unet", "norm": "group"})
    describer.tick(0.8 * PAUSE)
    describer.tick(1.2 * PAUSE)
    assert not asked(session), "a change starts the pause again"
    describer.tick(2 * PAUSE)
    describer.tick(9 * PAUSE)
    ((_, config, facts),) = asked(session)
    assert config.network.norm == "group"
    assert facts == Facts((6, 20, 24))
    session.engine.said = [
        Described(99, parameters=5),
        Described(1, 1_600_000, 0, 400_000_000, None, (32, 32), 8),
    ]
    session.tick()
    assert describer.text == "1.6 M weights, about 0.4 GB to train (patches 32 x 32, batch 8)."
    session.engine.said = [Described(1, problem="No.")]
    session.tick()
    assert describer.text == "No."


def test_the_engine_is_not_asked_while_it_works_or_when_it_would_refuse(session):
    describer = Describer(session)
    session.phase = "training"
    describer.tick(0.0)
    describer.tick(2 * PAUSE)
    session.phase, session.engine.state = "idle", "starting"
    describer.tick(3 * PAUSE)
    assert not asked(session)
    session.engine.state = "ready"
    session.config = session.config.updated(method="cr_gan")
    describer.tick(4 * PAUSE)
    describer.tick(9 * PAUSE)
    assert not asked(session)
    session.config = session.config.updated(method="cgan")
    describer.tick(10 * PAUSE)
    describer.tick(12 * PAUSE)
    assert len(asked(session)) == 1


def test_what_was_told_of_another_choice_does_not_stay(session):
    describer = Describer(session)
    describer.tick(0.0)
    describer.tick(2 * PAUSE)
    session.engine.said = [Described(1, 1000, patch=(32, 32), batch=8)]
    session.tick()
    session.phase = "training"
    describer.tick(3 * PAUSE)
    assert describer.text, "still what is chosen"
    session.config = session.config.updated(method="cgan")
    describer.tick(3.1 * PAUSE)
    assert describer.text == ""
    session.phase = "idle"
    describer.tick(5 * PAUSE)
    session.config = session.config.updated(method="supervised")
    describer.tick(5.1 * PAUSE)
    session.engine.said = [Described(2, 9999, patch=(32, 32), batch=8)]
    session.tick()
    assert describer.text == "", "the answer came too late"
    describer.tick(7 * PAUSE)
    assert len(asked(session)) == 3


def test_more_than_is_free_is_said():
    event = Described(1, 2_000_000, 30_000, 9_000_000_000, 4_000_000_000, (96, 96, 96), 4)
    assert event.sentence() == (
        "2.0 M weights and 30.0 k of the discriminator, about 9.0 GB to train (patches 96 x 96 x 96, batch 4). "
        "More than is free (4.0 GB): choose a smaller network, or 2-D."
    )


# ---------------------------------------------------------------- while it trains


def test_answers_of_the_discriminator_and_notes_stay_in_sight(session):
    session.phase, session._steps = "training", 100
    session.handle(Note("First stage: all training patients"))
    for step in range(1, 20):
        session.handle(StepEnd(step, 100, 1.0, 1e-3, 0.1, {"loss": 0.8, "real": 0.62, "fake": 0.41}))
    assert "discriminator: real 0.62, predicted 0.41" in session.status
    assert session.remark == "First stage: all training patients"
    assert [points[-1] for points in session.history.answers.values()] == [
        (19, pytest.approx(0.62)),
        (19, pytest.approx(0.41)),
    ]
    session.history.begin_run(fresh=True)
    assert session.history.answers == {}


def test_stages_are_said_before_training(session):
    session.config = session.config.updated(
        method=CrGanConfig().model_dump(), network=UNetConfig().model_dump()
    )
    session.facts = lambda: Facts((6, 20, 24), patients=4)
    session.new_labels().paint((2, 8, 8), 1)
    while not session.census.complete:
        session.tick()
    session._background = lambda *_: None
    session.train()
    assert "first stage again for each of 3 folds, and the refinement" in session.status

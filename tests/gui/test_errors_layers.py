"""Predictions of a CR-GAN: layers of its error masks, and thresholds that move the labels without the network."""

from __future__ import annotations

import numpy as np
import pytest
from superqt import QLabeledDoubleSlider

from napari_ctxseg.composition import compose_classes
from napari_ctxseg.events import JobDone, PredictionBlock, PredictionFinished, Preview
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui import refined as refined_module
from napari_ctxseg.gui.choices import ClassRow
from napari_ctxseg.gui.refined import Refined
from napari_ctxseg.gui.refined_panel import RefinedPanel

VALUES = (3, 7)
FITTED = (0.3, 0.6)


@pytest.fixture
def maps():
    """Probabilities, false negatives and false positives of three classes, as the engine sends them."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet((1, 1, 1), size=(6, 20, 24)).transpose(3, 0, 1, 2)
    fn, fp = rng.random((2, 3, 6, 20, 24))
    return [each.astype(np.float16) for each in (p, fn, fp)]


def composed(maps, fn, fp):
    return np.array([0, *VALUES], np.uint8)[
        compose_classes(*(each.astype(np.float32) for each in maps), fn, fp)
    ]


def blocks(maps, size=4, name="mr", thresholds=FITTED):
    labels, depth = composed(maps, *thresholds), maps[0].shape[1]
    for start in range(0, depth, size):
        part = slice(start, start + size)
        yield PredictionBlock(
            name,
            start,
            labels[part],
            min(1.0, (start + size) / depth),
            *(each[:, part] for each in maps),
            thresholds,
        )


@pytest.fixture
def predicted(session, maps, tmp_path):
    """A session after the prediction of a run."""
    session.set_classes([ClassRow("a", VALUES[0]), ClassRow("b", VALUES[1])])
    predict(session, maps, tmp_path)
    return session


def predict(session, maps, run):
    session.last_run = run
    session.predict()
    session.engine.said += [*blocks(maps), PredictionFinished("mr", 0.1), JobDone()]
    session.tick()


def finish(session):
    for _ in range(1000):
        if not session.refined.busy:
            return
        session.tick()
    raise AssertionError("it never ends")


def test_two_layers_on_the_grid_of_the_image(predicted, viewer_model, maps):
    image, names = viewer_model.layers["mr"], [layer.name for layer in viewer_model.layers]
    assert names == ["mr", "mr prediction", "mr FN", "mr FP"]
    for name, color, index in (("mr FN", "blue", 1), ("mr FP", "red", 2)):
        layer = viewer_model.layers[name]
        assert (layer.colormap.name, layer.blending) == (color, "additive")
        assert tuple(layer.contrast_limits) == (0, 1)
        assert layer.opacity <= 0.5
        for look in ("scale", "translate", "units", "axis_labels"):
            assert np.all(getattr(layer, look) == getattr(image, look)), look
        np.testing.assert_array_equal(layer.data, maps[index][1:].max(axis=0))
    np.testing.assert_array_equal(viewer_model.layers["mr prediction"].data, composed(maps, *FITTED))
    assert predicted.refined.thresholds == FITTED
    chosen = lay.layers_of(viewer_model, "image")
    assert [layer.name for layer in chosen] == ["mr"], "masks of errors are no images to learn from"


def test_thresholds_move_the_slice_in_sight_at_once_and_all_in_the_end(
    predicted, viewer_model, maps, monkeypatch
):
    viewer_model.dims.set_point(0, 4 + 8 * 3)
    monkeypatch.setattr("napari_ctxseg.gui.predictions.AT_ONCE", 0.0)
    monkeypatch.setattr("napari_ctxseg.gui.predictions.PORTION", 0.0)
    layer, before, wanted = (
        viewer_model.layers["mr prediction"],
        composed(maps, *FITTED),
        composed(maps, 0.9, 0.2),
    )
    redrawn = []
    layer.events.set_data.connect(lambda: redrawn.append(1))
    predicted.set_thresholds(0.9, 0.2)
    np.testing.assert_array_equal(layer.data[3], wanted[3])
    np.testing.assert_array_equal(layer.data[[0, 1, 2, 4, 5]], before[[0, 1, 2, 4, 5]])
    assert predicted.refined.busy
    assert len(redrawn) == 1
    finish(predicted)
    np.testing.assert_array_equal(layer.data, wanted)
    assert len(redrawn) == 1, "slices out of sight are not drawn"
    predicted.set_thresholds(*predicted.refined.fitted)
    finish(predicted)
    np.testing.assert_array_equal(layer.data, before)


def test_large_slices_are_composed_in_bands(predicted, viewer_model, maps, monkeypatch):
    monkeypatch.setattr(refined_module, "MOST", 24 * 3 * 7)
    refined = predicted.refined
    refined.choose(0.9, 0.2)
    refined.work(0.0)
    assert sorted(refined._todo.values()) == [0] * 5 + [7]
    finish(predicted)
    np.testing.assert_array_equal(viewer_model.layers["mr prediction"].data, composed(maps, 0.9, 0.2))


def test_strokes_in_the_prediction_and_elsewhere_stay(predicted, viewer_model, maps):
    annotation = predicted.new_labels()
    annotation.paint((2, 10, 10), 3)
    painted = annotation.data.copy()
    layer = viewer_model.layers["mr prediction"]
    layer.brush_size = 5
    layer.paint((1, 8, 8), 9)
    stroke = layer.data == 9
    assert stroke.sum() > 10
    for thresholds in ((0.9, 0.2), (0.1, 0.95), FITTED):
        predicted.set_thresholds(*thresholds)
        finish(predicted)
        assert (layer.data[stroke] == 9).all()
        np.testing.assert_array_equal(layer.data[~stroke], composed(maps, *thresholds)[~stroke])
    np.testing.assert_array_equal(annotation.data, painted)
    layer.undo()
    predicted.set_thresholds(0.8, 0.8)
    finish(predicted)
    np.testing.assert_array_equal(layer.data, composed(maps, 0.8, 0.8))


def test_a_stroke_that_agrees_for_a_moment_stays_too(predicted, viewer_model, maps):
    layer = viewer_model.layers["mr prediction"]
    one, other = composed(maps, *FITTED), composed(maps, 0.9, 0.2)
    place = tuple(np.argwhere((one != other) & (other != 0))[0])
    layer.data[place] = other[place]
    for thresholds in ((0.9, 0.2), FITTED):
        predicted.set_thresholds(*thresholds)
        finish(predicted)
        assert layer.data[place] == other[place]


def test_a_second_prediction_takes_the_layers_over(predicted, viewer_model, maps, tmp_path):
    viewer_model.layers["mr FN"].opacity = 0.9
    predicted.set_thresholds(0.9, 0.9)
    predict(predicted, [each[:, ::-1] for each in maps], tmp_path)
    assert [layer.name for layer in viewer_model.layers] == ["mr", "mr prediction", "mr FN", "mr FP"]
    assert viewer_model.layers["mr FN"].opacity == 0.9
    assert predicted.refined.thresholds == FITTED
    np.testing.assert_array_equal(viewer_model.layers["mr FP"].data, maps[2][1:, ::-1].max(axis=0))


def test_labels_of_another_model_end_the_refinement(predicted, viewer_model):
    predicted._job = type("Job", (), {"shot": lay.snapshot(predicted.images), "values": VALUES})()
    predicted.handle(Preview(1, "mr", 2, np.ones((20, 24), np.uint8)))
    assert predicted.refined is None
    assert [layer.name for layer in viewer_model.layers] == ["mr", "mr prediction"]


def test_deleted_layers_are_let_go(predicted, viewer_model, maps, tmp_path):
    viewer_model.layers.remove("mr FN")
    predicted.set_thresholds(0.9, 0.9)
    finish(predicted)
    assert "mr FN" not in viewer_model.layers, "what the person deletes does not come back by itself"
    viewer_model.layers.remove("mr prediction")
    predicted.tick()
    assert predicted.refined is None
    predicted.set_thresholds(0.1, 0.1)
    predict(predicted, maps, tmp_path)
    assert {layer.name for layer in viewer_model.layers} == {"mr", "mr prediction", "mr FN", "mr FP"}
    viewer_model.layers.clear()
    predicted.tick()
    assert predicted._refined == {}


def test_classes_of_the_run_not_of_the_table(session, maps, tmp_path, viewer_model):
    (tmp_path / "config.yaml").write_text("data: {classes: {x: 3, y: 7}}\nbudget: {steps: 1}\n")
    predict(session, maps, tmp_path)
    session.set_thresholds(0.9, 0.2)
    finish(session)
    np.testing.assert_array_equal(viewer_model.layers["mr prediction"].data, composed(maps, 0.9, 0.2))


def test_masks_that_do_not_fit_the_classes_are_left_out(session, maps, tmp_path, viewer_model):
    predict(session, maps, tmp_path)  # the table has one class, and the run says nothing
    assert session.refined is None
    np.testing.assert_array_equal(viewer_model.layers["mr prediction"].data, composed(maps, *FITTED))


def test_an_image_of_one_slice(viewer_model, maps):
    image = viewer_model.add_image(np.zeros((20, 24)), name="flat")
    shot = lay.snapshot([lay.plain(image)])
    layer = lay.add_labels(viewer_model, shot, "flat prediction")
    refined = Refined(viewer_model, shot, layer, VALUES, FITTED)
    flat = [each[:, 0] for each in maps]
    refined.take(PredictionBlock("flat", 0, composed(flat, *FITTED), 1.0, *flat, FITTED))
    assert viewer_model.layers["flat FN"].data.shape == (20, 24)
    refined.choose(0.9, 0.2)
    refined.work(1.0)
    np.testing.assert_array_equal(layer.data, composed(flat, 0.9, 0.2))


@pytest.mark.viewer
def test_sliders_and_reset(predicted, viewer_model, maps, qtbot):
    panel = RefinedPanel(predicted)
    qtbot.addWidget(panel)
    predicted.changed.connect(panel.refresh)
    assert not panel.isHidden()
    assert [slider.value() for slider in panel.sliders] == list(FITTED)
    assert all(isinstance(slider, QLabeledDoubleSlider) for slider in panel.sliders)
    assert not panel.reset.isEnabled()
    panel.sliders[0].setValue(0.9)
    panel.sliders[1].setValue(0.2)
    assert predicted.refined.thresholds == (0.9, 0.2)
    finish(predicted)
    layer = viewer_model.layers["mr prediction"]
    np.testing.assert_array_equal(layer.data, composed(maps, 0.9, 0.2))
    panel.reset.click()
    finish(predicted)
    np.testing.assert_array_equal(layer.data, composed(maps, *FITTED))
    assert [slider.value() for slider in panel.sliders] == list(FITTED)
    viewer_model.layers.remove(layer)
    predicted.changed.emit()
    assert panel.isHidden()


@pytest.mark.slow
def test_a_run_of_the_core_is_predicted_and_moved_by_the_real_engine(
    make_napari_viewer_proxy, qtbot, tmp_path
):
    from napari_ctxseg.config import parse_config
    from napari_ctxseg.gui.train_dock import TrainDock
    from napari_ctxseg.training import fit
    from tests.core.conftest import blob_case

    small = {"kind": "unet", "features": (4, 8)}
    config = parse_config(
        {
            "network": small,
            "method": {"kind": "cr_gan", "refine": {"folds": 2, "network": small}},
            "patch": {"size": (16, 16), "batch": 2},
            "budget": {"steps": 16},
            "data": {"classes": {"blob": 4}},
            "device": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
        }
    )
    cases = [blob_case(f"p{number}", (32, 36), seed=number, value=4) for number in range(4)]
    for _ in fit(config, cases, tmp_path / "run"):
        pass

    viewer = make_napari_viewer_proxy(show=True)
    viewer.add_image(cases[0].image.array, name="blob", scale=(2, 2))
    dock = TrainDock(viewer, runs=tmp_path / "runs")
    viewer.window.add_dock_widget(dock, name="Train and predict")
    session = dock.session
    try:
        qtbot.waitUntil(lambda: "weights" in dock.model_panel.needs.text(), timeout=120_000)
        assert dock.refined_panel.isHidden()
        session.use_run(tmp_path / "run")
        qtbot.waitUntil(dock.predict_button.isEnabled)
        dock.predict_button.click()
        qtbot.waitUntil(lambda: session.phase == "idle" and session.refined is not None, timeout=60_000)
        qtbot.waitUntil(lambda: not dock.refined_panel.isHidden())
        layers = {layer.name for layer in viewer.layers}
        assert layers == {"blob", "blob prediction", "blob FN", "blob FP"}
        assert tuple(viewer.layers["blob FN"].scale) == (2, 2)
        layer, refined = viewer.layers["blob prediction"], session.refined
        first = layer.data.copy()
        assert set(np.unique(first)) <= {0, 4}
        p, fn, fp = (each[:, 0].astype(np.float32) for each in refined._maps)
        np.testing.assert_array_equal(first, 4 * compose_classes(p, fn, fp, *refined.fitted))
        lowest = np.round(float(np.median(fn[1])) - 0.005, 2), 1.0
        dock.refined_panel.sliders[0].setValue(lowest[0])
        dock.refined_panel.sliders[1].setValue(lowest[1])
        qtbot.waitUntil(lambda: not refined.busy)
        np.testing.assert_array_equal(layer.data, 4 * compose_classes(p, fn, fp, *lowest))
        dock.refined_panel.reset.click()
        qtbot.waitUntil(lambda: not refined.busy)
        np.testing.assert_array_equal(layer.data, first)
        refined = dock.model_panel.method
        assert "folder of patients" in refined._kinds.model().item(4).toolTip()
    finally:
        dock.shut_down()

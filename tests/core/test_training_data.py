"""Annotation policies, normalisation, patches and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ctxseg.cases import Case, class_indices, class_table, class_values, group_of, split_groups
from napari_ctxseg.config import AugmentConfig, DataConfig
from napari_ctxseg.errors import InputError
from napari_ctxseg.image import IGNORE, image_from_array
from napari_ctxseg.training import augment
from napari_ctxseg.training.data import check_trainable, normalise, prepare
from napari_ctxseg.training.patches import PatchSampler
from tests.core.conftest import blob_case

# ---------------------------------------------------------------- classes and policies


def case_of(labels: np.ndarray, **more: object) -> Case:
    return Case(
        "a", image_from_array(np.zeros(labels.shape, np.float32), "zyx"[-labels.ndim :]), labels, **more
    )  # type: ignore[arg-type]


def test_values_become_indices_and_back() -> None:
    labels = np.array([[0, 7, 300], [2, 7, 0]], np.uint16)
    data = DataConfig(classes={"a": 300, "b": 7})
    indices = class_indices(case_of(labels), data.classes, data)
    np.testing.assert_array_equal(indices, [[0, 2, 1], [0, 2, 0]])  # 2 is not named: background
    values = class_values(indices, data.classes)
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, [[0, 7, 300], [0, 7, 0]])
    assert class_values(indices, {"a": 3, "b": 4}).dtype == np.uint8


def test_masks_policy_knows_background_in_labelled_slices_only() -> None:
    labels = np.zeros((4, 3, 5), np.uint8)
    labels[1, 1, 1] = 1
    data = DataConfig(annotation="masks", classes={"x": 1})
    by_content = class_indices(case_of(labels), data.classes, data)
    assert (by_content[[0, 2, 3]] == IGNORE).all()
    assert sorted(np.unique(by_content[1])) == [0, 1]
    marked = class_indices(case_of(labels, labelled={0: [3], 2: [1]}), data.classes, data)
    assert (marked[3] == 0).all()
    assert marked[1, 1, 1] == 1
    assert marked[0, 0, 1] == 0
    assert (marked[0, :, [0, 2, 3, 4]] == IGNORE).all()


def test_scribbles_policy_never_takes_zero_for_background() -> None:
    labels = np.array([[0, 1, 9], [0, 0, 0]], np.uint8)
    data = DataConfig(annotation="scribbles", background=9, classes={"x": 1})
    np.testing.assert_array_equal(
        class_indices(case_of(labels), data.classes, data), [[-1, 1, 0], [-1, -1, -1]]
    )
    with pytest.raises(InputError, match=r"\[9\]"):
        class_indices(case_of(labels), data.classes, data.model_copy(update={"background": None}))


def test_foreground_takes_every_instance() -> None:
    labels = np.arange(200, dtype=np.uint16).reshape(10, 20)
    data = DataConfig(foreground=True)
    assert class_table([case_of(labels)], data) == {"foreground": 1}
    assert class_indices(case_of(labels), {"foreground": 1}, data).sum() == 199
    with pytest.raises(InputError, match="instance ids"):
        class_table([case_of(labels)], DataConfig())


def test_shapes_that_disagree_are_both_named() -> None:
    case = Case("scan", image_from_array(np.zeros((4, 5)), "yx"), np.zeros((5, 4), np.uint8))
    with pytest.raises(InputError, match=r"scan.*\(5, 4\).*\(4, 5\)"):
        class_indices(case, {"x": 1}, DataConfig())


def test_groups_are_split_whole_and_by_hash() -> None:
    groups = [f"p{i // 4}" for i in range(40)]
    apart = split_groups(groups, 0.2)
    assert len(apart) == 2
    assert apart == split_groups(groups[::-1], 0.2)
    assert split_groups(["a", "b"], 0.5) == set()
    assert len(split_groups(["a", "b", "c"], 0.9)) == 1
    assert group_of("SC-HF-I-4_0099", r"SC-HF-I-\d+") == "SC-HF-I-4"
    assert group_of("x_pat7_y", r"pat(\d)") == "7"
    with pytest.raises(InputError, match="does not match"):
        group_of("abc", r"\d")


# ---------------------------------------------------------------- normalisation


def test_normalised_channels_have_mean_zero_and_deviation_one() -> None:
    values = np.random.default_rng(0).normal(5000, 300, (2, 30, 40)).astype(">f4")
    values[1] = values[1] * 1e-4 - 7
    result = normalise(values, "a")
    assert result.dtype == torch.float32
    assert torch.allclose(result.mean(dim=(1, 2)), torch.zeros(2), atol=0.05)
    assert torch.allclose(result.std(dim=(1, 2)), torch.ones(2), atol=0.05)


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int16, np.uint16, np.uint32, np.int64, np.float64, ">i2"]
)
def test_every_type_and_stride_is_taken(dtype: object) -> None:
    values = (np.arange(48).reshape(1, 6, 8) % 7).astype(dtype)[:, ::-1, ::2]  # type: ignore[call-overload]
    assert torch.isfinite(normalise(values, "a")).all()


def test_constant_and_nonfinite_images() -> None:
    assert not normalise(np.full((1, 9, 9), 3.7), "a").any()
    spoilt = np.random.default_rng(0).normal(size=(1, 60, 60))
    spoilt[0, 0, 0], spoilt[0, 1, 1] = np.nan, np.inf
    assert torch.isfinite(normalise(spoilt, "a")).all()
    spoilt[0, :10] = np.nan
    with pytest.raises(InputError, match="17% of its voxels"):
        normalise(spoilt, "a")


def test_untrainable_sets_are_refused() -> None:
    data = DataConfig(classes={"x": 1})
    empty = prepare(case_of(np.zeros((5, 5), np.uint8)), data.classes, data)
    full = prepare(case_of(np.ones((5, 5), np.uint8)), data.classes, data)
    with pytest.raises(InputError, match="no painted class"):
        check_trainable([empty], data.classes)
    with pytest.raises(InputError, match="only the class 'x'"):
        check_trainable([full], data.classes)
    assert check_trainable([empty, full], {"x": 1, "y": 2})[0] == "Class 'y' is nowhere in the labels"


# ---------------------------------------------------------------- augmentation and patches


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]))
def test_image_and_labels_move_together(seed: int, dims: int) -> None:
    """The labels are read off the image, so after any spatial change they must still be where it says."""
    rng = np.random.default_rng(seed)
    size = (24, 20, 16)[-dims:]
    draws = augment.draw(rng, dims, 1, (1.0,) * dims, mirror=True)
    plain = augment.Draw(draws.flips, draws.matrix, (1.0,), (0.0,), (1.0,), 0.0, 0)
    region = augment.reach(plain, size)
    grid = np.indices(region)
    ball = sum((g - n / 2 + 0.5) ** 2 for g, n in zip(grid, region, strict=True)) < (min(region) / 3) ** 2
    image = torch.from_numpy(ball.astype(np.float32))[None]
    moved, labels = augment.apply(plain, image, torch.from_numpy(ball.astype(np.int16)), size)
    assert moved.shape[1:] == labels.shape == size
    sure = (moved[0] - 0.5).abs() > 0.49
    assert torch.equal((moved[0] > 0.5)[sure], labels[sure] == 1)
    assert set(labels.unique().tolist()) <= {0, 1}


def test_no_parameters_change_nothing() -> None:
    image, labels = torch.randn(2, 9, 11), torch.randint(-1, 3, (9, 11)).short()
    same, kept = augment.apply(augment.no_change(2, 2), image, labels, (9, 11))
    assert torch.equal(same, image)
    assert torch.equal(kept, labels.long())


def test_an_identity_matrix_changes_nothing() -> None:
    draws = augment.Draw((False, False), np.eye(2), (1.0,), (0.0,), (1.0,), 0.0, 0)
    image, labels = torch.randn(1, 12, 14), torch.randint(-1, 3, (12, 14)).short()
    same, kept = augment.apply(draws, image, labels, (12, 14))
    torch.testing.assert_close(same, image, atol=1e-5, rtol=0)
    assert torch.equal(kept, labels.long())


def test_beyond_the_image_is_unlabelled() -> None:
    draws = augment.Draw(
        (False, False), np.eye(2) * 2, (1.0,), (0.0,), (1.0,), 0.0, 0
    )  # zoomed out beyond the region
    _, labels = augment.apply(draws, torch.zeros(1, 8, 8), torch.ones(8, 8).short(), (8, 8))
    assert set(labels.unique().tolist()) == {IGNORE, 1}


def sampler(cases: list[Case], **options: object) -> PatchSampler:
    data = DataConfig(classes={"x": 1})
    samples = [prepare(case, data.classes, data) for case in cases]
    values = {
        "size": (16, 16),
        "batch": 8,
        "foreground": 0.5,
        "augmentation": AugmentConfig(),
        "seed": 3,
        **options,
    }
    return PatchSampler(samples, **values)  # type: ignore[arg-type]


def test_batches_depend_on_seed_and_step_only() -> None:
    cases = [blob_case(f"c{i}", seed=i) for i in range(3)]
    first, second = sampler(cases), sampler(cases)
    second.batch(99)
    for step in (0, 7):
        a, b = first.batch(step), second.batch(step)
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.target, b.target)
    assert not torch.equal(first.batch(0).image, first.batch(1).image)
    assert not torch.equal(first.batch(0).image, sampler(cases, seed=4).batch(0).image)


def test_foreground_share_is_kept() -> None:
    """A tiny object: by chance alone few patches would hold it."""
    labels = np.zeros((400, 400), np.uint8)
    labels[200:203, 200:203] = 1
    case = case_of(labels)
    held = [
        (sampler([case], foreground=f).batch(0).target == 1).flatten(1).any(dim=1).sum().item()
        for f in (0.0, 0.5, 1.0)
    ]
    assert held[0] <= 1
    assert held[1] == 4
    assert held[2] == 8


@pytest.mark.parametrize("shape", [(5, 7), (16, 16), (17, 90), (1, 1)])
def test_images_smaller_than_the_patch_are_padded_with_unlabelled(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.uint8)
    labels[0, 0] = 1
    batch = sampler([case_of(labels)], augmentation=AugmentConfig(preset="none")).batch(0)
    assert batch.image.shape == (8, 1, 16, 16)
    inside = min(shape[0], 16) * min(shape[1], 16)
    assert all((target != IGNORE).sum() == inside for target in batch.target)


def test_sparse_labels_still_fill_every_patch() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[50, 60], labels[150, 20] = 1, 9
    data = DataConfig(annotation="scribbles", background=9, classes={"x": 1})
    sample = prepare(case_of(labels), data.classes, data)
    drawn = PatchSampler(
        [sample], size=(16, 16), batch=8, foreground=0.5, augmentation=AugmentConfig(), seed=0
    )
    for step in range(5):
        assert (drawn.batch(step).target != IGNORE).flatten(1).any(dim=1).all()


def test_slices_of_volumes_feed_a_2d_network() -> None:
    case = blob_case("v", (9, 30, 28))
    batch = sampler([case]).batch(0)
    assert batch.image.shape == (8, 1, 16, 16)
    assert batch.spacing == ((1.0, 1.0),) * 8

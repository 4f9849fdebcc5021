"""Real data brought into projects: what is trained on is what the files hold."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from napari_ctxseg import dataset
from napari_ctxseg.cases import class_indices
from napari_ctxseg.config import DataConfig
from napari_ctxseg.project import Project, from_dataset_json, from_files

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.data
LABELS = {"Anterior": 1, "Posterior": 2}


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")


def same_training(project: Project, images: list[Path], labels: list[Path], classes: dict[str, int]) -> None:
    """Class indices of the project's cases against those of the files, which `ctxseg train` would read."""
    data = DataConfig(images=tuple(map(str, images)), labels=tuple(map(str, labels)), classes=classes)
    wanted = {case.name: case for case in dataset.training_cases(data)}
    found = {case.name: case for case in project.cases(("train", "validation", "test"))}
    assert set(found) == set(wanted)
    for name, case in found.items():
        np.testing.assert_array_equal(case.image.array, wanted[name].image.array)
        np.testing.assert_allclose(case.image.affine, wanted[name].image.affine)
        own = class_indices(case, classes, project.spec.data_config())
        np.testing.assert_array_equal(own, class_indices(wanted[name], classes, data))


@pytest.mark.parametrize("kind", ["decathlon", "nnunet"])
def test_hippocampus(data_dir: Path, tmp_path: Path, kind: str) -> None:
    images = sorted((data_dir / "msd_hippocampus" / "images").iterdir())[:4]
    labels = [data_dir / "msd_hippocampus" / "labels" / path.name for path in images]
    root = tmp_path / "Task04"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for image, label in zip(images, labels, strict=True):
        stem = image.name.removesuffix(".nii.gz")
        shutil.copy(image, root / "imagesTr" / (image.name if kind == "decathlon" else f"{stem}_0000.nii.gz"))
        shutil.copy(label, root / "labelsTr" / label.name)
    values: dict[str, object] = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": [{"image": f"./imagesTr/{p.name}", "label": f"./labelsTr/{p.name}"} for p in images],
        "test": [],
    }
    if kind == "nnunet":
        named = {"background": 0, **LABELS}
        values = {"channel_names": {"0": "MRI"}, "labels": named, "file_ending": ".nii.gz", "numTraining": 4}
    (root / "dataset.json").write_text(json.dumps(values))
    found = from_dataset_json(root)
    assert found.classes == LABELS
    with Project.create(tmp_path / "p.ctxseg", classes=found.classes) as project:
        project.add_images(found.images)
        same_training(project, images, labels, LABELS)
        for path in labels:  # by nibabel alone: as many voxels of each value as in the file
            voxels = np.asarray(nib.load(path).dataobj)
            store = project.labels(path.name.removesuffix(".nii.gz"))
            assert store.contents().pixels == {v: int((voxels == v).sum()) for v in (1, 2)}


def test_sunnybrook_by_patient(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "sunnybrook_lv"
    images = sorted(folder.glob("images/SC-HF-I-*_0*.tif"))[::6]
    labels = [next(folder.glob(f"labels/{path.stem}.*")) for path in images]
    found = from_files(
        [*map(str, images)], [*map(str, labels)], group=r"SC-HF-I-\d+", classes={"LV": 1, "myo": 2}
    )
    with Project.create(tmp_path / "p.ctxseg", classes=found.classes) as project:
        project.add_images(found.images, copy=False)
        same_training(project, images, labels, {"LV": 1, "myo": 2})
        apart = project.groups("validation")
        assert len(apart) == 1
        assert len(project.groups("train")) == len({image.group for image in project.spec.images}) - 1

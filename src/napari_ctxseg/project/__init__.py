"""The project folder: images, autosaved labels, rounds, runs and predictions. No torch, no Qt, no napari.

`Project` is the way in; `LabelStore` holds the labels of one image; `Round` says what a round of annotating brought.
"""

from napari_ctxseg.project.adding import NewImage
from napari_ctxseg.project.chunks import DamagedChunkError
from napari_ctxseg.project.folder import Project
from napari_ctxseg.project.generations import Changes, Generation, Saved
from napari_ctxseg.project.importing import Import, from_dataset_json, from_files
from napari_ctxseg.project.locks import Lock, LockedError
from napari_ctxseg.project.manifest import is_project, restore
from napari_ctxseg.project.marks import SliceMarks
from napari_ctxseg.project.mend import repair
from napari_ctxseg.project.merge import merge
from napari_ctxseg.project.patients import Regrouped, by_pattern, regrouped, set_patients
from napari_ctxseg.project.places import unnamed_projects
from napari_ctxseg.project.predictions import Prediction, find_predictions, write_prediction
from napari_ctxseg.project.progress import begin_round, finish_round
from napari_ctxseg.project.regions import parse_regions, regions_text
from napari_ctxseg.project.rounds import GAIN, Round, Scores, helped, load_rounds, new_id, save_round
from napari_ctxseg.project.runs import RunEntry, all_runs, find_run, last_model, lock_run, next_run
from napari_ctxseg.project.schema import ClassSpec, ImageEntry, ProjectSpec, SplitSpec
from napari_ctxseg.project.store import LabelStore

__all__ = [
    "Import",
    "from_dataset_json",
    "from_files",
    "merge",
    "repair",
    "begin_round",
    "finish_round",
    "GAIN",
    "Changes",
    "ClassSpec",
    "DamagedChunkError",
    "Generation",
    "ImageEntry",
    "LabelStore",
    "Lock",
    "LockedError",
    "NewImage",
    "Prediction",
    "Project",
    "ProjectSpec",
    "Regrouped",
    "Round",
    "RunEntry",
    "Saved",
    "Scores",
    "SliceMarks",
    "SplitSpec",
    "all_runs",
    "by_pattern",
    "find_predictions",
    "find_run",
    "helped",
    "is_project",
    "last_model",
    "load_rounds",
    "lock_run",
    "new_id",
    "parse_regions",
    "regions_text",
    "next_run",
    "regrouped",
    "restore",
    "save_round",
    "set_patients",
    "unnamed_projects",
    "write_prediction",
]

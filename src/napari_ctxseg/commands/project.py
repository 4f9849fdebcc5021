"""``ctxseg project``: make, fill, look at, mend, merge and split a project folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.project import (
    NewImage,
    Project,
    SplitSpec,
    all_runs,
    by_pattern,
    find_predictions,
    from_dataset_json,
    from_files,
    helped,
    is_project,
    load_rounds,
    parse_regions,
    regrouped,
    repair,
    restore,
    set_patients,
)
from napari_ctxseg.project import merge as merge_projects
from napari_ctxseg.project.patients import sentences
from napari_ctxseg.project.schema import ROLES
from napari_ctxseg.project.split import counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.project import Import, Round
    from napari_ctxseg.project.schema import Policy


def found_images(
    images: Sequence[str], labels: Sequence[str], dataset: Path | None, settings: Mapping[str, Any]
) -> Import | None:
    """What the options name; `settings` are ``group``, ``classes``, ``foreground``.

    Raises
    ------
    InputError
        If they name two things at once, or labels without images.
    """
    if dataset is not None:
        if images or labels:
            raise InputError(
                "--dataset", "and --images are two data sets", "Give one of them, and `add` the other"
            )
        return from_dataset_json(dataset, group=settings["group"])
    if labels and not images:
        raise InputError("--labels", "belong to images", "Give --images too")
    return from_files(images, labels, **settings) if images else None


def create(
    path: Path,
    found: Import | None,
    *,
    classes: Mapping[str, int] | None,
    policy: Policy | None,
    background: int | None,
    split: SplitSpec,
    copy: bool | None,
    root: tuple[str, Path] | None,
    show: Callable[[float], None],
) -> dict[str, Any]:
    """Make a project and fill it; a folder that could not be filled is removed again.

    Raises
    ------
    CtxsegError
        If settings, files or folder do not allow it.
    """
    import shutil

    chosen = policy or (found.policy if found else "masks")
    if found is not None and found.policy != chosen:
        raise InputError("--policy", f"of this data set is {found.policy}", "Leave the option out")
    there = path.exists()
    project = Project.create(
        path,
        classes=classes or (found.classes if found else {}),
        policy=chosen,
        background=background if background is not None else found.background if found else None,
        regions=found.regions if found else None,
        name=found.name if found else "",
        split=split,
    )
    notes = list(found.notes) if found else []
    with project:
        try:
            if found is not None:
                project.add_images(found.images, copy=copy, root=root, show=show, tell=notes.append)
        except BaseException:
            project.close()
            if not there:
                shutil.rmtree(path, ignore_errors=True)
            raise
    return {**info(path), "notes": notes}


def add(
    path: Path,
    found: Import,
    *,
    copy: bool | None,
    root: tuple[str, Path] | None,
    roots: Mapping[str, Path],
    show: Callable[[float], None],
) -> tuple[list[str], list[str]]:
    """Add images to a project; returns their names, and sentences.

    Raises
    ------
    CtxsegError
        If it cannot be done; the project is as before then.
    """
    with Project.open(path, roots) as project:
        project.check_writable()
        if (found.policy, found.background) != (project.spec.policy, project.spec.background) and any(
            image.values for image in found.images
        ):
            raise InputError(
                path,
                f"has the policy {project.spec.policy}; these labels need {found.policy}",
                "Make a project of its own",
            )
        notes: list[str] = []
        made = project.add_images(
            _fitting(found, project), copy=copy, root=root, show=show, tell=notes.append
        )
        return [entry.name for entry in made], notes


def _fitting(found: Import, project: Project) -> Sequence[NewImage]:
    """Scribbles taken from files that do not know of the background value are refused: their 0 would be unlabelled."""
    if project.spec.policy == "scribbles" and any(i.labels and not i.values for i in found.images):
        raise InputError(
            "--labels",
            f"would count as scribbles here, where 0 is unlabelled and background is {project.spec.background}",
            "Use a project of masks for complete label files",
        )
    return found.images


def info(path: Path, roots: Mapping[str, Path] | None = None, *, check: bool = False) -> dict[str, Any]:
    """What a project holds; with `check` all files and labels are read.

    Raises
    ------
    CtxsegError
        If it cannot be opened.
    """
    with Project.open(path, roots, read_only=True) as project:
        rounds, damaged = load_rounds(path)
        spec = project.spec
        runs = all_runs(path)
        return {
            "project": str(path),
            "name": spec.name,
            "policy": spec.policy,
            "background": spec.background,
            "classes": {c.name: c.value for c in spec.classes},
            "regions": {name: list(values) for name, values in spec.regions.items()},
            "images": [_image_row(project, name, check) for name in project.names],
            "split": dict(counts(spec.split, [image.group for image in spec.images])),
            "patients": {role: project.groups(role) for role in ROLES},
            "roots": {name: str(folder) for name, folder in project.roots.items()},
            "runs": [
                {"name": r.name, "finished": r.finished, "predictions": len(find_predictions(path, r.name))}
                for r in runs
            ],
            "rounds": [_round_row(r, rounds[i - 1] if i else None) for i, r in enumerate(rounds)],
            "damaged": damaged,
        }


def _image_row(project: Project, name: str, check: bool) -> dict[str, Any]:
    entry = project.spec.entry(name)
    row: dict[str, Any] = {
        "name": name,
        "patient": entry.group,
        "shape": list(entry.shape),
        "role": project.role(name),
    }
    problems = []
    if project.has_labels(name):
        try:
            store = project.labels(name)
            row["generations"] = [
                {"number": g.number, "time": g.time, "label": g.label} for g in store.generations()
            ]
            if check:
                problems += [f"chunk {i} of the labels is damaged" for i in store.damaged()]
            if not problems:
                row["labelled"] = {str(axis): len(found) for axis, found in store.counted().items()}
        except CtxsegError as error:
            problems.append(str(error))
    if check:
        try:
            project.image(name)
        except CtxsegError as error:
            problems.append(str(error))
    return {**row, "problems": problems}


def _round_row(this: Round, previous: Round | None) -> dict[str, Any]:
    return {**this.model_dump(mode="json"), "helped": helped(previous, this)}


def restored(path: Path, image: str | None, generation: int | None, slices: Sequence[int]) -> str:
    """Take an earlier state of ``project.yaml``, or of an image's labels.

    Raises
    ------
    CtxsegError
        If there is none that is whole.
    """
    if image is None:
        if generation is not None or slices:
            raise InputError("--generation", "is of an image's labels", "Name the image with --image")
        return f"{path}: took {restore(path).name}"
    with Project.open(path) as project:
        project.check_writable()
        if generation is None and not slices:
            return f"{image}: {repair(project.labels_path(image))}"
        store = project.labels(image)
        strange = [index for index in slices if index >= len(store.grid)]
        if strange:
            raise InputError(
                image, f"has no slice {strange[0]}", f"Its slices are 0 to {len(store.grid) - 1}"
            )
        if generation is not None:
            done = store.restore(generation, slices or None)
            return f"{image}: {len(done.chunks)} slices as in generation {generation}"
        for index in slices:
            good = store.good_generations(index)
            if not good:
                raise InputError(
                    image, f"has no whole earlier state of slice {index}", "Take it from a backup"
                )
            store.restore(good[0].number, [index])
        return f"{image}: {len(slices)} slices taken from their newest whole state"


def merged(path: Path, other: Path, roots: Mapping[str, Path]) -> list[str]:
    """Bring another copy of a project into this one.

    Raises
    ------
    CtxsegError
        If they do not fit.
    """
    if not is_project(other):
        raise InputError(other, "is no project", "Name the folder of the other copy")
    with Project.open(path, roots) as project, Project.open(other, read_only=True) as copy:
        return merge_projects(project, copy)


def patients(
    path: Path, pattern: str | None, assignments: Sequence[str], *, own: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Say of each image whose it is, or change it; returns images with patients and roles, and sentences.

    Raises
    ------
    CtxsegError
        If an image does not exist, the pattern fits no name, or the project cannot be written to.
    """
    asked = bool(pattern is not None or own or assignments)
    with Project.open(path, read_only=dry_run or not asked) as project:
        wanted = {name: name for name in project.names} if own else {}
        notes = []
        if pattern is not None:
            found = by_pattern(project.names, pattern)
            if not found:
                raise InputError(
                    f"--group {pattern}", "matches no image's name", f"They are {_few(project.names)}"
                )
            if left := [name for name in project.names if name not in found]:
                notes.append(f"Not matched, so as before: {_few(left)}.")
            wanted |= found
        for text in assignments:
            name, sign, patient = text.partition("=")
            if not sign or not patient.strip():
                raise InputError(f"--set {text}", "is not IMAGE=PATIENT", "")
            wanted[name] = patient
        made = regrouped(project.spec, wanted) if dry_run or not asked else set_patients(project, wanted)
        rows = zip(made.spec.images, made.roles(), strict=True)
        return {
            "images": [{"name": image.name, "patient": image.group, "role": role} for image, role in rows],
            "changed": made.changed,
            "moved": {name: list(pair) for name, pair in made.moved.items()},
            "notes": [*notes, *sentences(made, runs=bool(all_runs(path)))],
        }


def regions(path: Path, text: str | None) -> dict[str, list[int]]:
    """The overlapping regions of a project, set first if asked; an empty text takes them away.

    Raises
    ------
    CtxsegError
        If they cannot be, or the project cannot be written to.
    """
    with Project.open(path, read_only=text is None) as project:
        if text is not None:
            project.check_writable()
            project.update(regions=parse_regions(text))
        return {name: list(values) for name, values in project.spec.regions.items()}


def _few(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def split(path: Path, assignments: Sequence[str]) -> dict[str, list[str]]:
    """Give patients roles by hand, ``PATIENT=test``; returns the patients of each role.

    Raises
    ------
    InputError
        If a patient or role does not exist.
    """
    with Project.open(path, read_only=not assignments) as project:
        for text in assignments:
            group, sign, role = text.rpartition("=")
            if not sign or role not in ROLES:
                raise InputError(
                    f"--set {text}", f"is not PATIENT=ROLE, with a role of {', '.join(ROLES)}", ""
                )
            project.set_role(group, role)
        return {role: project.groups(role) for role in ROLES}


def parse_root(text: str | None) -> tuple[str, Path] | None:
    """``NAME=DIR`` as a pair.

    Raises
    ------
    InputError
        If it is not of that form.
    """
    from napari_ctxseg.project.roots import parse_roots

    return next(iter(parse_roots([text]).items())) if text else None


def lines(values: Mapping[str, Any]) -> list[str]:
    """What `info` found, for people."""
    images = values["images"]
    text = [
        f"{values['name']}: {len(images)} images, policy {values['policy']}, "
        f"classes {', '.join(f'{n}={v}' for n, v in values['classes'].items()) or 'none yet'}",
        "images: " + ", ".join(f"{count} {role}" for role, count in values["split"].items()),
    ]
    for row in images:
        labelled = sum(row.get("labelled", {}).values())
        text.append(
            f"  {row['name']}  {'x'.join(map(str, row['shape']))}  {row['role']}  "
            f"{labelled} slice{'' if labelled == 1 else 's'} labelled"
        )
        text += [f"    ! {problem}" for problem in row["problems"]]
    text += [
        f"run {run['name']}: {'finished' if run['finished'] else 'not finished'}, {run['predictions']} predictions"
        for run in values["runs"]
    ]
    text += [f"round {r['number']} ({r['run']}): {r['helped']}" for r in values["rounds"]]
    return text + [f"! {note}" for note in (*values["damaged"], *values.get("notes", []))]


def slice_numbers(texts: Sequence[str]) -> list[int]:
    """``3`` and ``5-9`` as numbers.

    Raises
    ------
    InputError
        If one is neither.
    """
    found: list[int] = []
    for text in texts:
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
        if not match:
            raise InputError(f"--slice {text}", "is no slice", "Write --slice 3 or --slice 5-9")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found

"""`project.yaml`: classes, annotation policy, images and split, as frozen values. Nothing here reads or writes files."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from napari_ctxseg import __version__
from napari_ctxseg.config import Config, DataConfig
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Layout of the project folder; a higher number comes from a newer version.
VERSION = 1
#: Larger text is not a list of images.
MOST_BYTES = 1 << 26
Role = Literal["train", "validation", "test"]
ROLES: tuple[Role, ...] = ("train", "validation", "test")
Policy = Literal["masks", "scribbles"]
_NAME = re.compile(r"^[\w][\w.+-]*$")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_LONGEST, _DEEPEST = 120, 16


def check_name(name: str) -> str:
    """A name that can be a file's on every system.

    Raises
    ------
    ValueError
        If it cannot.
    """
    bad = (
        not _NAME.match(name)
        or name.endswith(".")
        or name.split(".")[0].casefold() in _RESERVED
        or len(name.encode("utf-8", "surrogatepass")) > _LONGEST
        or name != unicodedata.normalize("NFC", name)
    )
    if bad:
        raise ValueError(
            f"{name!r} cannot be a file name: use letters, digits and . _ + - (at most {_LONGEST})"
        )
    return name


def safe_name(text: str, taken: Iterable[str] = ()) -> str:
    """The nearest name that `check_name` accepts and that is not taken, upper and lower case being equal.

    Parameters
    ----------
    text : str
        What a person or a file calls it.
    taken : iterable of str
        Names in use.
    """
    used = {name.casefold() for name in taken}
    plain = re.sub(r"[^\w.+-]+", "_", unicodedata.normalize("NFC", text)).strip(".+-") or "image"
    plain = plain.encode("utf-8", "ignore")[: _LONGEST - 10].decode("utf-8", "ignore").rstrip(".")
    if plain.split(".")[0].casefold() in _RESERVED:
        plain = f"_{plain}"
    plain = unicodedata.normalize("NFC", plain) or "image"
    name, number = plain, 2
    while name.casefold() in used:
        name, number = f"{plain}-{number}", number + 1
    return check_name(name)


def check_path(path: str) -> str:
    """A path that stays in its folder, with forward slashes.

    Raises
    ------
    ValueError
        If it is absolute, goes up, or means something else on another system.
    """
    parts = path.split("/")
    if (
        not path
        or PurePosixPath(path).is_absolute()
        or PureWindowsPath(path).drive
        or any(part in ("", ".", "..") for part in parts)
        or any(char == "\\" or ord(char) < 32 for char in path)
    ):
        raise ValueError(f"{path!r} must be a path inside its folder: not absolute, no '..', forward slashes")
    return path


FileName = Annotated[str, AfterValidator(check_name)]
InnerPath = Annotated[str, AfterValidator(check_path)]
Patient = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]


class ClassSpec(Config):
    """A class: what it is called, which value is painted for it, how it looks."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")]
    value: int = Field(ge=1, le=2**31 - 1)
    colour: str = Field("#e69f00", pattern=r"^#[0-9a-fA-F]{6}$")


class FileRef(Config):
    """A source file as it was when it was added.

    `root` None: `path` is inside the project folder. Otherwise inside the folder that this machine calls `root`.
    """

    path: InnerPath
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    root: FileName | None = None


class Place(Config):
    """Where an image lies that came without a file: see `napari_ctxseg.image.Image`."""

    spacing: tuple[float, ...]
    affine: tuple[tuple[float, ...], ...]
    unit: str = Field("pixel", max_length=40)


class ImageEntry(Config):
    """An image of the project.

    Parameters
    ----------
    name : str
        Unique; also the name of its labels and predictions.
    group : str
        Patient.
    files : tuple of FileRef
        One file, or one for each channel in order.
    beside : tuple of FileRef
        Files that come along, such as the voxels of an ``.mhd`` header.
    shape : tuple of int
        Spatial shape, ``(z, y, x)`` or ``(y, x)``.
    axes : str
        Spatial axes, see `napari_ctxseg.image.Image`.
    fourth : "channel" or None
        What the fourth axis of a file means.
    place : Place or None
        Geometry of an image that came from a layer; otherwise that of its file counts.
    """

    name: FileName
    group: Patient
    files: tuple[FileRef, ...] = Field(min_length=1)
    beside: tuple[FileRef, ...] = ()
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=2, max_length=3)
    axes: str = Field(pattern=r"^([tzyx]{2,3})$")
    fourth: Literal["channel"] | None = None
    place: Place | None = None

    @model_validator(mode="after")
    def _axes_fit(self) -> ImageEntry:
        if len(self.axes) != len(self.shape):
            raise ValueError(f"axes {self.axes!r} do not fit the shape {self.shape}")
        n = len(self.shape)
        if self.place is not None and (
            len(self.place.spacing) != n or [len(row) for row in self.place.affine] != [n + 1] * (n + 1)
        ):
            raise ValueError(f"spacing and affine do not fit {n} axes")
        return self

    @property
    def sha256(self) -> str:
        """Fingerprint of its files."""
        return hashlib.sha256("".join(ref.sha256 for ref in self.files).encode()).hexdigest()

    @property
    def roots(self) -> set[str]:
        """Names of the roots that its files lie in."""
        return {ref.root for ref in (*self.files, *self.beside) if ref.root is not None}


class SplitSpec(Config):
    """Which patients are kept apart. A patient's role never changes by itself once it is in `groups`."""

    seed: int = Field(0, ge=0, le=2**63 - 1)
    validation: float = Field(0.2, ge=0, lt=1)
    test: float = Field(0.0, ge=0, lt=1)
    groups: dict[Patient, Role] = Field(default_factory=dict)


class ProjectSpec(Config):
    """Everything in ``project.yaml``."""

    version: Literal[1] = 1
    made_by: str = __version__
    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field("", max_length=200)
    policy: Policy = "masks"
    background: int | None = Field(None, ge=1, le=2**31 - 1)
    classes: tuple[ClassSpec, ...] = ()
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    split: SplitSpec = SplitSpec()
    images: tuple[ImageEntry, ...] = ()

    @field_validator("classes")
    @classmethod
    def _no_clash(cls, classes: tuple[ClassSpec, ...]) -> tuple[ClassSpec, ...]:
        for what, found in (("name", [c.name for c in classes]), ("value", [str(c.value) for c in classes])):
            twice = sorted({each for each in found if found.count(each) > 1})
            if twice:
                raise ValueError(f"two classes have the {what} {', '.join(twice)}")
        return classes

    @field_validator("images")
    @classmethod
    def _names_differ(cls, images: tuple[ImageEntry, ...]) -> tuple[ImageEntry, ...]:
        seen: dict[str, str] = {}
        for image in images:
            key = image.name.casefold()
            if key in seen:
                raise ValueError(f"two images would have the same files: {seen[key]} and {image.name}")
            seen[key] = image.name
        return images

    @model_validator(mode="after")
    def _policy_fits(self) -> ProjectSpec:
        if self.policy == "scribbles" and self.background is None:
            raise ValueError("the policy scribbles needs `background`, the value painted for background")
        if self.policy == "masks" and self.background is not None:
            raise ValueError("`background` is for the policy scribbles: with masks, background is 0")
        taken = {c.value: c.name for c in self.classes}
        if self.background in taken:
            raise ValueError(
                f"value {self.background} is the painted background and cannot be {taken[self.background]}"
            )
        missing = sorted({v for values in self.regions.values() for v in values} - set(taken))
        if self.regions and self.classes and missing:
            raise ValueError(
                f"the regions take the value {missing[0]}, which is no class: add that class first"
            )
        self.data_config()
        return self

    def data_config(self, validation: Iterable[str] = ()) -> DataConfig:
        """The `data` section of a run's configuration; `validation` names the patients kept apart.

        With regions, classes that are in none of them are background.
        """
        within = {value for values in self.regions.values() for value in values}
        return DataConfig(
            classes={c.name: c.value for c in self.classes if not within or c.value in within},
            regions=self.regions,
            annotation=self.policy,
            background=self.background,
            validation=tuple(sorted(validation)),
            val=0.0,
        )

    def entry(self, name: str) -> ImageEntry:
        """Image of that name.

        Raises
        ------
        InputError
            If there is none.
        """
        for image in self.images:
            if image.name == name:
                return image
        raise InputError(name, "is no image of this project", "See `ctxseg project info`")

    def updated(self, **fields: Any) -> ProjectSpec:
        """A copy with fields replaced, validated again.

        Raises
        ------
        InputError
            Naming what is wrong.
        """
        return _validated({**self.model_dump(), "made_by": __version__, **fields}, self.name or "project")


def to_text(spec: ProjectSpec) -> str:
    """The file's content."""
    values = spec.model_dump(mode="json")
    values["images"] = [image.model_dump(mode="json", exclude_defaults=True) for image in spec.images]
    # The end mark tells a whole list of images from one that was cut short.
    return str(yaml.dump(values, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, explicit_end=True))


def parse(text: str, where: object) -> ProjectSpec:
    """Read the file's content.

    Parameters
    ----------
    text : str
        YAML.
    where : object
        For messages: the file.

    Raises
    ------
    InputError
        If it is cut short or no YAML, comes from a newer version, or a field is wrong; the field is named.
    """
    if len(text) > MOST_BYTES:
        raise InputError(where, f"is larger than {MOST_BYTES >> 20} MB", "This is no project file")
    try:
        values = _plain_values(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise InputError(where, f"is damaged or no YAML ({problem})", "") from error
    if not isinstance(values, dict) or "version" not in values:
        raise InputError(where, "is cut short, or not a project file: it names no version", "")
    made_by = str(values.get("made_by", "?"))[:40]
    version = values["version"]
    if isinstance(version, int) and version > VERSION:
        raise InputError(
            where,
            f"was made by a newer version of napari-ctxseg ({made_by}; this is {__version__})",
            "Update napari-ctxseg to open it; nothing was changed",
        )
    if not text.rstrip().endswith("\n..."):
        raise InputError(where, "is cut short: its last line is not '...'", "")
    return _validated(values, where)


def _plain_values(text: str) -> Any:
    """What `yaml.safe_load` gives, many times as fast where libyaml is there: a project may list thousands of images.

    Libyaml crashes on deep nesting, and aliases make much out of little: both are refused while the text is still events.
    """
    depth = 0
    for event in yaml.parse(text, _LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
            raise ValueError("nested too deeply, or with aliases")
    loader = _LOADER(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _validated(values: dict[str, Any], where: object) -> ProjectSpec:
    try:
        return ProjectSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "is a field that this version does not know"
        raise InputError(where, f"{field}: {message}" if field else message, "") from error


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

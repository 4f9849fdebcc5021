"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml

import napari_ctxseg
from napari_ctxseg import config

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(napari_ctxseg.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages([str(PACKAGE)], "napari_ctxseg.")
    if "__main__" not in info.name
)

SCREEN = {"napari", "qtpy", "magicgui", "superqt", "vispy", "PyQt6", "PySide6", "PyQt5", "PySide2"}
TORCH = {"torch", "monai", "lightning_fabric", "triton"}
#: Below the engine, and free of torch: what a dock may import.
FLOOR = (
    "config",
    "composition",
    "events",
    "image",
    "errors",
    "atomic",
    "cases",
    "dataset",
    "io",
    "phantom",
    "evaluation",
    "project",
    "compare",
    "figures",
)

COMMANDS = ("pip install uv && uv run ctxseg demo", "pip install uv && uv run pytest")
MOST_LINES = 400
#: Longer files, and why one file is better than two.
LONGER = {
    "io/nifti.py": "reading and writing share the header's rules",
}

# ---------------------------------------------------------------- configurations and their builders


def members(annotation):
    """Configuration classes of a tagged union, or of a single one."""
    if isinstance(annotation, type):
        return {annotation}
    inner = [a for a in typing.get_args(annotation) if typing.get_args(a) or isinstance(a, type)]
    return {cls for a in inner for cls in members(a) if issubclass(cls, config.Config)}


def tables():
    from napari_ctxseg import figures, losses, networks, training

    yield "losses", members(config.LossConfig), losses.LOSSES
    yield "networks", members(config.NetworkConfig), networks.NETWORKS
    yield "figures", members(config.FigureConfig), figures.FIGURES
    yield "discriminators", members(config.DiscriminatorConfig), networks.DISCRIMINATORS
    if hasattr(training, "METHODS"):
        yield "methods", members(config.MethodConfig), training.METHODS


def with_kind(cls=config.Config):
    for child in cls.__subclasses__():
        yield from with_kind(child)
        if "kind" in child.model_fields and child.__module__.startswith(config.__name__):  # tests make others
            yield child


def test_every_configuration_has_one_builder():
    for name, classes, table in tables():
        assert set(table) == classes, name
        kinds = [cls.model_fields["kind"].default for cls in classes]
        assert len(set(kinds)) == len(kinds), name


def test_every_kind_can_be_chosen():
    # A configuration that no union holds can be written but never reached from YAML or the form.
    unions = (
        config.LossConfig,
        config.NetworkConfig,
        config.DiscriminatorConfig,
        config.MethodConfig,
        config.RoiConfig,
        config.OptimConfig,
        config.FigureConfig,
    )
    reachable = set().union(*(members(union) for union in unions))
    assert set(with_kind()) == reachable
    for cls in reachable:
        (literal,) = typing.get_args(cls.model_fields["kind"].annotation)
        assert cls.model_fields["kind"].default == literal


# ---------------------------------------------------------------- imports


def loaded_after(modules):
    """Top-level packages in a fresh interpreter after importing some modules."""
    code = f"""
import importlib, json, sys
for name in {list(modules)!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def below(*packages):
    return [
        m
        for m in MODULES
        if any(m == f"napari_ctxseg.{p}" or m.startswith(f"napari_ctxseg.{p}.") for p in packages)
    ]


def test_the_core_loads_no_screen():
    core = [m for m in MODULES if m not in below("gui")]
    assert "napari_ctxseg.training.loop" in core
    assert not loaded_after(core) & SCREEN


def test_the_floor_loads_neither_torch_nor_screen():
    assert not loaded_after(["napari_ctxseg", *below(*FLOOR)]) & (TORCH | SCREEN)


@pytest.mark.qt
def test_the_screen_loads_no_torch():
    assert not loaded_after(below("gui", "engine.client", "engine.protocol")) & TORCH


def manifest_targets():
    manifest = yaml.safe_load((PACKAGE / "napari.yaml").read_text(encoding="utf-8"))
    return sorted(c["python_name"] for c in manifest["contributions"]["commands"])


@pytest.mark.qt
@pytest.mark.parametrize("target", manifest_targets())
def test_manifest_target(target):
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_manifest_is_package_data_and_linked_from_the_top():
    link = ROOT / "napari.yaml"
    assert link.read_bytes() == (PACKAGE / "napari.yaml").read_bytes()


# ---------------------------------------------------------------- doors for code in data

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"}
FORBIDDEN_METHODS = {"extractall", "unsafe_load"}
FORBIDDEN_KEYWORDS = {("allow_pickle", True), ("weights_only", False), ("shell", True)}


def doors(tree):
    """Places where data could become code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (
                f"{node.lineno}: import {n}" for n in names if n.partition(".")[0] in FORBIDDEN_MODULES
            )
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in FORBIDDEN_NAMES | FORBIDDEN_CALLS or called.rpartition(".")[2] in FORBIDDEN_METHODS:
            yield f"{node.lineno}: {called}()"
        if called == "torch.load" and not any(
            w.arg == "weights_only" and isinstance(w.value, ast.Constant) and w.value.value is True
            for w in node.keywords
        ):
            yield f"{node.lineno}: torch.load() without weights_only=True"
        for word in node.keywords:
            if isinstance(word.value, ast.Constant) and (word.arg, word.value.value) in FORBIDDEN_KEYWORDS:
                yield f"{node.lineno}: {word.arg}={word.value.value}"


def test_no_doors_for_code():
    found = [f"{path.relative_to(ROOT)}:{door}" for path in SOURCES for door in doors(parsed(path))]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "archive.extractall(folder)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_doors_are_seen(code):
    assert list(doors(ast.parse(code)))


def test_what_only_looks_like_a_door():
    innocent = "network.eval(); app.exec(); yaml.safe_load(t); np.load(p, allow_pickle=False); re.compile(p)"
    assert not list(doors(ast.parse(innocent)))
    assert not list(doors(ast.parse("torch.load(path, weights_only=True)")))


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


# ---------------------------------------------------------------- files


def test_files_stay_short():
    lengths = {p.relative_to(PACKAGE).as_posix(): len(p.read_text("utf-8").splitlines()) for p in SOURCES}
    long = {name: n for name, n in lengths.items() if n > MOST_LINES}
    assert {name: n for name, n in long.items() if name not in LONGER} == {}
    assert set(LONGER) <= set(long), "a file has become short: take it off the list"


def test_readme_holds_the_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for command in COMMANDS:
        assert command in lines


def test_ci_runs_the_readme_test_command():
    script = ROOT / ".ci" / "run"
    assert COMMANDS[1] in script.read_text(encoding="utf-8").splitlines()
    assert script.stat().st_mode & 0o100


def test_every_network_has_a_section_with_its_settings():
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    for cls in members(config.NetworkConfig):
        kind = cls.model_fields["kind"].default
        assert f"## `{kind}`" in text
        assert f"{{{{ settings: {cls.__name__} }}}}" in text


def test_every_loss_has_a_page_with_a_picture():
    pages = ROOT / "docs" / "losses"
    kinds = {cls.model_fields["kind"].default for cls in members(config.LossConfig)}
    assert {p.stem for p in pages.glob("*.md")} == kinds | {"index"}
    for kind in kinds:
        text = (pages / f"{kind}.md").read_text(encoding="utf-8")
        assert f"../images/losses/{kind}.png" in text
        assert (ROOT / "docs" / "images" / "losses" / f"{kind}.png").is_file()
        for heading in ("## Settings", "## When to use it", "## When not", "## Source"):
            assert heading in text

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_ctxseg.cases import Case
from napari_ctxseg.engine.protocol import (
    Lines,
    ProtocolError,
    Scratch,
    case_message,
    decode,
    encode,
    event_message,
    read_case,
    read_event,
)
from napari_ctxseg.events import EVENTS, EpochEnd, Preview, RunStarted, StepEnd
from napari_ctxseg.image import Image

EXAMPLES = {
    "str": "lésion\n\u2028",
    "int": 7,
    "float": 0.1,
    "bool": True,
    "float | None": None,
    "int | None": 12,
    "tuple[int, ...]": (128, 96),
    "tuple[float, float] | None": (0.3, 0.8),
    "dict[str, float]": {"loss": 0.4, "real": 0.75},
    "tuple[str, ...]": ("LV", "myo"),
    "dict[str, float | None]": {"LV": 0.5, "myo": None},
    "NDArray[Any]": np.arange(6, dtype=np.uint16).reshape(2, 3),
    "NDArray[Any] | None": np.arange(6, dtype=np.float32).reshape(3, 2),
    "tuple[tuple[tuple[int, int], ...], ...]": (((1, 3), (0, 7)), ((2, 4), (5, 6))),
}


def there_and_back(event, folder):
    line = encode(event_message(event, 3, Scratch(folder, "e")))
    assert line.count(b"\n") == 1
    return read_event(decode(line[:-1]), Scratch(folder, "v").take)


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_comes_back_equal(name, tmp_path):
    cls = EVENTS[name]
    event = cls(**{f.name: EXAMPLES[f.type] for f in dataclasses.fields(cls)})
    back = there_and_back(event, tmp_path)
    for field in dataclasses.fields(cls):
        one, other = getattr(event, field.name), getattr(back, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other
            assert type(one) is type(other)
    assert not list(tmp_path.iterdir()), "whoever reads an array deletes it"


def test_numpy_numbers_become_plain_ones(tmp_path):
    event = EpochEnd(np.int64(3), {"a": np.float32(0.5)}, np.float64(0.5), True, "training Dice")
    assert there_and_back(event, tmp_path).dice == {"a": 0.5}


def test_array_with_objects_is_refused(tmp_path):
    with pytest.raises(ProtocolError):
        Scratch(tmp_path, "e").put(np.array([{}], dtype=object))


@pytest.mark.parametrize(
    "name", ["../secret.npy", "/etc/passwd", "g000000-00000000-e.npy/../x", "x.npy", 3, None, ["a"]]
)
def test_only_our_own_array_names_are_opened(name, tmp_path):
    with pytest.raises(ProtocolError, match="no array of ours"):
        Scratch(tmp_path / "s", "v").take(name)


def test_pickled_array_is_refused(tmp_path):
    np.save(tmp_path / "g000000-00000000-e.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ProtocolError, match="cannot be read"):
        Scratch(tmp_path, "v").take("g000000-00000000-e.npy")


@pytest.mark.parametrize("line", [b"", b"[1]", b"{", b'{"a":1}', b'{"type":3}', b"\xff\xfe", b"[" * 100_000])
def test_malformed_lines_are_named(line):
    with pytest.raises(ProtocolError):
        decode(line)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "event", "event": "Nothing", "fields": {}},
        {"type": "event", "event": "StepEnd", "fields": {}},
        {"type": "event", "event": "StepEnd", "fields": {"strange": 1}},
        {"type": "event", "event": "StepEnd", "fields": [1]},
        {"type": "event", "event": "Event", "fields": {}},
        {"type": "event", "event": "Preview", "fields": {"labels": {"$array": "../x"}}},
    ],
)
def test_unknown_events_are_named(message, tmp_path):
    with pytest.raises(ProtocolError):
        read_event(message, Scratch(tmp_path, "v").take)


def test_lines_are_put_together():
    lines = Lines()
    assert lines.feed(b'{"a"') == []
    assert lines.feed(b':1}\n{"b":2}\n{"c') == [b'{"a":1}', b'{"b":2}']
    assert lines.feed(b'"}\n') == [b'{"c"}']


def test_endless_line_is_refused():
    with pytest.raises(ProtocolError):
        Lines().feed(b"x" * (16 * 2**20 + 1))


def test_generations(tmp_path):
    scratch = Scratch(tmp_path, "v")
    scratch.generation = 1
    old = scratch.put(np.zeros(3))
    scratch.generation = 2
    new = scratch.put(np.ones(3))
    scratch.sweep(2)
    assert [p.name for p in tmp_path.iterdir()] == [new] != [old]


def test_case_comes_back_equal(tmp_path):
    image = Image(
        np.arange(48.0).reshape(2, 2, 3, 4),
        "czyx",
        (5.0, 1.5, 1.0),
        np.diag([5, 1.5, -1, 1.0]),
        ("T1", "T2"),
        "mm",
        None,
        ("n",),
    )
    labels = np.zeros((2, 3, 4), np.int32)
    case = Case("a b/c", image, labels, "P1", {0: (1,), 2: [0, 3]})
    line = encode(case_message(case, Scratch(tmp_path, "v")))
    back = read_case(decode(b'{"type":"x","case":' + line + b"}")["case"], Scratch(tmp_path, "e"))
    np.testing.assert_array_equal(back.image.array, image.array)
    np.testing.assert_array_equal(back.image.affine, image.affine)
    assert (back.image.axes, back.image.spacing, back.image.channels, back.image.unit, back.image.notes) == (
        image.axes, image.spacing, image.channels, image.unit, image.notes,
    )  # fmt: skip
    np.testing.assert_array_equal(back.labels, labels)
    assert (back.name, back.group, back.labelled) == ("a b/c", "P1", {0: (1,), 2: (0, 3)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", [None, {}, {"image": {}}, {"image": {"array": "x"}}])
def test_broken_case_is_named(broken, tmp_path):
    with pytest.raises(ProtocolError):
        read_case(broken, Scratch(tmp_path, "e"))


def test_nan_loss_travels(tmp_path):
    assert np.isnan(there_and_back(StepEnd(1, 2, float("nan"), 0.1, 0.1), tmp_path).loss)


def test_big_preview_travels_as_file(tmp_path):
    line = encode(
        event_message(Preview(1, "a", 0, np.zeros((2048, 2048), np.uint8)), 1, Scratch(tmp_path, "e"))
    )
    assert len(line) < 200


def test_tuple_of_classes_stays_a_tuple(tmp_path):
    event = RunStarted("r", 0, 0, "CPU", "32", 1, "training Dice", ("a",))
    assert there_and_back(event, tmp_path) == event

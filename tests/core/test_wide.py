"""Tables of the command line: nothing that is told is cut off, however narrow the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from napari_ctxseg.commands.wide import lines_console, print_table

MEASURES = [f"measure_{n}" for n in range(20)]


def printed(width: int, *, terminal: bool = True, **told: object) -> str:
    file = io.StringIO()
    console = Console(width=width, force_terminal=terminal, color_system=None, file=file)
    print_table(console=console, **told)  # type: ignore[arg-type]
    return file.getvalue()


def rows(count: int) -> list[list[str]]:
    return [[f"class {r}", *(f"{r}.{n:03}" for n in range(20))] for r in range(count)]


def test_one_that_fits_is_left_alone() -> None:
    text = printed(60, header=["class", "dice"], rows=[["LV", "0.9"]], title="2 cases")
    assert text.splitlines()[0].strip() == "2 cases"
    assert "\u2502 LV    \u2502  0.9 \u2502" in text


def test_many_measures_of_few_classes_are_turned() -> None:
    lines = printed(60, header=["class", *MEASURES], rows=rows(2)).splitlines()
    for n, name in enumerate(MEASURES):
        (line,) = (line for line in lines if f" {name} " in line)
        assert f"0.{n:03}" in line
        assert f"1.{n:03}" in line


@pytest.mark.parametrize("keys", [1, 2])
def test_many_of_both_are_printed_in_pieces(keys: int) -> None:
    header = ["case", "class", *MEASURES][2 - keys :]
    cases = [[f"case {r}", *row][2 - keys :] for r, row in enumerate(rows(30))]
    text = printed(70, header=header, rows=cases, keys=keys)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 70
    assert "\u2026" not in text
    for r in range(30):
        own = [line for line in lines if f" class {r} " in line]
        assert len(own) > 1
        assert all((f"case {r} " in line) == (keys == 2) for line in own)
        assert all(any(f" {r}.{n:03} " in line for line in own) for n in range(20))


def test_names_stay_whole_and_text_is_broken() -> None:
    name, words = (
        "context-t1-promise12-seg-glgan-dynamic",
        "cited, cannot be run [here], for want of its settings",
    )
    text = printed(70, header=["recipe", "set", "row"], rows=[[name, "promise12", words]], numbers=False)
    assert name in text
    assert "\u2026" not in text
    told = " ".join(line.split("\u2502")[3].strip() for line in text.splitlines() if "\u2502" in line)
    assert words in told


def test_a_pipe_gets_all_of_a_line() -> None:
    text = printed(40, terminal=False, header=["class", *MEASURES], rows=rows(1))
    (line,) = (line for line in text.splitlines() if "class 0" in line)
    assert all(f"0.{n:03}" in line for n in range(20))


def test_a_sentence_in_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(f"word{n}" for n in range(60))
    lines_console().print(text, markup=False, highlight=False)
    assert capsys.readouterr().out == text + "\n"

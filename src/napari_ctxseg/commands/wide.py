"""Tables that stay readable where they are wider than the terminal: nothing is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import JustifyMethod

    Lines = Sequence[Sequence[str]]

#: A first column of at most this share of the terminal is never broken: names are there to be copied.
NAMES = 0.6


def lines_console(*, stderr: bool = False) -> Console:
    """A console for sentences: into a file or a pipe each is one line, however long."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, soft_wrap=True)


def print_table(
    header: Sequence[str], rows: Lines, *, title: str = "", numbers: bool = True, keys: int = 1,
    console: Console | None = None,
) -> None:  # fmt: skip
    """Print a table as it fits.

    Into a file or a pipe it is as wide as it is. In a terminal that is too narrow, one of numbers is turned on its side if
    that helps, or else printed in pieces one below the other; in one of text, lines are broken.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences of str
    title : str
    numbers : bool
        Whether all but the first columns hold numbers.
    keys : int
        Columns that say what a row is; each piece repeats them.
    console : Console, optional
        Left out: standard output.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _width(header, rows), cell_len(title))
    if _width(header, rows) <= console.width or not numbers:
        console.print(_table(header, rows, title, console.width, numbers))
        return
    turned = list(zip(header, *rows, strict=True))
    if len(rows) < len(header) and _width(turned[0], turned[1:]) <= console.width:
        console.print(_table(turned[0], turned[1:], title, console.width, numbers))
        return
    for number, columns in enumerate(_pieces(header, rows, keys, console.width)):
        piece = [[row[c] for c in columns] for row in (header, *rows)]
        console.print(_table(piece[0], piece[1:], "" if number else title, console.width, numbers))


def _widths(header: Sequence[str], rows: Lines) -> list[int]:
    return [max(cell_len(line[n]) for line in (header, *rows)) for n in range(len(header))]


def _width(header: Sequence[str], rows: Lines) -> int:
    return sum(_widths(header, rows)) + 3 * len(header) + 1


def _pieces(header: Sequence[str], rows: Lines, keys: int, width: int) -> list[list[int]]:
    """Columns of each piece: as many as fit beside the keys, at least one."""
    widths = _widths(header, rows)
    room = width - 1 - sum(w + 3 for w in widths[:keys])
    pieces: list[list[int]] = []
    left = 0
    for n in range(keys, len(header)):
        if not pieces or widths[n] + 3 > left:
            pieces.append(list(range(keys)))
            left = room
        pieces[-1].append(n)
        left -= widths[n] + 3
    return pieces


def _table(header: Sequence[str], rows: Lines, title: str, width: int, numbers: bool) -> Table:
    table = Table(title=title or None)
    first = _widths(header, rows)[0] <= NAMES * width
    for n, name in enumerate(header):
        justify: JustifyMethod = "right" if numbers and n else "left"
        table.add_column(name, overflow="fold", no_wrap=first and n == 0, justify=justify)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # no markup: brackets belong to the text
    return table

"""The MetaImage header parser, with made-up headers."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ctxseg.errors import FileError
from napari_ctxseg.io.metaimage_header import parse_header

PATH = Path("x.mha")
TYPES = {
    "MET_UCHAR": "u1",
    "MET_SHORT": "<i2",
    "MET_USHORT": "<u2",
    "MET_INT": "<i4",
    "MET_FLOAT": "<f4",
    "MET_DOUBLE": "<f8",
}
steps = st.floats(1e-6, 1e6)


@st.composite
def headers(draw):
    n = draw(st.integers(2, 4))
    fields = {
        "NDims": str(n),
        "DimSize": draw(st.lists(st.integers(1, 2000), min_size=n, max_size=n)),
        "ElementType": draw(st.sampled_from(sorted(TYPES))),
        "ElementSpacing": draw(st.lists(steps, min_size=n, max_size=n)),
        "Offset": draw(st.lists(st.floats(-1e9, 1e9), min_size=n, max_size=n)),
        "CompressedData": str(draw(st.booleans())),
        "ElementDataFile": draw(st.sampled_from(["LOCAL", "a.raw", "with space.zraw", "ünï.raw"])),
    }
    return n, fields


@given(headers(), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["=", " = ", "  =  "]))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_what_is_parsed(header, newline, equals):
    n, fields = header
    words = {
        key: " ".join(repr(part) for part in value) if isinstance(value, list) else value
        for key, value in fields.items()
    }
    parsed = parse_header(
        PATH, newline.join(f"{key}{equals}{value}" for key, value in words.items()) + newline
    )
    assert parsed.shape == tuple(fields["DimSize"])
    assert parsed.spacing == tuple(fields["ElementSpacing"])
    assert parsed.offset == tuple(fields["Offset"])
    assert parsed.dtype == np.dtype(TYPES[fields["ElementType"]])
    assert str(parsed.compressed) == fields["CompressedData"]
    assert parsed.data == fields["ElementDataFile"]
    np.testing.assert_array_equal(parsed.matrix, np.eye(n))
    assert parsed.fields == words


@given(headers(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_mutated_header_parses_or_is_a_file_error(header, data):
    _, fields = header
    lines = [
        f"{key} = {' '.join(map(repr, value)) if isinstance(value, list) else value}"
        for key, value in fields.items()
    ]
    place = data.draw(st.integers(0, len(lines) - 1))
    junk = st.text(st.characters(codec="latin-1"), max_size=30)
    lines[place] = data.draw(
        st.one_of(junk, st.builds(lambda a, b: f"{a}={b}", st.sampled_from(sorted(fields)), junk))
    )
    try:
        parsed = parse_header(PATH, "\n".join(lines))
    except FileError:
        return
    # Whatever was accepted is sane and stays within the folder.
    assert min(parsed.shape) > 0
    assert min(parsed.spacing) > 0
    assert np.isfinite([*parsed.spacing, *parsed.offset, *parsed.matrix.ravel()]).all()
    assert parsed.data == "LOCAL" or Path(parsed.data).name == parsed.data
    assert ".." not in Path(parsed.data).parts

"""Writing labels when the disk, the folder or the process lets us down."""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_ctxseg import atomic, io
from napari_ctxseg.errors import FileError
from napari_ctxseg.image import image_from_array

resource = pytest.importorskip("resource")
RNG = np.random.default_rng(2)
#: Noise, so that compression does not make it fit a small disk.
LABELS = RNG.integers(0, 60000, (20, 40, 41)).astype(np.uint16)
SUFFIXES = [suffix for suffix in io.LABEL_SUFFIXES if suffix != ".tiff"]


def fitting(suffix):
    labels = LABELS[0] if suffix == ".png" else LABELS
    return labels, image_from_array(
        labels, "zyx"[-labels.ndim :], spacing=(2.0, 1.0, 1.0)[-labels.ndim :], unit="mm"
    )


def temps(folder):
    return [entry.name for entry in folder.iterdir() if ".tmp" in entry.name]


@contextlib.contextmanager
def small_files():
    """A limit on file size: writes beyond it fail as on a full disk, in C libraries too.

    Only around the call under test: pytest's own output may be a file beyond the limit.
    """
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(suffix, tmp_path):
    labels, like = fitting(suffix)
    path = tmp_path / f"a{suffix}"
    io.write_labels(path, labels, like)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with small_files(), pytest.raises(FileError, match=r"a\.\w+.*(disk|quota).*full"):
        io.write_labels(path, labels + 1, like)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_a_full_file_system_is_named(tmp_path):
    """A real one of 64 KiB, in a mount namespace of its own."""
    code = f"""
        import numpy as np
        from pathlib import Path
        from napari_ctxseg import io
        from napari_ctxseg.errors import FileError
        from napari_ctxseg.image import image_from_array
        folder = Path({str(tmp_path)!r})
        small = np.zeros((4, 4), np.uint8)
        io.write_labels(folder / "a.mha", small, image_from_array(small, "yx"))
        old = (folder / "a.mha").read_bytes()
        big = np.random.default_rng(0).integers(0, 60000, (300, 400)).astype(np.uint16)
        try:
            io.write_labels(folder / "a.mha", big, image_from_array(big, "yx"))
        except FileError as error:
            assert "full" in str(error), error
        else:
            raise SystemExit("no error")
        assert (folder / "a.mha").read_bytes() == old
        assert len(list(folder.iterdir())) == 1
        print("as promised")
    """
    mount = f'mount -t tmpfs -o size=64k none "{tmp_path}" && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", mount, sys.executable, textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "unshare failed" in done.stderr or "permission denied" in done.stderr.lower():
        pytest.skip("no user namespaces here")
    assert "as promised" in done.stdout, done.stderr


def test_folders_that_cannot_be_written_to(tmp_path):
    labels, like = fitting(".nii.gz")
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(FileError, match=r"a\.nii\.gz.*cannot be written|not a usable name"):
            io.write_labels(folder / "a.nii.gz", labels, like)
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(FileError, match="not a plain file"):
        io.write_labels(tmp_path / "folder.nii", labels, like)
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(FileError, match="not a plain file"):
        io.write_labels(tmp_path / "pipe.nii", labels, like)
    (tmp_path / "null.nii").symlink_to("/dev/null")
    with pytest.raises(FileError, match="not a plain file"):
        io.write_labels(tmp_path / "null.nii", labels, like)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(FileError, match="cannot be written as"):
        io.write_labels(tmp_path / "a.xyz", labels, like)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_loses_bits_is_noticed_before_the_old_file_goes(suffix, tmp_path, monkeypatch):
    labels, like = fitting(suffix)
    path = tmp_path / f"a{suffix}"
    io.write_labels(path, labels, like)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    real = atomic._sync

    def damage(temp):
        real(temp)
        data = bytearray(temp.read_bytes())
        data[len(data) // 2] ^= 16
        temp.write_bytes(data)

    monkeypatch.setattr(atomic, "_sync", damage)
    with pytest.raises(FileError):
        io.write_labels(path, labels[..., ::-1], like)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_order_of_the_last_steps(tmp_path, monkeypatch):
    """File to disk, rename, folder to disk: in any other order a power cut can lose both versions."""
    steps = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(handle):
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real_fsync(handle)

    def replace(a, b):
        steps.append("replace")
        real_replace(a, b)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    atomic.write_bytes_atomic(tmp_path / "a", b"data")
    assert steps == ["file", "replace", "folder"]
    assert (tmp_path / "a").read_bytes() == b"data"


def test_modes(tmp_path):
    old = os.umask(0o027)
    try:
        atomic.write_bytes_atomic(tmp_path / "new", b"1")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o604)
    atomic.write_bytes_atomic(tmp_path / "new", b"2")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o604


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "there" / "real")
    atomic.write_bytes_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "real").read_bytes() == b"new"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ValueError("no"), OSError(errno.ENOSPC, "No space left")]
)
def test_nothing_is_left_behind_when_a_writer_fails(error, tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def writer(temp):
        temp.write_bytes(b"half")
        raise error

    with pytest.raises((type(error), FileError)):
        atomic.write_atomic(tmp_path / "a", writer)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_killed_writer_leaves_the_old_file_and_a_temp_that_is_swept(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    code = """
        import os, signal, sys
        from napari_ctxseg.atomic import write_atomic
        def writer(temp):
            temp.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomic(sys.argv[1], writer)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a")], timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(temps(tmp_path)) == 1
    mine = tmp_path / f".ctxseg-{os.getpid()}-0123456789ab.tmp.nii"
    other = tmp_path / "notes.tmp"
    mine.touch()
    other.touch()
    assert len(atomic.sweep_stale(tmp_path)) == 1
    assert mine.exists()
    assert other.exists()
    assert (tmp_path / "a").read_bytes() == b"old"


def test_the_image_itself_is_never_overwritten(tmp_path):
    nib.Nifti1Image(LABELS.T.astype(np.int32), np.eye(4)).to_filename(tmp_path / "a.nii")
    before = (tmp_path / "a.nii").read_bytes()
    image = io.read(tmp_path / "a.nii")
    (tmp_path / "link.nii").symlink_to("a.nii")
    for name in ("a.nii", "link.nii"):
        with pytest.raises(FileError, match="the image itself"):
            io.write_labels(tmp_path / name, image.array, image)
    assert (tmp_path / "a.nii").read_bytes() == before
    # the voxels of a .mhd are the image too
    sitk.WriteImage(sitk.GetImageFromArray(LABELS), str(tmp_path / "b.mhd"), True)
    raw = (tmp_path / "b.zraw").read_bytes()
    image = io.read(tmp_path / "b.mhd")
    (tmp_path / "c.mhd").symlink_to("b.mhd")
    (tmp_path / "d.zraw").symlink_to("b.zraw")
    for name in ("b.mhd", "c.mhd", "d.mhd"):
        with pytest.raises(FileError, match="overwrite"):
            io.write_labels(tmp_path / name, image.array, image)
    assert (tmp_path / "b.zraw").read_bytes() == raw


def test_a_metaimage_pair_torn_between_its_two_files_is_noticed(tmp_path):
    labels, like = fitting(".mhd")
    io.write_labels(tmp_path / "a.mhd", labels, like)
    old = (tmp_path / "a.mhd").read_bytes()
    io.write_labels(tmp_path / "a.mhd", labels // 7, like)
    (tmp_path / "a.mhd").write_bytes(old)  # as if the second rename had never happened
    with pytest.raises(FileError, match="compressed bytes where the header says"):
        io.read_labels(tmp_path / "a.mhd")


def test_wrong_labels_are_refused_before_anything_is_written(tmp_path):
    labels, like = fitting(".nii")
    for wrong, match in [(labels[1:], "shape"), (labels.astype(float), "integers"), (labels.T, "shape")]:
        with pytest.raises(ValueError, match=match):
            io.write_labels(tmp_path / "a.nii", wrong, like)
    empty = np.zeros((0, 4, 5), int)
    with pytest.raises(ValueError, match="empty"):
        io.write_labels(tmp_path / "a.nii", empty, image_from_array(empty, "zyx"))
    assert list(tmp_path.iterdir()) == []


def test_the_same_labels_give_the_same_bytes(tmp_path):
    for suffix in (".nii.gz", ".mha", ".png", ".tif"):
        labels, like = fitting(suffix)
        for name in ("a", "b"):
            io.write_labels(tmp_path / f"{name}{suffix}", labels, like)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()

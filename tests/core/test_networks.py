"""What is true of every network and preset: shapes, gradients, sizes, determinism, files, export, bad input."""

from __future__ import annotations

import copy
import hashlib
import http.server
import threading
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from napari_ctxseg.cases import Case
from napari_ctxseg.config import (
    NetworkBase,
    ResNet34UNetConfig,
    from_yaml,
    loss_kinds,
    network_kinds,
    parse_network,
    presets_of,
)
from napari_ctxseg.errors import CheckpointError, InputError
from napari_ctxseg.events import Note, StepEnd
from napari_ctxseg.image import Image, image_from_array
from napari_ctxseg.losses import make_loss
from napari_ctxseg.networks import make_network, patients_of, pretrained
from napari_ctxseg.networks.precision import FloatNorm
from napari_ctxseg.networks.resnet import ResNetEncoder
from napari_ctxseg.networks.sizes import OneSize
from napari_ctxseg.networks.summary import summarise
from napari_ctxseg.training import checkpoint, fit
from napari_ctxseg.training.plan import make_plan
from tests.core.conftest import blob_case, fit_until
from tests.core.small_networks import small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_ctxseg.config import RunConfig

KINDS = network_kinds()
PRESETS = [(kind, name) for kind in KINDS for name in presets_of(kind)]
#: Every kind with its defaults, and every preset.
ALL: list[tuple[str, str | None]] = [*((kind, None) for kind in KINDS), *PRESETS]
EACH = pytest.mark.parametrize(("kind", "preset"), ALL, ids=[f"{k}-{p or 'default'}" for k, p in ALL])
DIMS = pytest.mark.parametrize("dims", [2, 3])
NORMS = ("none", "batch", "instance", "group", "patient")


def heads_of(out: Any) -> tuple[torch.Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


def batch_of(config: NetworkBase, count: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    # Three slices at least, so that a memory over slices has something to remember.
    return torch.randn(count, config.in_channels or 1, *(max(n, 3) for n in config.smallest))


def seeded(config: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return make_network(config)


# ---------------------------------------------------------------- forward, backward


@EACH
@pytest.mark.parametrize(
    ("dims", "channels", "classes"), [(2, 1, 3), (2, 2, 4), (2, 3, 2), (3, 1, 4), (3, 2, 2), (3, 3, 3)]
)
def test_shapes_and_gradients(kind: str, preset: str | None, dims: int, channels: int, classes: int) -> None:
    config = small(kind, dims, preset, in_channels=channels, out_channels=classes)
    network = seeded(config).train()
    x = batch_of(config)
    with patients_of(network, [0, 0] if dims == 2 else None):  # two slices of one patient
        heads = heads_of(network(x))
    target = torch.randint(0, classes, (2, *x.shape[2:]))
    loss = make_loss("dice_ce")(heads, target)
    loss.backward()
    assert torch.isfinite(loss)
    for head in heads:
        assert head.shape == (2, classes, *x.shape[2:])
        assert torch.isfinite(head).all()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        # A bias in front of a normalisation has a true gradient of 0.
        assert weight.ndim == 1 or weight.grad.any(), name


@EACH
@DIMS
def test_evaluation_gives_one_tensor_for_any_size(kind: str, preset: str | None, dims: int) -> None:
    config = small(kind, dims, preset)
    network = seeded(config).eval()
    with torch.no_grad():
        for shape in [(1,) * dims, (3, 5, 7)[-dims:], tuple(n + 5 for n in config.smallest)]:
            out = network(torch.randn(1, 1, *shape))
            assert isinstance(out, torch.Tensor)
            assert out.shape == (1, 2, *shape)
            assert torch.isfinite(out).all()


@EACH
def test_a_volume_of_a_single_slice(kind: str, preset: str | None) -> None:
    config = small(kind, 3, preset)
    network = seeded(config).train()
    for head in heads_of(network(torch.randn(2, 1, 1, *config.smallest[1:]))):
        assert head.shape == (2, 2, 1, *config.smallest[1:])
        head.mean().backward(retain_graph=True)


@EACH
@DIMS
def test_a_sample_does_not_depend_on_its_neighbours(kind: str, preset: str | None, dims: int) -> None:
    config = small(kind, dims, preset)
    network = seeded(config).eval()
    x = batch_of(config, count=3)
    with torch.no_grad():
        alone = torch.cat([network(one[None]) for one in x])
        assert torch.allclose(network(x), alone, atol=1e-5)


@EACH
def test_same_seed_same_network(kind: str, preset: str | None) -> None:
    config = small(kind, 2, preset)
    first, second = seeded(config), seeded(config)
    for (name, a), (_, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    x = batch_of(config)
    for a, b in zip(heads_of(first(x)), heads_of(second(x)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "unetr"])
@pytest.mark.parametrize("norm", NORMS)
@DIMS
def test_every_normalisation(kind: str, norm: str, dims: int) -> None:
    config = small(kind, dims, norm=norm)
    network = seeded(config).train()
    x = batch_of(config)
    with patients_of(network, [5, 5]):
        together = heads_of(network(x))[0].detach()
    apart = heads_of(network(x))[0].detach()
    assert torch.isfinite(together).all()
    mixes = kind == "recurrent_unet" and dims == 2
    assert torch.allclose(together, apart, atol=1e-5) == (norm != "patient" and not mixes)


# ---------------------------------------------------------------- files


@EACH
def test_save_and_load(kind: str, preset: str | None, tmp_path: Path) -> None:
    config = small(kind, 2, preset)
    network = seeded(config).train()
    heads_of(network(batch_of(config)))  # running statistics have moved
    checkpoint.save_tensors(tmp_path / "m.safetensors", network.state_dict(), {})
    tensors, _ = checkpoint.load_tensors(tmp_path / "m.safetensors")
    again = make_network(parse_network(config.model_dump(mode="json")))
    assert checkpoint.load_weights(again, tensors, tmp_path) == []
    x = batch_of(config)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), again.eval()(x))


@EACH
def test_export_gives_the_same_numbers(kind: str, preset: str | None) -> None:
    config = small(kind, 2 if preset else 3, preset)
    network = seeded(config).eval()
    x = batch_of(config, count=1)
    exported = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        assert torch.allclose(exported(x), network(x), atol=1e-5)


# ---------------------------------------------------------------- against the papers

#: 3-wide convolutions of c -> d channels have 9 c d + d weights. Down: 1 -> 32 -> 32 (9568), -> 64 -> 64 (55424),
#: -> 128 -> 128 (221440), -> 256 -> 256 (885248), -> 512 -> 512 (3539968). Up, bridges joined: 768 -> 256 -> 256 (2359808),
#: 384 -> 128 -> 128 (590080), 192 -> 64 -> 64 (147584), 96 -> 32 -> 32 (36928). Class maps: 32 * 4 + 4 = 132.
CONTEXT = 9568 + 55424 + 221440 + 885248 + 3539968 + 2359808 + 590080 + 147584 + 36928 + 132
#: Convolutions down: 37568 + 221440 + 885248 + 3539968 + 14157824. 2 x 2 up, 4 c d + d: 2097664 + 524544 + 131200 + 32832.
#: Convolutions up: 7078912 + 1769984 + 442624 + 110720. Class maps: 64 * 4 + 4. Normalisations, two weights per channel:
#: two of each level down (3968 channels), two of each up (1920), one after each 2 x 2 (960).
CONTEXT_GAN = 18842048 + 2786240 + 9402240 + 260 + 2 * (3968 + 1920 + 960)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"kind": "unet", "preset": "context"}, CONTEXT),  # 7.85 million
        ({"kind": "unet", "preset": "context_gan"}, CONTEXT_GAN),  # 31.0 million
        # torchvision's ResNet-34 has 21 797 672, of which the classifier 513 000 and two thirds of the first layer's 9408
        # are not here. Up: 768 -> 256 -> 256, 384 -> 128 -> 128, 192 -> 64 -> 64 with normalisations, 9 c 4 + 4 a head.
        (
            {"kind": "resnet34_unet"},
            21797672 - 513000 - 6272 + 2359808 + 590080 + 147584 + 4 * (256 + 128 + 64) + 36 * 448 + 12,
        ),
    ],
    ids=str,
)
def test_weights_are_as_many_as_in_the_papers(values: dict[str, Any], count: int) -> None:
    config = parse_network({"in_channels": 1, "out_channels": 4} | values)
    assert summarise(config, (64, 64), 1).parameters == count
    assert count == {CONTEXT: 7846180, CONTEXT_GAN: 31044484}.get(count, count)


def test_context_unet_follows_the_paper() -> None:
    config = small("unet", 2, "context")
    assert config.stride == (32, 32)
    network = seeded(config)
    assert not [
        m for m in network.modules() if isinstance(m, FloatNorm | torch.nn.modules.batchnorm._BatchNorm)
    ]
    pools = [m.kernel_size for m in network.modules() if isinstance(m, torch.nn.MaxPool2d)]
    ups = [m.scale_factor for m in network.modules() if isinstance(m, torch.nn.Upsample)]
    assert (pools, ups) == ([2, 2, 2, 4], [4, 2, 2, 2])


def test_xavier_start_has_zero_biases() -> None:
    network = seeded(small("unet", 2, "context_gan"))
    convs = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert convs
    for conv in convs:
        assert conv.bias is not None
        assert not conv.bias.any()
        fan = (conv.in_channels + conv.out_channels) * conv.kernel_size[0] ** 2
        assert float(conv.weight.detach().abs().max()) <= (2 * 6 / fan) ** 0.5


def test_dilated_ce_network_has_three_heads() -> None:
    config = small("resnet34_unet", 2)
    network = seeded(config)
    x = batch_of(config)
    finest, *coarse = network.train()(x)
    assert len(coarse) == 2
    network.eval()
    assert isinstance(network(x), torch.Tensor)
    assert finest.shape == network(x).shape


def test_recurrent_network_shares_what_slices_of_one_patient_show() -> None:
    config = small("recurrent_unet", 2)
    network = seeded(config).eval()
    x = batch_of(config, count=3)
    with torch.no_grad():
        with patients_of(network, [1, 1, 2]):
            together = network(x)
        alone = network(x)
        volume = seeded(small("recurrent_unet", 3)).eval()(x[:2].transpose(0, 1)[None])
    assert not torch.allclose(together[:2], alone[:2], atol=1e-6)
    assert torch.allclose(together[2], alone[2], atol=1e-6)
    assert torch.allclose(volume[0].transpose(0, 1), together[:2], atol=1e-5), "a volume is a sequence"


def test_residual_unet_is_the_one_of_earlier_runs() -> None:
    network = make_network({"kind": "unet", "in_channels": 1, "out_channels": 2, "features": (4, 8, 8)})
    names = list(network.state_dict())
    assert names[0] == "network.model.0.conv.unit0.conv.weight"
    assert len(names) == 32


# ---------------------------------------------------------------- memory


@EACH
def test_summary_counts_what_is_built(kind: str, preset: str | None) -> None:
    config = small(kind, 2, preset)
    found = summarise(config, config.smallest, 2)
    assert found.parameters == sum(p.numel() for p in make_network(config).parameters())
    assert found.bytes_training > 16 * found.parameters
    twice = summarise(config, config.smallest, 4)
    assert twice.bytes_kept > 1.9 * found.bytes_kept - 16 * found.parameters
    assert twice.bytes_weights == found.bytes_weights


def test_summary_of_a_known_network() -> None:
    # No normalisation, 2 levels: kept are the inputs of the convolutions (a bridge's copy too) and outputs of the ReLUs.
    config = small("unet", 2, "context", features=(4, 8), factors=(2,))
    found = summarise(config, (16, 16), 1)
    full, half = 16 * 16 * 4, 8 * 8 * 4  # bytes of one map
    relus = 4 * full * 2 + 8 * half * 2 + 4 * full * 2
    pooled = 4 * half + 4 * 8 * 8 * 8  # values, and where they were found
    around = full + 2 * 2 * full
    joined = (8 + 4) * full
    assert found.bytes_kept == relus + pooled + joined + around + full


# ---------------------------------------------------------------- configurations


def test_presets_expand_and_are_all_reachable() -> None:
    assert {("unet", "context"), ("unet", "context_gan"), ("unet", "contour"), ("unet", "nnunet")} <= set(
        PRESETS
    )
    assert parse_network({"kind": "unet", "preset": "contour"}).dims == 3
    assert parse_network({"preset": "contour", "dims": 2}).kind == "unet"  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="not known for the network 'vnet'"):
        parse_network({"kind": "vnet", "preset": "context"})
    assert not set(KINDS) & set(loss_kinds()), "presets are found by the kind alone"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "unet", "deep_supervision": True}, "only with plain levels"),
        ({"kind": "unet", "features": (4, 8), "factors": (2, 2)}, "need 1 factors"),
        ({"kind": "unetr", "hidden_size": 100, "heads": 6}, "multiple of the number of heads"),
        ({"kind": "unetr", "img_size": (40, 40)}, "multiples of 16"),
        ({"kind": "segnet"}, "segnet"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parse_network(values)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_data_must_say_is_asked_for(kind: str) -> None:
    with pytest.raises(ValueError, match="must be set"):
        make_network(kind)


@EACH
@DIMS
def test_plan_fills_in_a_patch_that_fits(
    kind: str, preset: str | None, dims: int, small_config: Callable[..., RunConfig]
) -> None:
    config = small(kind, dims, preset)
    cases = [blob_case(f"b{i}", (9, 33, 40)[-dims:], seed=i) for i in range(2)]
    values = config.model_dump() | {"in_channels": None, "out_channels": None, "img_size": None}
    values = {k: v for k, v in values.items() if k in type(config).model_fields}
    plan = make_plan(small_config(network=values, patch={"batch": 2}), cases)
    size = plan.config.patch.size
    assert size is not None
    assert all(
        n >= least and n % step == 0
        for n, least, step in zip(size, config.smallest, config.stride, strict=True)
    )
    network = plan.config.network
    assert (network.in_channels, network.out_channels) == (1, 2)
    assert getattr(network, "img_size", size) == size
    too_small = (*size[:-1], config.smallest[-1] - 1)
    with pytest.raises(InputError, match="too small") as caught:
        make_plan(small_config(network=values, patch={"size": too_small}), cases)
    assert str([*size[:-1], config.smallest[-1]]) in caught.value.remedy


def test_one_size_puts_pieces_side_by_side() -> None:
    double = OneSize(torch.nn.Identity(), (4, 4))
    x = torch.randn(2, 1, 9, 7)
    assert torch.equal(double(x), x)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("kind", KINDS)
def test_every_network_trains_and_predicts_as_a_run(
    kind: str, small_config: Callable[..., RunConfig], blobs: list[Case], tmp_path: Path
) -> None:
    config = small(kind, 2)
    values = config.model_dump(exclude={"in_channels", "out_channels", "img_size"})
    run = small_config(
        network=values, patch={"size": config.smallest, "batch": 2}, budget={"steps": 2, "val_every": 2}
    )
    losses = [e.loss for e in fit(run, blobs, tmp_path / "run") if isinstance(e, StepEnd)]
    assert len(losses) == 2
    assert all(loss is not None for loss in losses)


def rgb(case: Case) -> Case:
    """The same image with three channels."""
    array = case.image.array
    image: Image = image_from_array(torch.from_numpy(array)[None].expand(3, -1, -1).numpy(), "cyx")
    return Case(case.name, image, case.labels, case.group)


def test_a_start_with_other_channels_is_told_before_the_first_step(
    small_config: Callable[..., RunConfig], blobs: list[Case], tmp_path: Path
) -> None:
    list(fit(small_config(budget={"steps": 1}), blobs, tmp_path / "grey"))
    run = small_config(budget={"steps": 1}, init=str(tmp_path / "grey"))
    events = list(fit(run, [rgb(case) for case in blobs], tmp_path / "colour"))
    first = next(i for i, e in enumerate(events) if isinstance(e, StepEnd))
    told = [e.text for e in events[:first] if isinstance(e, Note) and e.level == "warning"]
    assert any("classes or channels differ" in text for text in told)
    other = run.updated(network={"kind": "vnet", "width": 4})
    with pytest.raises(CheckpointError, match="another network"):
        list(fit(other, blobs, tmp_path / "other"))


# ---------------------------------------------------------------- ImageNet weights


@pytest.fixture(scope="module")
def torchvision_like() -> dict[str, torch.Tensor]:
    """A ResNet-34 of width 8 with torchvision's names, for colour images."""
    torch.manual_seed(3)
    encoder = ResNetEncoder("resnet34", 2, 3, 8)
    return encoder.state_dict() | {"fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)}


def on_resnet(**fields: Any) -> NetworkBase:
    return parse_network({"kind": "resnet34_unet", "in_channels": 3, "out_channels": 2, "width": 8} | fields)


def encoder_of(network: torch.nn.Module) -> Any:
    return network.network.encoder  # type: ignore[union-attr]


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_from_a_file(torchvision_like: dict[str, torch.Tensor], ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"resnet34.{ending}"
    (torch.save if ending == "pth" else safetensors.torch.save_file)(torchvision_like, path)  # type: ignore[operator]
    encoder = encoder_of(make_network(on_resnet(weights=str(path))))
    assert torch.equal(encoder.conv1.weight, torchvision_like["conv1.weight"])
    assert torch.equal(encoder.layer4[2].bn2.norm.bias, torchvision_like["layer4.2.bn2.bias"])
    instance = encoder_of(make_network(on_resnet(weights=str(path), norm="instance")))
    assert torch.equal(instance.layer2[0].conv1.weight, torchvision_like["layer2.0.conv1.weight"])
    fresh = encoder_of(make_network(on_resnet(weights="gone.pth"), pretrained=False))
    assert not torch.equal(fresh.conv1.weight, torchvision_like["conv1.weight"])


def test_a_run_is_resumed_without_the_file_it_began_from(
    torchvision_like: dict[str, torch.Tensor],
    small_config: Callable[..., RunConfig],
    blobs: list[Case],
    tmp_path: Path,
) -> None:
    path = tmp_path / "resnet34.safetensors"
    safetensors.torch.save_file(torchvision_like, path)
    network = {"kind": "resnet34_unet", "width": 8, "weights": str(path)}
    config = small_config(network=network, patch={"size": (64, 64), "batch": 2}, budget={"steps": 3})
    fit_until(1, config, blobs, tmp_path / "r")
    path.unlink()
    list(fit(config, blobs, tmp_path / "r", resume=True))
    assert checkpoint.load_state(tmp_path / "r/state")[1]["step"] == 3
    assert from_yaml(tmp_path / "r/config.yaml").network.weights == str(path), (
        "where it came from stays on record"
    )  # type: ignore[union-attr]


def test_first_layer_for_other_channels_and_volumes(
    torchvision_like: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "resnet34.pth"
    torch.save(torchvision_like, path)
    colour = encoder_of(make_network(on_resnet(weights=str(path)))).eval()
    grey = encoder_of(make_network(on_resnet(weights=str(path), in_channels=1))).eval()
    x = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # In float64 and measured by the largest output, which random weights let grow from level to level: what is left is
        # the rounding of the summed weights to float32.
        three = colour.double()(x.double().expand(-1, 3, -1, -1))
        for a, b in zip(three, grey.double()(x.double()), strict=True):
            assert (a - b).abs().max() < 1e-6 * b.abs().max(), "equal channels give what they gave"
        grey.float()
        volume = encoder_of(make_network(on_resnet(weights=str(path), in_channels=1, dims=3))).eval()
        stack = x[:, :, None].expand(-1, -1, 64, -1, -1)
        inside = volume.conv1(stack)[:, :, 10]
        assert torch.allclose(inside, grey.conv1(x), atol=1e-4), "equal slices give what one slice gives"


def test_wrong_files_are_named(torchvision_like: dict[str, torch.Tensor], tmp_path: Path) -> None:
    def refused(name: str, width: int = 8) -> CheckpointError:
        with pytest.raises(CheckpointError) as caught:
            make_network(on_resnet(weights=str(tmp_path / name), width=width))
        assert caught.value.subject == str(tmp_path / name)
        assert caught.value.remedy
        return caught.value

    assert "is not there" in refused("none.pth").reason
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        assert "cannot be read as weights" in refused(name).reason
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    assert "named tensors" in refused("epoch.pth").reason
    torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7)}, tmp_path / "part.pth")
    assert "is no ResNet-34" in refused("part.pth").reason
    torch.save(torchvision_like, tmp_path / "narrow.pth")
    assert "Set network.width to 8" in refused("narrow.pth", width=16).remedy
    torch.save(copy.copy, tmp_path / "code.pth")
    assert "cannot be read as weights" in refused("code.pth").reason


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A local site, and the folder that it serves."""
    site = tmp_path / "site"
    site.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(site))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}", site
        running.shutdown()


def test_download_with_progress_and_checksum(
    server: tuple[str, Path],
    torchvision_like: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_config: Callable[..., RunConfig],
    blobs: list[Case],
) -> None:
    url, site = server
    torch.save(torchvision_like, site / "model")
    sha = hashlib.sha256((site / "model").read_bytes()).hexdigest()
    name = f"resnet34-{sha[:8]}.pth"
    (site / "model").rename(site / name)
    monkeypatch.setattr(pretrained, "IMAGENET", f"{url}/{name}")
    monkeypatch.setattr(pretrained, "user_cache_path", lambda *_: tmp_path / "cache")
    monkeypatch.setattr(pretrained, "CHUNK", 1 << 16)
    told: list[tuple[int, int]] = []
    path = pretrained.imagenet_file(report=lambda done, total: told.append((done, total)))
    size = path.stat().st_size
    assert told[-1] == (size, size)
    assert len(told) > 3
    (site / name).unlink()
    network = ResNet34UNetConfig(weights="imagenet", width=8)
    plan = make_plan(small_config(network=network.model_dump(), patch={"size": (64, 64)}), blobs)
    assert any("averaged for the 1" in note for note in plan.notes), "from the cache, without the site"
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="404"):
        pretrained.imagenet_file()


def test_what_is_downloaded_must_be_what_was_asked_for(server: tuple[str, Path], tmp_path: Path) -> None:
    url, site = server
    (site / "resnet34-12345678.pth").write_bytes(b"a captive portal")
    with pytest.raises(CheckpointError, match="SHA-256 begins with") as caught:
        pretrained.imagenet_file(f"{url}/resnet34-12345678.pth", tmp_path / "cache")
    assert "set network.weights to its path" in caught.value.remedy
    assert not list((tmp_path / "cache").iterdir())


def test_offline(tmp_path: Path) -> None:
    # Port 9 of this machine: nobody listens there.
    with pytest.raises(CheckpointError, match="cannot be downloaded") as caught:
        pretrained.imagenet_file("http://127.0.0.1:9/resnet34-12345678.pth", tmp_path / "cache")
    assert "Connect to the internet once" in caught.value.remedy

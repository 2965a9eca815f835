"""The Inception features against clean-fid's computation from a folder of images to a distance."""

import warnings

import cleanfid.inception_pytorch
import numpy as np
import pytest
import torch
from cleanfid import fid
from cleanfid.features import feature_extractor
from PIL import Image
from tiny_inception import NAME, save_tiny_inception

from jebm.errors import JebmError
from jebm.features.extraction import extract, feature_batches
from jebm.features.inception import Inception, eight_bit
from jebm.metrics.kernel_distance import kernel_distance
from jebm.metrics.statistics import frechet_of, gather
from jebm.runtime.random import make_rng

VARYING = 8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny_inception(tmp_path_factory.mktemp("assets"), VARYING)


@pytest.fixture(scope="module")
def ported_weights(tmp_path_factory):
    """The state dict of clean-fid's PyTorch network with random weights."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
        network = cleanfid.inception_pytorch.fid_inception_v3()
    for module in network.modules():  # otherwise differences between images vanish over its 94 layers
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=make_rng("ported"))
    kept = network.state_dict()
    path = tmp_path_factory.mktemp("ported") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(kept, path)
    return path


def images(count, channels=3, purpose="", size=(12, 10), levels=256):
    """Smooth images, so that resizers differ less than images do."""
    rng = make_rng("inception", purpose, count)
    coarse = torch.rand(count, channels, 4, 4, generator=rng)
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (fine * (levels - 1)).round().to(torch.uint8)


def folder(path, pictures):
    path.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path / f"{i:03}.png")
    return str(path)


def space(weights, protocol="clean", shape=(3, 12, 10)):
    return Inception(shape, 0, weights=str(weights), protocol=protocol)


def statistics(found, pictures, batch_size=16, dimensions=None):
    rows = (batch[:, :dimensions] for batch in feature_batches(found, pictures, 256, "cpu", batch_size))
    return gather(rows, len(pictures), 100)


def by_clean_fid(first, second, protocol, network):
    """clean-fid's distance of two folders, on the first features only: the matrix root of 2,048 takes a minute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fid.compute_fid(
            first, second, mode=protocol, num_workers=0, device=CPU, custom_feat_extractor=network, verbose=False
        )


@pytest.mark.parametrize("protocol", ["clean", "legacy_tensorflow"])
def test_fid_and_kid_are_those_of_clean_fid_on_the_same_folders(protocol, weights, tmp_path):
    sets = images(40, purpose="a"), images(30, purpose="b") // 2 + 60
    folders = [folder(tmp_path / name, pictures) for name, pictures in zip("ab", sets, strict=True)]
    found = space(weights, protocol)
    network = found._network[0]
    expected = by_clean_fid(*folders, protocol, lambda x: network(x)[:, :VARYING])
    first, second = (statistics(found, pictures) for pictures in sets)
    assert expected > 0.1
    assert frechet_of(first, second) == pytest.approx(expected, rel=1e-4)

    features = [
        fid.get_folder_features(f, network, num_workers=0, device=CPU, mode=protocol, verbose=False) for f in folders
    ]
    np.random.seed(3)
    expected = fid.kernel_distance(*features, 10, 20)
    assert kernel_distance(first.kept, second.kept, 10, 20, 3) == pytest.approx(expected, rel=1e-3)


def test_legacy_pytorch_is_that_of_clean_fid_on_the_same_folders(ported_weights, tmp_path, monkeypatch):
    """The real network of clean-fid, of full size, with random weights."""
    sets = images(4, purpose="a"), images(3, purpose="b") // 2
    folders = [folder(tmp_path / name, pictures) for name, pictures in zip("ab", sets, strict=True)]
    state = torch.load(ported_weights, weights_only=True)
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *a, **k: state)
        own = feature_extractor("pytorch_inception", device=CPU, use_dataparallel=False)
    before = cleanfid.inception_pytorch.load_state_dict_from_url
    found = space(ported_weights, "legacy_pytorch")
    assert cleanfid.inception_pytorch.load_state_dict_from_url is before
    ours = [statistics(found, pictures, 4, 3) for pictures in sets]
    expected = by_clean_fid(*folders, "legacy_pytorch", lambda x: own(x)[:, :3])
    assert frechet_of(*ours) == pytest.approx(expected, rel=1e-3)
    assert expected > 1e-3


@pytest.mark.parametrize("protocol", ["clean", "legacy_tensorflow"])
def test_batch_size_does_not_move_the_value(protocol, weights):
    sets, found = (images(70, purpose="a"), images(65, purpose="b") // 2), space(weights, protocol)
    values = [frechet_of(*(statistics(found, pictures, size) for pictures in sets)) for size in (1, 7, 64)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)


def test_protocols_differ(weights):
    sets = images(40, purpose="a"), images(30, purpose="b") // 2
    values = [
        frechet_of(*(statistics(space(weights, protocol), pictures) for pictures in sets))
        for protocol in ("clean", "legacy_tensorflow")
    ]
    assert abs(values[0] / values[1] - 1) > 1e-4


def test_grey_images_are_three_equal_channels_and_few_levels_are_stretched(weights):
    grey = images(5, channels=1, levels=17)
    found = space(weights, shape=(1, 12, 10))
    stretched = eight_bit(grey, 17)
    assert stretched.max() > 17
    assert torch.equal(eight_bit(torch.tensor([0, 8, 16], dtype=torch.uint8), 17), torch.tensor([0, 128, 255]).byte())
    np.testing.assert_array_equal(
        extract(found, grey, 17, "cpu"), extract(space(weights), stretched.repeat(1, 3, 1, 1), 256, "cpu")
    )


def test_the_weights_are_no_state_but_named_by_the_protocol(weights):
    found = space(weights)
    assert not found.state_dict()
    assert len(found.facts()["weights_sha256"]) == 64
    assert found.facts()["mode"] == "clean"


@pytest.mark.parametrize("shape", [(2, 8, 8), (30,)])
def test_what_is_no_image_is_refused(weights, shape):
    with pytest.raises(JebmError, match="needs images of 1 or 3 channels"):
        space(weights, shape=shape)


def test_missing_corrupt_or_misnamed_weights_are_refused(weights, ported_weights, tmp_path):
    with pytest.raises(JebmError, match=r"gone\.pt: no such file"):
        space(tmp_path / "gone.pt")
    broken = tmp_path / NAME
    broken.write_bytes(weights.read_bytes()[:-100])
    for protocol in ("clean", "legacy_tensorflow", "legacy_pytorch"):
        with pytest.raises(JebmError, match=rf"{NAME}: not the Inception network of features\.protocol '{protocol}'"):
            space(broken, protocol)
    with pytest.raises(JebmError, match=f"must be named {NAME}"):
        space(ported_weights)
    with pytest.raises(JebmError, match=r"not the Inception network of features\.protocol 'legacy_pytorch'"):
        space(weights, "legacy_pytorch")

"""The Inception features of FID and KID, computed by the resizers and networks of clean-fid (Parmar et al., 2022)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cleanfid.inception_pytorch
import numpy as np
import torch
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from torch import nn

from jebm.config.types import AssetName, InceptionProtocol
from jebm.errors import JebmError, SettingError
from jebm.features.base import FeatureSpace
from jebm.io.digests import sha256

TORCHSCRIPT = "inception-2015-12-05.pt"
"""The file name that clean-fid requires for the TorchScript network."""
RESIZED = {
    "clean": "to 299 × 299 by Pillow, bicubic, antialiased, not quantised",
    "legacy_pytorch": "to 299 × 299 by PyTorch, bilinear, not antialiased",
    "legacy_tensorflow": "inside the network, as TensorFlow 1 did, bilinear",
}
"""Protocol → description of its resizing."""

Network = Callable[[torch.Tensor], torch.Tensor]


class Inception(FeatureSpace):
    """The 2,048 features of the last pooling layer of the FID Inception network; nothing is trained.

    Values are comparable only within one protocol. The weights of the network are an asset, not part of the state of
    this module.

    Args:
        image_shape: (channels, height, width); a single channel is repeated three times.
        classes: not used.
        protocol: clean-fid's mode, see :data:`RESIZED`. ``legacy_pytorch`` is the protocol of pytorch-fid with weights
            ported to PyTorch; the other modes use the TorchScript network.
        weights: the file ``inception-2015-12-05.pt``; for ``legacy_pytorch`` the state dict
            ``pt_inception-2015-12-05-6726825d.pth``.

    Raises:
        JebmError: the images have neither 1 nor 3 channels, or the file is missing or is not that network.
    """

    about = "FID Inception network, last pooling layer"
    streamed = True
    max_batch_size = 64

    def __init__(
        self, image_shape: tuple[int, ...], classes: int, *, weights: AssetName, protocol: InceptionProtocol = "clean"
    ):
        super().__init__()
        if len(image_shape) != 3 or image_shape[0] not in (1, 3):
            raise SettingError(
                f"features.name: 'inception' needs images of 1 or 3 channels, not shape "
                f"{list(image_shape)}; use 'identity'"
            )
        self.protocol, self.path = protocol, Path(weights)
        # In a tuple, so that the network is not a submodule and the feature stage does not save its weights.
        self._network = (load_network(self.path, protocol),)
        with warnings.catch_warnings():  # clean-fid changes the warning filters of the process
            self._resize = build_resizer(protocol)

    def facts(self):
        return {
            "mode": self.protocol,
            "weights_sha256": sha256(self.path),
            "resize": RESIZED[self.protocol],
            "resize_code": [f"{name} {version(name)}" for name in ("pillow", "numpy")],
            "images": "8 bit",
        }

    @torch.no_grad()
    def features(self, images, levels):
        batch = self.resized(eight_bit(images, levels)).to(images.device)
        network = self._network[0].to(images.device)
        # Without TF32, which cuDNN uses for float32 by default: values would differ between devices.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return network(batch)

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """The input of the network for 8-bit images: floats in [0, 255], (batch, 3, height, width)."""
        rgb = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        if self.protocol == "legacy_tensorflow":
            arrays = [self._resize(image) for image in rgb]
        else:  # Pillow and PyTorch release the GIL while they resize
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                arrays = list(pool.map(self._resize, rgb))
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().contiguous()


def eight_bit(images: torch.Tensor, levels: int) -> torch.Tensor:
    """uint8 images with values 0 … levels − 1, rescaled to 256 levels and rounded."""
    return images if levels == 256 else (images.float() * (255 / (levels - 1))).round().to(torch.uint8)


def load_network(path: Path, protocol: str) -> nn.Module:
    """clean-fid's network for a protocol. Weights are read from the file; nothing is downloaded.

    Raises:
        JebmError: the file does not exist, does not have the name that clean-fid requires, or is not that network.
    """
    if not path.is_file():
        raise JebmError(f"{path}: no such file; it has the weights of the Inception network for FID")
    if protocol != "legacy_pytorch" and path.name != TORCHSCRIPT:
        raise JebmError(
            f"{path}: must be named {TORCHSCRIPT}: features.protocol '{protocol}' takes the TorchScript file"
        )
    try:
        if protocol == "legacy_pytorch":
            network = _FromPixels(path)
        else:
            network = InceptionV3W(str(path.parent), download=False, resize_inside=protocol == "legacy_tensorflow")
    except (RuntimeError, AttributeError, TypeError, ValueError, EOFError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise JebmError(f"{path}: not the Inception network of features.protocol '{protocol}': {reason}") from None
    return network.requires_grad_(False).eval()


class _FromPixels(nn.Module):
    """clean-fid's PyTorch network, preceded by clean-fid's scaling of the pixels."""

    def __init__(self, path: Path):
        super().__init__()
        with _state_dict_from(path):
            self.base = cleanfid.inception_pytorch.InceptionV3(output_blocks=[3], resize_input=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x / 255)[0].squeeze(-1).squeeze(-1)


@contextmanager
def _state_dict_from(path: Path) -> Iterator[None]:
    """A context in which clean-fid, which otherwise downloads the state dict, reads it from ``path``."""
    module, name = cleanfid.inception_pytorch, "load_state_dict_from_url"
    before = getattr(module, name)
    read = partial(torch.load, path, map_location="cpu", weights_only=True)
    setattr(module, name, lambda *args, **kwargs: read())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision warns about clean-fid's arguments
            yield
    finally:
        setattr(module, name, before)

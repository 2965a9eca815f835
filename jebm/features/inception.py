"""The Inception space of FID and KID, by clean-fid's own resizers and networks (Parmar et al., 2022)."""

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
"""The name under which clean-fid looks for the TorchScript network in a folder."""
RESIZED = {
    "clean": "to 299 × 299 by Pillow, bicubic, antialiased, not quantised",
    "legacy_pytorch": "to 299 × 299 by PyTorch, bilinear, not antialiased",
    "legacy_tensorflow": "inside the network, as TensorFlow 1 did, bilinear",
}
"""Protocol → how images are resized."""

Network = Callable[[torch.Tensor], torch.Tensor]


class Inception(FeatureSpace):
    """The 2,048 features of the last pooling layer of the FID Inception network; nothing is trained here.

    Values are comparable within one protocol only. The network's weights are an asset, not this module's state.

    Args:
        image_shape: (channels, height, width); a single channel is shown as three equal ones.
        classes: of the labels, not used.
        protocol: clean-fid's mode, which resizes as :data:`RESIZED` says; ``legacy_pytorch`` is pytorch-fid's, with the
            weights that were ported to PyTorch, the others use the TorchScript network.
        weights: the file of the network: ``inception-2015-12-05.pt``, for ``legacy_pytorch`` the state dict
            ``pt_inception-2015-12-05-6726825d.pth``.

    Raises:
        JebmError: no images of 1 or 3 channels, or the file is missing or is not that network.
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
        # In a tuple, so that it is no submodule: the stage of the features publishes its state.
        self._network = (load_network(self.path, protocol),)
        with warnings.catch_warnings():  # clean-fid silences all warnings of the process
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
        # TF32, which cuDNN uses for float32 unless told, would move the value between devices.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return network(batch)

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """What the network is given: floats in [0, 255], (batch, 3, height, width), from 8-bit images."""
        rgb = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        if self.protocol == "legacy_tensorflow":
            arrays = [self._resize(image) for image in rgb]
        else:  # Pillow and PyTorch leave the interpreter to others while they resize
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                arrays = list(pool.map(self._resize, rgb))
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().contiguous()


def eight_bit(images: torch.Tensor, levels: int) -> torch.Tensor:
    """uint8 images of values 0 … levels − 1 as the nearest of 256 levels."""
    return images if levels == 256 else (images.float() * (255 / (levels - 1))).round().to(torch.uint8)


def load_network(path: Path, protocol: str) -> nn.Module:
    """clean-fid's network of a protocol with weights from a file, never from the network or a shared folder.

    Raises:
        JebmError: no such file, a file of another name than clean-fid wants, or not that network.
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
    """clean-fid's PyTorch network behind its own scaling of the pixels, as clean-fid puts it together."""

    def __init__(self, path: Path):
        super().__init__()
        with _state_dict_from(path):
            self.base = cleanfid.inception_pytorch.InceptionV3(output_blocks=[3], resize_input=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x / 255)[0].squeeze(-1).squeeze(-1)


@contextmanager
def _state_dict_from(path: Path) -> Iterator[None]:
    """clean-fid fetches the state dict where it builds the network; within this context it is given ours."""
    module, name = cleanfid.inception_pytorch, "load_state_dict_from_url"
    before = getattr(module, name)
    read = partial(torch.load, path, map_location="cpu", weights_only=True)
    setattr(module, name, lambda *args, **kwargs: read())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torchvision, about how clean-fid calls it
            yield
    finally:
        setattr(module, name, before)

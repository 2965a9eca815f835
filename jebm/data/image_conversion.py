"""Conversion of an image file to integers: orientation, channels, crop, size, bits."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from jebm.errors import JebmError

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}
TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
WIDE = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True)
class Conversion:
    """Converts images of any kind to uint8 arrays of one shape."""

    channels: int
    size: int
    """Height and width."""
    crop: int | None
    """Side of the central square that is cut out, in pixels of the source; None cuts out the largest square."""
    resample: str
    upscale: bool
    background: str
    bits: int

    def __call__(self, image: Image.Image, name: str) -> np.ndarray:
        """uint8 (channels, size, size), values 0 … 2^bits − 1.

        Raises:
            JebmError: the image is smaller than ``crop``, or smaller than ``size`` without ``upscale``.
        """
        image = ImageOps.exif_transpose(image)
        image = self._square(self._channels(image), name)
        array = np.asarray(image, np.uint8).reshape(self.size, self.size, self.channels)
        return np.ascontiguousarray(array.transpose(2, 0, 1)) >> (8 - self.bits)

    def _channels(self, image: Image.Image) -> Image.Image:
        mode = "RGB" if self.channels == 3 else "L"
        if image.mode in WIDE:
            wide = np.asarray(image).astype(np.float64)
            image = Image.fromarray(np.rint(wide * (255 / 65535)).astype(np.uint8))
        if image.mode in TRANSPARENT or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, self.background), image)
            image = image.convert("RGB")
        return image if image.mode == mode else image.convert(mode)

    def _square(self, image: Image.Image, name: str) -> Image.Image:
        width, height = image.size
        side = self.crop or min(width, height)
        if side > min(width, height):
            raise JebmError(f"{name}: has {width}×{height} pixels, fewer than dataset.crop: {self.crop} takes out")
        if side < self.size and not self.upscale:
            raise JebmError(
                f"{name}: a square of {side} pixels is smaller than dataset.size: {self.size}; "
                "remove the image, lower size, or set dataset.upscale: true"
            )
        left, top = (width - side) // 2, (height - side) // 2
        if (width, height) != (side, side):
            image = image.crop((left, top, left + side, top + side))
        return image if side == self.size else image.resize((self.size, self.size), FILTERS[self.resample])


def refuse_wide(image: Image.Image, name: str) -> None:
    """Refuse images that Pillow can't convert correctly; must be called before the image is decoded.

    Pillow truncates 16-bit colours to 8 bits silently, and the range of 32-bit values is unknown.

    Raises:
        JebmError: the image has 16-bit colours or 32-bit values.
    """
    raw = " ".join(str(part[3]) for part in getattr(image, "tile", ()) if len(part) > 3)
    if ";16" in raw and image.mode not in WIDE:
        raise JebmError(
            f"{name}: has 16 bits per channel, half of which would be lost; convert it to 8 bits, or if grey to PNG"
        )
    if image.mode in ("I", "F"):
        raise JebmError(
            f"{name}: has 32-bit values ('{image.mode}') of an unknown range; convert it to 8 or 16 bits first"
        )

"""What is in a folder of pictures, and the settings of a study that follow from it."""

import io
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from jebm.errors import JebmError
from jebm.io.image_files import image_names

LOOKED_AT = 200
"""Number of pictures that are decoded, evenly spread over all."""
VERIFIED = 20_000
"""Up to this number of pictures, the others are checked for damage as far as that needs no decoding."""
DAMAGE = (OSError, UnidentifiedImageError, ValueError, SyntaxError, zipfile.BadZipFile)
SIZES = (16, 12, 8)
"""Sizes in pixels to choose from, for a fully connected backbone on a CPU."""


@dataclass(frozen=True)
class Survey:
    """Properties of the pictures; those of a sample stand for all."""

    path: Path
    count: int
    sides: tuple[int, int]
    """Smallest and largest shorter side."""
    grey: bool
    transparent: bool
    broken: tuple[str, ...]
    """Names of the checked pictures that can't be read."""
    opened: int
    """Number of pictures that were checked."""
    seconds: float
    """Time to read and decode one picture."""

    @property
    def unreadable(self) -> int:
        """Number of checked pictures that can't be read."""
        return len(self.broken)

    def found(self) -> str:
        """One line for people."""
        low, high = self.sides
        size = f"{low} pixels" if low == high else f"{low} to {high} pixels"
        words = [f"{self.count:,} pictures", f"shorter side {size}", "grey" if self.grey else "colour"]
        words += ["some transparent"] if self.transparent else []
        if self.broken:
            named = ", ".join(self.broken[:3]) + (" …" if len(self.broken) > 3 else "")
            words.append(f"{self.unreadable} of {self.opened} checked are unreadable ({named})")
        return ", ".join(words)


def look(path: Path) -> Survey:
    """Open a sample of the pictures in a folder or zip file, and check the others for damage if they are not too many.

    Raises:
        JebmError: there is none, or none can be read.
    """
    names = image_names(path)
    read = _reader(path)
    step = max(1, len(names) // LOOKED_AT)
    opened = names[::step][:LOOKED_AT]
    sides, modes, transparent, broken, started = [], set(), False, [], time.monotonic()
    for name in opened:
        try:
            image = Image.open(io.BytesIO(read(name)))
            image.load()
        except DAMAGE:
            broken.append(name)
            continue
        sides.append(min(image.size))
        modes.add(image.mode)
        transparent |= image.has_transparency_data
    if not sides:
        raise JebmError(f"{path}: none of {len(opened)} pictures that were opened can be read")
    grey = modes <= {"1", "L", "LA", "I;16"}
    seconds = (time.monotonic() - started) / len(opened)
    others = sorted(set(names) - set(opened)) if len(names) <= VERIFIED else []
    for name in others:
        try:
            Image.open(io.BytesIO(read(name))).verify()
        except DAMAGE:
            broken.append(name)
    count = len(opened) + len(others)
    return Survey(path, len(names), (min(sides), max(sides)), grey, transparent, tuple(broken), count, seconds)


def _reader(path: Path) -> Callable[[str], bytes]:
    return (lambda name: (path / name).read_bytes()) if path.is_dir() else zipfile.ZipFile(path).read


@dataclass(frozen=True)
class Choice:
    """The settings that depend on the pictures."""

    size: int
    channels: int
    train: int
    validation: int
    test: int
    upscale: bool
    unreadable_share: float

    @property
    def channels_name(self) -> str:
        return "grey" if self.channels == 1 else "rgb"

    def splits(self) -> str:
        return f"{self.train:,} to train on, {self.validation:,} for validation, {self.test:,} for the tables"

    def settings(self) -> dict[str, object]:
        """The values of the parameter file's template."""
        features = self.channels * self.size**2
        batch = min(128, 2 ** (self.train // 4).bit_length() // 2)
        steps = max(500, min(3000, 100 * round(self.train / batch)))
        large = features > 200
        return {
            "size": self.size,
            "mode": self.channels_name,
            "upscale": str(self.upscale).lower(),
            "unreadable": self.unreadable_share,
            "validation": self.validation,
            "test": self.test,
            "train": self.train,
            "features": features,
            "bottom": 32 if large else 16,
            "top": 16 if large else 8,
            "hidden": 256 if large else 128,
            "batch": batch,
            "steps": steps,
            "epochs": round(steps * batch / self.train),
            "samples": max(2000, 2 * needed(features)),
        }


def needed(features: int) -> int:
    """Pictures in each set for a Fréchet distance in so many features: more than the features, with some to spare."""
    return features + max(features // 4, 32)


def choose(survey: Survey) -> Choice:
    """The largest size for which there are enough pictures; in grey, if there are few.

    Raises:
        JebmError: there are too few pictures for any size.
    """
    shapes = [(size, 1 if survey.grey else 3) for size in SIZES]
    if not survey.grey:
        shapes.append((SIZES[-1], 1))
    usable = survey.count - (survey.count * survey.unreadable) // survey.opened
    for size, channels in shapes:
        least = needed(channels * size**2)
        validation, test = min(500, usable // 10), max(min(usable // 4, 2000), least)
        train = usable - validation - test
        if validation and train >= max(least, usable // 3):
            share = 0.0 if not survey.unreadable else min(1.0, round(2 * survey.unreadable / survey.opened + 0.01, 2))
            return Choice(size, channels, train, validation, test, survey.sides[0] < size, share)
    raise JebmError(
        f"{survey.path}: {usable} readable pictures are too few: at {SIZES[-1]} pixels in grey, "
        f"training and test split must have {least} each"
    )

"""CelebA, aligned and cropped (Liu et al., 2015): 162,770 + 19,867 + 19,962 faces of 178×218 in a zip file."""

from __future__ import annotations

from pathlib import Path

from jebm.config.types import AssetName
from jebm.data.assets import AssetFiles
from jebm.data.sources.base import Source, SourceSplit, explain_damage
from jebm.data.sources.folder import from_zip

SPLITS = {"train": "0", "validation": "1", "test": "2"}


class CelebA(Source):
    """CelebA with its published partition. ``dataset.crop: 140`` is usual for images of 64×64 (Song & Ermon, 2019).

    Args:
        images: the file img_align_celeba.zip.
        partition: the file list_eval_partition.txt.
    """

    def __init__(self, *, images: AssetName = "celeba-images", partition: AssetName = "celeba-partition"):
        self.images, self.partition = images, partition

    def open(self, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        path, partition = files(self.images), files(self.partition)
        with explain_damage(partition, "CelebA's partition"):
            rows = [line.split() for line in partition.read_text(encoding="utf-8").splitlines() if line.strip()]
            named = {split: [name for name, part in rows if part == key] for split, key in SPLITS.items()}
            if not all(named.values()):
                raise ValueError("a split is empty")
        return {split: from_zip(path, [f"img_align_celeba/{name}" for name in names]) for split, names in named.items()}

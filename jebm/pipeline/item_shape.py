"""The shape of one item of a dataset, from the parameters alone."""

from pydantic import BaseModel


def item_shape(dataset: BaseModel) -> tuple[int, ...] | None:
    """The shape of one image or row of a block ``dataset``, or None if only the data tell it. Needs no torch."""
    if not hasattr(dataset, "source"):
        return getattr(dataset.traits, "item_shape", None)
    channels = {"source": dataset.source.traits.channels, "rgb": 3, "grey": 1}[dataset.mode]
    return channels, dataset.size, dataset.size

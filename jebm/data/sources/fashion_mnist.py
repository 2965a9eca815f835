"""Fashion-MNIST, in the same four IDX files as MNIST."""

from jebm.config.types import AssetName
from jebm.data.sources.mnist import Mnist


class FashionMnist(Mnist):
    """
    Args:
        train_images, train_labels, test_images, test_labels: gzipped IDX files.
    """

    def __init__(
        self,
        *,
        train_images: AssetName = "fashion-mnist-train-images",
        train_labels: AssetName = "fashion-mnist-train-labels",
        test_images: AssetName = "fashion-mnist-test-images",
        test_labels: AssetName = "fashion-mnist-test-labels",
    ):
        super().__init__(
            train_images=train_images, train_labels=train_labels, test_images=test_images, test_labels=test_labels
        )

"""Names of the files that a stage writes and other stages read."""

IMAGES, MANIFEST = "images.safetensors", "manifest.json"
WEIGHTS, HISTORY, RECORD = "weights.safetensors", "history.csv", "record.json"
PROVENANCE = "provenance.json"
SAMPLES, METRICS, ARRAYS = "samples.safetensors", "metrics.json", "arrays.safetensors"
PRIOR_WEIGHTS = "prior.safetensors"
STATISTICS = "statistics.safetensors"


def image_set(number: int) -> str:
    """The tensor of ``samples.safetensors`` that holds the images of a sample set; sets are numbered from 1."""
    return "images" if number == 1 else f"images-{number}"

"""Scaling of the cost of one variant: one quantity at a time is halved and doubled."""

from collections.abc import Iterator
from pathlib import Path

from jebm.bench.study import Request, choose_device, image_shape, measured_rows, write
from jebm.bench.workloads import training_chain
from jebm.config.schema import Base
from jebm.errors import JebmError
from jebm.runtime.progress import log

FACTORS = (0.5, 1, 2)


def run(request: Request) -> Path:
    """Measure a variant with other batch sizes, chain lengths, layers and image sizes. Returns the path of the table.

    Raises:
        JebmError: more than one variant is named.
    """
    if len(request.variants) != 1:
        raise JebmError("--sweep is of one variant: name it by --variant")
    ((label, variant),) = request.variants.items()
    device = choose_device(variant.params.compute, request.device)
    points, rows = list(_points(variant.params, image_shape(variant, request.shape))), []
    seconds = request.seconds / len(points)
    for axis, value, params, shape in points:
        log(f"{axis} {value}")
        try:
            found = list(measured_rows(label, params, shape, device, seconds, set(), training=True))
        except JebmError as error:
            log(f"note: {axis} {value} can't be measured: {error}")
            continue
        rows += [{"axis": axis, "value": value, "study": request.plan.name, **row} for row in found]
    caption = "How cost grows, by `jebm bench --sweep`: one thing at a time" + request.caption_end
    write(request.path("scaling"), rows, caption)
    return request.path("scaling").with_suffix(".md")


def _points(params: Base, shape: tuple[int, ...]) -> Iterator[tuple[str, object, Base, tuple[int, ...]]]:
    """Yield (axis, value, parameters, image shape) for every measurement."""
    for factor in FACTORS:
        yield "batch", int(_settings(params).batch_size * factor), _with_batch(params, factor), shape
    if _chain_steps(params):
        for factor in FACTORS:
            yield "chain steps", int(_chain_steps(params) * factor), _with_chain(params, factor), shape
    for layers, changed in _with_layers(params):
        yield "layers", layers, changed, shape
    if len(shape) == 3 and shape[1] == shape[2]:
        for factor in FACTORS:
            side = int(shape[1] * factor)
            yield "image size", side, _with_size(params, factor), (shape[0], side, side)


def _settings(params: Base):
    return params.train_joint or params.train_prior


def _chain_steps(params: Base) -> int:
    chain = training_chain(_settings(params))
    return chain.steps if chain else 0


def _changed(block, **update):
    return block.model_copy(update=update)


def _with_batch(params: Base, factor: float) -> Base:
    blocks = {key: getattr(params, key) for key in ("train_backbone", "train_prior", "train_joint")}
    scaled = {k: _changed(b, batch_size=max(1, int(b.batch_size * factor))) for k, b in blocks.items() if b}
    return _changed(params, **scaled)


def _with_chain(params: Base, factor: float) -> Base:
    scaled = {}
    for key in ("train_prior", "train_joint"):
        block = getattr(params, key)
        chains = {name: getattr(block, name, None) for name in ("chain", "posterior_chain")}
        if key == "train_prior":
            chains["estimator"] = training_chain(block)
        own = {name: _changed(c, steps=max(1, int(c.steps * factor))) for name, c in chains.items() if c}
        if own:
            scaled[key] = _changed(block, **own)
    return _changed(params, **scaled)


def _with_layers(params: Base) -> Iterator[tuple[int, Base]]:
    """Fewer and more layers, with the topmost layer repeated; for backbones with several scales, at every scale."""
    backbone = params.backbone
    if hasattr(backbone, "latent_dims"):
        dims = backbone.latent_dims
        sizes = [dims[:1], dims, [*dims, *dims[-1:] * len(dims)]] if len(dims) > 1 else [dims, dims * 2, dims * 4]
        for latent_dims in sizes:
            yield len(latent_dims), _fitted(params, _changed(backbone, latent_dims=latent_dims), len(latent_dims))
    else:
        for factor in FACTORS:
            counts = [max(1, int(count * factor)) for count in backbone.layers_per_scale]
            yield sum(counts), _fitted(params, _changed(backbone, layers_per_scale=counts), sum(counts))


def _fitted(params: Base, backbone, layers: int) -> Base:
    """The parameters for a backbone of another depth: lists with an entry per layer are adapted to it."""
    once = {"kl_warmup": [[0.0, 0.0]]}
    update = {"backbone": backbone}
    if params.train_backbone:
        update["train_backbone"] = _changed(params.train_backbone, **once)
    if params.train_joint:
        update["train_joint"] = _changed(params.train_joint, **once)
    energy = getattr(params.prior, "energy", None)
    if energy is not None:
        lists = {k: getattr(energy, k, None) for k in ("hidden", "depth")}
        own = {k: (v + v[-1:] * layers)[:layers] for k, v in lists.items() if isinstance(v, list)}
        if getattr(energy, "layers", "all") != "all":
            own["layers"] = "all"
        update["prior"] = _changed(params.prior, energy=_changed(energy, **own))
    return _changed(params, **update)


def _with_size(params: Base, factor: float) -> Base:
    """Scale the feature maps of a residual backbone with the image; other backbones adapt by themselves."""
    resolutions = getattr(params.backbone, "resolutions", None)
    if not resolutions:
        return params
    scaled = [max(1, int(size * factor)) if size > 1 else 1 for size in resolutions]
    return _changed(params, backbone=_changed(params.backbone, resolutions=scaled))

"""What was never run on a GPU here, measured where there is one: ``jebm gpu-check``.

Rates of the device, agreement of its results with those of the CPU, the cost of the image studies at their real shapes
beside these rates, and the memory of a step with and without checkpointing.
"""

import copy
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

from jebm.bench.measure import compare
from jebm.bench.study import MeasuredDevice, image_shape, measured_rows, processor
from jebm.bench.workloads import Bench, prepared
from jebm.config.schema import Base, Compute
from jebm.errors import JebmError
from jebm.io.files import atomic_write
from jebm.models.precision import apply_layout_and_precision
from jebm.pipeline.stages import RESULTS
from jebm.pipeline.study import Variant
from jebm.runtime.progress import log
from jebm.sampling.spaces import SPACES

TOLERANCE = 1e-3
"""Largest difference between the device and the CPU relative to the largest magnitude of the quantity."""
CHAINS = 8
"""Latents and images at once, where only the agreement is of interest."""
TF32 = torch.backends.cuda.matmul


class Agreement(NamedTuple):
    """How far the device is from the CPU."""

    variant: str
    what: str
    compute: str
    difference: float
    """Largest difference, relative to the largest magnitude on the CPU."""

    @property
    def verdict(self) -> str:
        return "agrees" if self.difference <= TOLERANCE else "DIFFERS"


def rates(device: torch.device, size: int, seconds: float) -> dict[str, float]:
    """TFLOP/s of products of square matrices of ``size`` by precision, and GB/s of a copy (reads and writes)."""
    found = {}
    kinds = {"fp32": (torch.float32, False), "tf32": (torch.float32, True), "bf16": (torch.bfloat16, False)}
    for name, (dtype, tf32) in kinds.items():
        if name == "tf32" and device.type != "cuda":
            continue
        a = torch.randn(size, size, device=device, dtype=dtype)
        before, TF32.allow_tf32 = TF32.allow_tf32, tf32
        timing = compare({"product": lambda a=a: a @ a}, seconds, device)["product"]
        TF32.allow_tf32 = before
        found[name] = 2 * size**3 / timing.fastest / 1e12
    block = torch.empty(size * size * 4, device=device)
    other = torch.empty_like(block)
    timing = compare({"copy": lambda: other.copy_(block)}, seconds, device)["copy"]
    found["memory"] = 2 * block.numel() * block.element_size() / timing.fastest / 1e9
    return found


def agreement(name: str, params: Base, shape: tuple[int, ...], device: torch.device, folder: Path) -> list[Agreement]:
    """Images, log densities of the prior and their gradients, from the same weights and latents on both.

    These are computed in fp32 with every setting: ``bf16`` concerns training alone, and chains must not notice it.
    """
    on_cpu = params.model_copy(update={"compute": Compute(device="cpu")})
    bench = Bench(on_cpu, shape, torch.device("cpu"), folder)
    bench.hierarchy.eval().requires_grad_(False)
    bench.prior.eval().requires_grad_(False)
    eps = torch.randn(CHAINS, bench.hierarchy.dimensions, generator=bench.rng)
    expected = _quantities(bench.hierarchy, bench.prior, eps)
    rows = []
    kinds = {"fp32": {}, "channels last": {"channels_last": True}, "bf16 in training": {"precision": "bf16"}}
    for label, settings in kinds.items():
        compute = Compute(device=str(device), **settings)
        # One copy of both, because the prior holds the backbone that its energies read from.
        both = copy.deepcopy(torch.nn.ModuleList([bench.hierarchy, bench.prior])).to(device)
        apply_layout_and_precision(both[0], compute)
        found = _quantities(both[0], both[1], eps.to(device))
        for what, value in expected.items():
            scale = value.abs().max().clamp_min(1e-12)
            difference = float((found[what].float().cpu() - value).abs().max() / scale)
            rows.append(Agreement(name, what, label, difference))
    return rows


def _quantities(hierarchy, prior, eps: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        images = hierarchy.decode(hierarchy.top_down_flat(eps)).mean
    log_prob, gradient = SPACES["whitened"](hierarchy, prior).target("autograd").log_prob_and_gradient(eps)
    return {"images": images, "log density": log_prob, "gradient": gradient}


def flops(params: Base, shape: tuple[int, ...], device: torch.device) -> dict[str, float]:
    """Workload → floating-point operations of one image or chain in one step, multiplications and additions apart."""
    found = {}
    with prepared(params, shape, device) as bench:
        for work in bench.workloads():
            call = work.make(2)["ours"]
            with FlopCounterMode(display=False) as counter:
                call()
            found[work.what] = counter.get_total_flops() / (2 * (1 if work.what == "samples" else work.each))
    return found


def cost_rows(variants: dict[str, Variant], place: MeasuredDevice, seconds: float, shares: dict) -> Iterator[list]:
    """Rows of the table of costs: time, speed-up over the plain transcription, and the share of the matrix rate."""
    for name, variant in variants.items():
        shape = image_shape(variant)
        params = variant.params.model_copy(update={"compute": place.compute})
        counted = flops(params, shape, place.device)
        for row in measured_rows(name, params, shape, place, seconds / len(variants), set()):
            images = 1 if row["what"] == "samples" else row["batch"]
            rate = counted[row["what"]] * images / row["seconds_each"] / 1e12
            plain = row["plain_seconds_each"] and row["speed_up"]
            share = f"{rate:.3g} ({100 * rate / shares['fp32']:.0f} %)"
            batch = f"{row['batch']} of {row['batch_of_study']}"
            yield [name, row["what"], batch, f"{1000 * row['seconds_each']:.3g}", plain or "–", share, row["peak_mib"]]


def checkpointing_rows(variant: Variant, name: str, place: MeasuredDevice, seconds: float) -> Iterator[list]:
    """Peak memory of a training step with and without checkpointing, at the same batch."""
    for checkpointing in (False, True):
        backbone = variant.params.backbone.model_copy(update={"checkpointing": checkpointing})
        params = variant.params.model_copy(update={"backbone": backbone, "compute": place.compute})
        for row in measured_rows(name, params, image_shape(variant), place, seconds / 2, set(), training=True):
            yield [name, row["what"], "yes" if checkpointing else "no", row["batch"], row["peak_mib"]]


def run(variants: dict[str, Variant], deep: dict[str, Variant], place: MeasuredDevice, seconds: float) -> Path:
    """Measure all, and write ``results/gpu/<device>.md``.

    Args:
        variants: label → the variants for agreement and costs.
        deep: label → variants with a backbone that has checkpointing.

    Raises:
        JebmError: the device differs from the CPU in fp32; the file is written nevertheless.
    """
    device = place.device
    on_gpu = device.type == "cuda"
    log(f"rates of {place.name} …")
    measured = rates(device, 8192 if on_gpu else 512, seconds / 60)
    agreed: list[Agreement] = []
    with tempfile.TemporaryDirectory(prefix="jebm-bench-") as folder:
        for name, variant in variants.items():
            log(f"agreement of {name} with the CPU …")
            agreed += agreement(name, variant.params, image_shape(variant), device, Path(folder))
    costs = list(cost_rows(variants, place, seconds / 2, measured))
    memory = [row for name, own in deep.items() for row in checkpointing_rows(own, name, place, seconds / 4)]
    path = RESULTS / "gpu" / f"{''.join(c if c.isalnum() else '-' for c in place.name).strip('-').lower()}.md"
    sections = {
        "Rates": (list(measured.items()), ["", "TFLOP/s; memory: GB/s"]),
        "Agreement with the CPU": ([[*row, row.verdict] for row in agreed], [*Agreement._fields, ""]),
        "Costs": (costs, ["variant", "what", "batch", "ms", "speed-up over plain", "TFLOP/s (of fp32)", "peak MiB"]),
        "Memory of a step": (memory, ["variant", "what", "checkpointing", "batch", "peak MiB"]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(f"# {place.name}\n\nBy `jebm gpu-check`; torch {torch.__version__}, {_host()}. Synthetic pixels.\n")
        for title, (rows, headers) in sections.items():
            file.write(f"\n## {title}\n\n{tabulate(rows, headers, 'pipe', floatfmt='.3g')}\n")
    if wrong := [f"{row.variant}: {row.what}" for row in agreed if row.verdict == "DIFFERS"]:
        raise JebmError(f"{path}: the device differs from the CPU by more than {TOLERANCE}: {'; '.join(wrong)}")
    return path


def _host() -> str:
    return f"{processor()}, {platform.system()}"

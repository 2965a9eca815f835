"""Metrics on disk: one small JSON file per job, in which each value has its sample count and its protocol.

A protocol is a set of facts that must be equal for two values to be comparable; its identity is a digest of them.
"""

from dataclasses import dataclass, field
from pathlib import Path

from jebm.config.types import DIMENSIONS
from jebm.errors import JebmError
from jebm.io.digests import digest
from jebm.io.files import read_json, write_json


def protocol_id(name: str, facts: dict) -> str:
    """A short name with a digest, as tables show it."""
    return f"{name}@{digest(facts)[:6]}"


@dataclass
class MetricRecord:
    """The values that one job measured, and their protocols."""

    seed: int
    values: list[dict] = field(default_factory=list)
    protocols: dict[str, dict] = field(default_factory=dict)
    timings: list[dict] = field(default_factory=list)
    """Measured times in seconds, and rates. They are separate from the values because they differ between runs."""

    def protocol(self, name: str, facts: dict) -> str:
        """Register a protocol and return its identity."""
        identity = protocol_id(name, facts)
        self.protocols[identity] = facts
        return identity

    def add(
        self,
        metric: str,
        value: float,
        n: int,
        protocol: str,
        interval: tuple[float, float] | None = None,
        **about: str | int,
    ) -> None:
        """Add a value measured on ``n`` items.

        Args:
            interval: lower and upper end of its confidence interval.
            about: what distinguishes it from other values of the metric (``DIMENSIONS``), and the identity of the
                ``samples`` or the ``prior`` if a job measures several.
        """
        ends = {} if interval is None else {"low": float(interval[0]), "high": float(interval[1])}
        row = {"metric": metric, **_known(about), "value": float(value), **ends, "n": n, "protocol": protocol}
        self.values.append(row)

    def time(self, metric: str, value: float, **about: str | int) -> None:
        """Add a measured time or rate."""
        self.timings.append({"metric": metric, **_known(about), "value": float(value)})

    def save(self, path: Path) -> None:
        write_json(
            path, {"seed": self.seed, "values": self.values, "protocols": self.protocols, "timings": self.timings}
        )


def _known(about: dict[str, str | int]) -> dict[str, str | int]:
    if unknown := about.keys() - {*DIMENSIONS}:
        raise TypeError(f"a value is distinguished by {', '.join(DIMENSIONS)}, not by {', '.join(unknown)}")
    return about


def load_record(path: Path) -> MetricRecord:
    content = read_json(path)
    try:
        return MetricRecord(content["seed"], content["values"], content["protocols"], content["timings"])
    except (KeyError, TypeError):
        raise JebmError(f"{path}: not a metric record of jebm; delete it and run again") from None

"""Compares the results of two versions of a study, and tests which differences exceed the noise over seeds."""

import json
import math
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from scipy.stats import ttest_ind, ttest_rel

from jebm.config.types import DIMENSIONS
from jebm.errors import JebmError
from jebm.metrics.catalogue import FLOOR, METRICS
from jebm.pipeline.stages import RESULTS
from jebm.report.frame import read_metrics

LEVEL = 0.95
LISTED = 20
"""Largest number of disagreements that are listed one by one."""
KEY = ["variant", "metric", *DIMENSIONS]
"""The columns that identify a value apart from its seed."""


@dataclass
class Comparison:
    """One metric of one variant, before (a) and after (b)."""

    variant: str
    metric: str
    set: str
    score: str
    layer: str
    step: str
    mean_a: float | None
    sd_a: float | None
    n_a: int
    mean_b: float | None
    sd_b: float | None
    n_b: int
    difference: float | None = None
    low: float | None = None
    """Lower end of the 95 % interval of the difference of the means."""
    high: float | None = None
    p_value: float | None = None
    paired: bool = False
    """Whether both sides have the same seeds, so that the interval is that of the differences seed by seed."""
    verdict: str = ""

    @property
    def of(self) -> str:
        """What the metric was measured on: set, score, layer and step."""
        return " ".join(filter(None, (self.set, self.score, self.layer, self.step)))


def load_version(where: str | None, study: str) -> pd.DataFrame:
    """The metrics of a study in the working tree (None), a folder of results, a git revision or a DVC experiment.

    Raises:
        JebmError: it is none of them, or has no results of this study.
    """
    path = RESULTS / study / "metrics.csv"
    if where is None:
        return _read(path.read_text(encoding="utf-8"), str(path)) if path.exists() else _none("the working tree", study)
    folder = Path(where)
    if folder.is_dir():
        found = [p for p in (folder / "metrics.csv", folder / study / "metrics.csv", folder / path) if p.exists()]
        return _read(found[0].read_text(encoding="utf-8"), str(found[0])) if found else _none(where, study)
    shown = subprocess.run(
        ["git", "show", f"{_revision(where)}:{path.as_posix()}"], capture_output=True, text=True, check=False
    )
    return _read(shown.stdout, f"{where}:{path}") if shown.returncode == 0 else _none(where, study, committed=True)


def _none(where: str, study: str, committed: bool = False):
    made = f"`snakemake --cores all {study}` makes it" + (", and it has to be committed" if committed else "")
    raise JebmError(f"{where} has no {RESULTS / study / 'metrics.csv'}; {made}")


def _revision(name: str) -> str:
    """The commit of a git revision, or of a DVC experiment by its name."""
    plain = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], capture_output=True, text=True, check=False
    )
    if plain.returncode == 0:
        return plain.stdout.strip()
    refs = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/exps"], capture_output=True, text=True, check=False
    )
    matches = [ref for ref in refs.stdout.split() if ref.rsplit("/", 1)[-1] == name]
    if not matches:
        raise JebmError(f"'{name}' is no folder, no git revision and no DVC experiment (see `dvc exp list`)")
    return matches[-1]


def _read(text: str, source: str) -> pd.DataFrame:
    frame = read_metrics(text, source)
    bad = frame[frame.value.isna() | frame.value.abs().eq(math.inf)]
    if len(bad):
        row = bad.iloc[0]
        raise JebmError(f"{source}: {row.metric} of {row.variant} at seed {row.seed} is not a finite number")
    return frame


def compare(a: pd.DataFrame, b: pd.DataFrame, metrics: set[str] | None = None) -> list[Comparison]:
    """Compare every metric of every variant.

    A verdict is ``better`` or ``worse`` if the difference is significant among all comparisons (Holm's procedure at a
    family-wise level of 5 %), and ``maybe better`` or ``maybe worse`` if only its own 95 % interval excludes 0, which
    one in twenty metrics does by chance. The interval is paired by seed if both sides have the same seeds, and Welch's
    otherwise. ``docs/tables.md`` states how often a difference is found.
    """
    sides = [dict(list(frame.groupby(KEY, sort=False))) for frame in (a, b)]
    rows = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        variant, metric, *_ = key
        if variant != FLOOR and not METRICS[metric].diagnostic and (not metrics or metric in metrics):
            rows.append(_compare(key, *(side.get(key) for side in sides)))
    _judge(rows)
    return rows


def _compare(key: tuple[str, ...], a: pd.DataFrame | None, b: pd.DataFrame | None) -> Comparison:
    stats = [(None, None, 0) if g is None else (g.value.mean(), _sd(g.value), len(g)) for g in (a, b)]
    row = Comparison(*key, *stats[0], *stats[1])
    if a is None or b is None:
        row.verdict = "only before" if b is None else "only after"
        return row
    if set(a.protocol) != set(b.protocol):
        row.verdict = (
            f"not comparable: protocol {'/'.join(sorted(set(a.protocol)))} against {'/'.join(sorted(set(b.protocol)))}"
        )
        return row
    row.difference = row.mean_b - row.mean_a
    if sorted(zip(a.seed, a.value, strict=True)) == sorted(zip(b.seed, b.value, strict=True)):
        row.verdict = "equal"
    elif row.n_a < 2 or row.n_b < 2:
        row.verdict = "too few seeds to tell"
    else:
        row.paired = sorted(a.seed) == sorted(b.seed) and a.seed.is_unique
        row.low, row.high, row.p_value = paired(a, b) if row.paired else welch(a.value, b.value)
    return row


def _sd(values: pd.Series) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def welch(a: pd.Series, b: pd.Series) -> tuple[float, float, float]:
    """Ends of the 95 % Welch interval of mean(b) − mean(a), and the two-sided p-value of no difference (Welch,
    1947)."""
    if a.nunique() == b.nunique() == 1:  # no noise over seeds
        difference = b.iloc[0] - a.iloc[0]
        return difference, difference, float(difference == 0)
    test = ttest_ind(b, a, equal_var=False)
    interval = test.confidence_interval(LEVEL)
    return float(interval.low), float(interval.high), float(test.pvalue)


def paired(a: pd.DataFrame, b: pd.DataFrame) -> tuple[float, float, float]:
    """Ends of the 95 % interval of the mean difference b − a seed by seed, and the two-sided p-value of no difference
    (Student's t-test of the differences). Runs at one seed share much of their noise, which cancels."""
    differences = b.set_index("seed").value - a.set_index("seed").value
    if differences.max() - differences.min() <= 1e-12 * differences.abs().max():  # no noise over seeds
        return differences.iloc[0], differences.iloc[0], float(differences.iloc[0] == 0)
    test = ttest_rel(b.sort_values("seed").value, a.sort_values("seed").value)
    interval = test.confidence_interval(LEVEL)
    return float(interval.low), float(interval.high), float(test.pvalue)


def renamed_steps(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """One line for each variant whose name gave the steps of its sampler before (``short-run-k10``), but not after."""
    steps = [frame[frame.metric == "langevin_steps"].groupby("variant").value.max() for frame in (a, b)]
    lines = []
    for variant, now in steps[1].items():
        named = re.search(r"(?:^|-)k(\d+)(?=-|$)", variant)
        if named and steps[0].get(variant) == int(named[1]) != now:
            lines.append(f"note: {variant} has {now:.0f} steps now, which its name denies; call it k{now:.0f}")
    return lines


def _judge(rows: list[Comparison]) -> None:
    """Set the verdicts of the rows that were tested."""
    tested = sorted((row for row in rows if row.p_value is not None), key=lambda row: row.p_value)
    holds = True
    for rank, row in enumerate(tested):
        holds = holds and row.p_value <= (1 - LEVEL) / (len(tested) - rank)
        if row.p_value > 1 - LEVEL:
            row.verdict = "no change seen"
            continue
        better = METRICS[row.metric].better
        direction = "changed" if not better else "better" if row.difference * better > 0 else "worse"
        row.verdict = direction if holds else f"maybe {direction}"


def as_text(rows: list[Comparison], names: tuple[str, str], style: str = "simple") -> str:
    """The rows that are not equal as a table (``style`` as in tabulate), and a line that counts the verdicts."""
    shown = [row for row in rows if row.verdict != "equal"]
    columns = ["variant", "metric", names[0], names[1], "difference", "95 % interval", "verdict"]
    table = pd.DataFrame([_text_row(row) for row in shown], columns=columns)
    counts = pd.Series([row.verdict.partition(":")[0] for row in rows], dtype=str).value_counts()
    kinds = {True: "paired by seed", False: "Welch's, since the seeds differ"}
    used = [kinds[kind] for kind in (True, False) if any(row.paired is kind and row.low is not None for row in rows)]
    how = f" Intervals: {'; '.join(used)}." if used else ""
    summary = (
        f"{len(rows)} metrics: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + "." + how
    )
    if not shown:
        return summary
    return f"{table.to_markdown(index=False, tablefmt=style, disable_numparse=True)}\n\n{summary}"


def _text_row(row: Comparison) -> list[str]:
    def number(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{value * known.scale:{sign}.{known.digits}f}"

    known = METRICS[row.metric]

    def stats(mean, sd, n):
        return "–" if mean is None else f"{number(mean)} ± {number(sd)} (n = {n})"

    label = f"{known.label} {row.of}".rstrip()
    interval = "–" if row.low is None else f"[{number(row.low, '+')}, {number(row.high, '+')}]"
    before, after = stats(row.mean_a, row.sd_a, row.n_a), stats(row.mean_b, row.sd_b, row.n_b)
    return [row.variant, label, before, after, number(row.difference, "+"), interval, row.verdict]


def as_json(rows: list[Comparison], names: tuple[str, str]) -> str:
    return json.dumps(
        {"a": names[0], "b": names[1], "level": LEVEL, "metrics": [asdict(row) for row in rows]}, indent=1
    )


def agreement(recorded: pd.DataFrame, fresh: pd.DataFrame, tolerance: float = 1e-6) -> str:
    """Compare fresh results with recorded ones, value by value at each seed.

    Values agree if they are equal within a relative ``tolerance``, which one machine does. Another processor rounds
    differently, and training amplifies that; if values disagree, the means over seeds are compared.
    """
    keys = ["seed", *KEY]
    # A study with several datasets has one floor per dataset under the same name; their order distinguishes them.
    sides = [frame.assign(position=frame.groupby(keys, dropna=False).cumcount()) for frame in (recorded, fresh)]
    both = sides[0].merge(sides[1], on=[*keys, "position"], suffixes=("_a", "_b"), how="outer", indicator=True)
    common = both[both._merge == "both"]
    near = (common.value_a - common.value_b).abs() <= tolerance * common[["value_a", "value_b"]].abs().max(axis=1)
    lines = [f"Recorded results: {int(near.sum())} of {len(common)} values agree within {tolerance:g} on this machine."]
    if len(common) < len(both):
        lines.append(f"{len(both) - len(common)} values exist only on one side.")
    if not near.all():
        rows = compare(recorded, fresh)
        foreign = [row for row in rows if row.verdict.startswith("not comparable")]
        off = [row for row in rows if row.verdict not in ("equal", "no change seen") and row not in foreign]
        compared = len(rows) - len(foreign)
        if foreign:
            lines.append(f"{len(foreign)} means over seeds were recorded under another protocol: not compared.")
        within = compared - len(off)
        lines.append(f"Of {compared} means over seeds, {within} differ by no more than the noise over seeds.")
        for row in off[:LISTED]:
            lines.append(f"  {row.variant} {row.metric} {row.of}: {row.mean_a} → {row.mean_b} ({row.verdict})")
        lines += [f"  … and {len(off) - LISTED} more; see `jebm diff HEAD`"] if len(off) > LISTED else []
    return "\n".join(lines)

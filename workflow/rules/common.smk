# Functions that the rules share. jebm.pipeline decides by content which results are fresh, and tells Snakemake by one
# stamp per job; see jebm/pipeline/stamps.py.
import re
import textwrap

from jebm.config.catalogue import FIGURES
from jebm.config.source import description
from jebm.pipeline.resources import REPORT_REQUEST
from jebm.pipeline.stages import STAMPS

FLOW = or_one_line(planned)
DEFAULT_STUDIES, CORE_STUDIES = FLOW.params.default_studies, FLOW.params.core_studies


envvars:
    "JEBM_WORKFLOW",


wildcard_constraints:
    study="|".join(map(re.escape, FLOW.plans)),
    name="[^/]+",
    id="[0-9a-f]{10}",
    seed="[0-9]+",


def job_of(wildcards):
    """The job of a stage, by the identity and the seed in its path."""
    seed = int(wildcards.seed) if hasattr(wildcards, "seed") else None
    return or_one_line(FLOW.stage_job, wildcards.id, seed)


def report_job(rule, name=None):
    """An input function's argument: finds the job of a rule that writes to results/."""
    return lambda wildcards: or_one_line(FLOW.report_job, rule, f"{wildcards.study}/{name or wildcards.name}")


def reads(role, job=job_of):
    """An input function: the files that a job reads in a role. Their contents count, not their times: see the stamp.

    Files that another job is about to make are not `ancient`. If a job depends on one that runs, Snakemake does not
    check its stamp, but relies on the new files to trigger it, which `ancient` would prevent.
    """

    def files(wildcards):
        paths = or_one_line(FLOW.inputs, job(wildcards), role)
        return [path if FLOW.has_to_be_made(path) else ancient(path) for path in paths]

    return files


def all_files(studies):
    """An input function: all files of studies."""
    return lambda wildcards: [path for study in studies for path in or_one_line(FLOW.targets, study)]


def needed_assets(studies):
    """An input function: the external files that studies need."""
    return lambda wildcards: or_one_line(FLOW.assets, studies)


def cores(wildcards):
    """The threads of all processes of a stage."""
    return job_of(wildcards).devices * job_of(wildcards).threads


def asks(what):
    """A resource function: what a job asks for, by jebm.pipeline.resources.

    Snakemake cuts a request to the limit of the run (`--resources`) without a word. Here that is an error, because the
    job would then get less than it uses.
    """

    def value(wildcards, attempt):
        limit = workflow.global_resources.get(what) if FLOW.planning else None
        return or_one_line(FLOW.asks, job_of(wildcards), what, attempt, limit and limit.value)

    return value


REQUEST = {what: asks(what) for what in ("gpu", "mem_mb", "runtime")}
"""The resources of the rules of stages, by their names in Snakemake."""
if workflow.non_local_exec and FLOW.params.runtime.gpu_request != "gpus":
    REQUEST.pop("gpu")  # it would become --gpus
    REQUEST |= {"gres": asks("gres")} if FLOW.params.runtime.gpu_request == "gres" else {"slurm_extra": asks("extra")}


def table_of(wildcards):
    """The definition of a table."""
    return FLOW.plans[wildcards.study].study.tables[wildcards.name]


def label(name, text, most=90):
    """What the lists of the report say of a table or figure: its name, and the first sentence of its caption.

    One label, because the report makes a switch of a second one where a study has two tables or two figures.
    """
    sentence = text.partition(". ")[0].rstrip(".")
    return {"what": f"{name}: {textwrap.shorten(sentence, most, placeholder=' …')}"}

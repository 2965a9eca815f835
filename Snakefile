# The whole study: raw data → training → samples → metrics → tables, figures and report.
#   snakemake --cores all                                    everything in default_studies of params.yaml
#   snakemake --cores all results/digits/tables/main.md      one target and what it needs
#   snakemake --cores all depth                              one study; `core`: those of core_studies
#   snakemake --cores all tables                             all tables; `figures`: all figures
#   snakemake --cores 1 assets                               fetch what default_studies need; `assets_<study>`: one study
#   snakemake --cores all benchmark                          what all studies cost on this machine, by the clock
#   snakemake -n                                             what would run
#   snakemake --cores all --configfile mine.yaml             the studies of another parameter file
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/parameters.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/assets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/bench.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/run.smk"


report: report_page()


rule all:
    default_target: True
    input:
        all_files(DEFAULT_STUDIES),


rule core:
    input:
        all_files(CORE_STUDIES),

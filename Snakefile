# The whole study: raw data → training → samples → metrics → tables, figures and report.
#   snakemake --cores all                                    everything in default_studies of params.yaml
#   snakemake --cores all results/digits/tables/main.md      one target and what it needs
#   snakemake --cores all core                               only core_studies
#   snakemake --cores all depth                              one study
#   snakemake --cores all tables                             all tables; `figures`: all figures
#   snakemake --cores 1 assets                               fetch the files from outside that default_studies need;
#                                                            `assets_<study>`: those of one study
#   snakemake --cores all benchmark                          what all studies cost on this machine, by the clock
#   snakemake -n                                             what would run
#   snakemake --cores all --configfile mine.yaml             the studies of another parameter file
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"


configfile: PARAMS_FILE  # params.yaml, or what --configfile names


include: "workflow/rules/assets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/bench.smk"


report: "workflow/report/study.rst"


rule all:
    default_target: True
    input:
        [path for name in DEFAULT_STUDIES for path in targets(PLANS[name])],


rule core:
    input:
        [path for name in CORE_STUDIES for path in targets(PLANS[name])],


for study_name in PLANS:

    rule:
        name:
            study_name
        input:
            targets(PLANS[study_name]),


rule benchmark:
    input:
        expand("logs/bench/{study}.measured", study=PLANS),


rule tables:
    input:
        [path for name in DEFAULT_STUDIES for path in rendered(PLANS[name], "table")],


rule figures:
    input:
        [path for name in DEFAULT_STUDIES for path in rendered(PLANS[name], "figure")],


onstart:
    for line in keep_aside(STATUSES, PARAMETERS.runtime.keep_aside_hours):
        print(line, file=sys.stderr)
    start_server()
    start_at_once()


onsuccess:
    stop_server()
    show_results()


onerror:
    stop_server()

rule collect_metrics:
    """All values of all runs in one table."""
    input:
        floor=lambda wildcards: PLANS[wildcards.study].floor_files(),
        metrics=lambda wildcards: sorted({path for _, path in PLANS[wildcards.study].metric_files()}),
        records=lambda wildcards: sorted({path for *_, path in PLANS[wildcards.study].record_files()}),
    output:
        csv="results/{study}/metrics.csv",
        json="results/{study}/metrics.json",
        protocols="results/{study}/protocols.json",
        timings="results/{study}/timings.csv",
        provenance="runs/report/{study}/collect_metrics.json",
    log:
        "logs/collect_metrics/{study}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm collect-metrics {wildcards.study} > {log} 2>&1"


rule collect_plots:
    """The small tables behind `dvc plots`."""
    input:
        "results/{study}/metrics.csv",
        "results/{study}/timings.csv",
        lambda wildcards: PLANS[wildcards.study].prior_histories(),
    output:
        steps="results/{study}/plots/langevin-steps.csv",
        training="results/{study}/plots/training.csv",
        provenance="runs/report/{study}/collect_plots.json",
    log:
        "logs/collect_plots/{study}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm collect-plots {wildcards.study} > {log} 2>&1"


rule render_table:
    """One table as Markdown, CSV and LaTeX."""
    input:
        "results/{study}/metrics.csv",
        "results/{study}/timings.csv",
    output:
        csv=report("results/{study}/tables/{name}.csv", caption="../report/table.rst", category="{study} tables"),
        md="results/{study}/tables/{name}.md",
        tex="results/{study}/tables/{name}.tex",
        provenance="runs/report/{study}/render_table-{name}.json",
    log:
        "logs/render_table/{study}-{name}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        spec=lambda wildcards: PLANS[wildcards.study].study.tables[wildcards.name].model_dump(mode="json"),
    shell:
        "jebm render-table {wildcards.study} {wildcards.name} > {log} 2>&1"


rule render_figure:
    """One figure as PNG and PDF."""
    input:
        lambda wildcards: PLANS[wildcards.study].figure_files(wildcards.name),
    output:
        png=report("results/{study}/figures/{name}.png", caption="../report/figure.rst", category="{study} figures"),
        pdf="results/{study}/figures/{name}.pdf",
        provenance="runs/report/{study}/render_figure-{name}.json",
    log:
        "logs/render_figure/{study}-{name}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        variants=lambda wildcards: PLANS[wildcards.study].study.figures[wildcards.name],
        caption=lambda wildcards: description(FIGURES[wildcards.name][0]),
    shell:
        "jebm render-figure {wildcards.study} {wildcards.name} > {log} 2>&1"

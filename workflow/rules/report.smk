rule collect_metrics:
    """Collect the values of all runs of a study in one table. The other rules here inherit the command of this rule."""
    input:
        floor=reads("floor", report_job("collect_metrics", "metrics")),
        metrics=reads("metrics", report_job("collect_metrics", "metrics")),
        records=reads("records", report_job("collect_metrics", "metrics")),
        stamp=f"{STAMPS}/collect_metrics/{{study}}/metrics",
    output:
        csv="results/{study}/metrics.csv",
        json="results/{study}/metrics.json",
        protocols="results/{study}/protocols.json",
        timings="results/{study}/timings.csv",
        provenance="runs/collect_metrics/{study}/metrics.json",
    log:
        "logs/collect_metrics/{study}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        job="collect_metrics {study}/metrics",
    shell:
        "jebm run {params.job} > {log} 2>&1"


use rule collect_metrics as collect_plots with:
    # Collect the small tables for `dvc plots`.
    input:
        metrics=reads("metrics", report_job("collect_plots", "plots")),
        histories=reads("histories", report_job("collect_plots", "plots")),
        stamp=f"{STAMPS}/collect_plots/{{study}}/plots",
    output:
        steps="results/{study}/plots/langevin-steps.csv",
        training="results/{study}/plots/training.csv",
        provenance="runs/collect_plots/{study}/plots.json",
    log:
        "logs/collect_plots/{study}.log",
    params:
        job="collect_plots {study}/plots",


use rule collect_metrics as render_table with:
    # Render one table as Markdown, CSV and LaTeX.
    input:
        metrics=reads("metrics", report_job("render_table")),
        stamp=f"{STAMPS}/render_table/{{study}}/{{name}}",
    output:
        csv=report("results/{study}/tables/{name}.csv", caption="../report/table.rst", category="{study} tables"),
        md="results/{study}/tables/{name}.md",
        tex="results/{study}/tables/{name}.tex",
        provenance="runs/render_table/{study}/{name}.json",
    log:
        "logs/render_table/{study}-{name}.log",
    params:
        job="render_table {study}/{name}",
        spec=lambda wildcards: FLOW.plans[wildcards.study].study.tables[wildcards.name].model_dump(mode="json"),


use rule collect_metrics as render_figure with:
    # Render one figure as PNG and PDF.
    input:
        metrics=reads("metrics", report_job("render_figure")),
        runs=reads("runs", report_job("render_figure")),
        stamp=f"{STAMPS}/render_figure/{{study}}/{{name}}",
    output:
        png=report("results/{study}/figures/{name}.png", caption="../report/figure.rst", category="{study} figures"),
        pdf="results/{study}/figures/{name}.pdf",
        provenance="runs/render_figure/{study}/{name}.json",
    log:
        "logs/render_figure/{study}-{name}.log",
    params:
        job="render_figure {study}/{name}",
        variants=lambda wildcards: FLOW.plans[wildcards.study].study.figures[wildcards.name],
        caption=lambda wildcards: description(FIGURES[wildcards.name][0]),


rule tables:
    input:
        FLOW.rendered(DEFAULT_STUDIES, "table"),


rule figures:
    input:
        FLOW.rendered(DEFAULT_STUDIES, "figure"),

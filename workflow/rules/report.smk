# These take a second or two: where each job waits in a queue, they run beside Snakemake.
localrules:
    collect_metrics,
    collect_plots,
    render_table,
    render_figure,


rule collect_metrics:
    """Collect the values of all runs of a study in one table. The other rules here inherit the command of this rule."""
    input:
        floor=reads("floor", report_job("collect_metrics", "metrics")),
        metrics=reads("metrics", report_job("collect_metrics", "metrics")),
        records=reads("records", report_job("collect_metrics", "metrics")),
        scores=reads("scores", report_job("collect_metrics", "metrics")),
        stamp=f"{STAMPS}/collect_metrics/{{study}}/metrics",
    output:
        csv="results/{study}/metrics.csv",
        json="results/{study}/metrics.json",
        protocols="results/{study}/protocols.json",
        provenance="runs/collect_metrics/{study}/metrics.json",
    log:
        "logs/collect_metrics/{study}.log",
    conda:
        "../envs/jebm.yaml"
    resources:
        **REPORT_REQUEST,
    params:
        job="collect_metrics {study}/metrics",
    shell:
        "exec jebm run {params.job} > {log} 2>&1"


use rule collect_metrics as collect_plots with:
    # Collect the small tables for `dvc plots`, and tell DVC of them.
    input:
        metrics=reads("metrics", report_job("collect_plots", "plots")),
        histories=reads("histories", report_job("collect_plots", "plots")),
        stamp=f"{STAMPS}/collect_plots/{{study}}/plots",
    output:
        steps="results/{study}/plots/langevin-steps.csv",
        training="results/{study}/plots/training.csv",
        dvc="results/{study}/dvc.yaml",
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
        csv="results/{study}/tables/{name}.csv",
        md="results/{study}/tables/{name}.md",
        tex="results/{study}/tables/{name}.tex",
        page=report(
            "runs/render_table/{study}/{name}.html",
            caption="../report/table.rst",
            category="{study}",
            subcategory="tables",
            labels=lambda wildcards: label(wildcards.name, table_of(wildcards).caption),
        ),
        provenance="runs/render_table/{study}/{name}.json",
    log:
        "logs/render_table/{study}-{name}.log",
    params:
        job="render_table {study}/{name}",
        spec=lambda wildcards: table_of(wildcards).model_dump(mode="json"),


use rule collect_metrics as render_figure with:
    # Render one figure as PNG and PDF.
    input:
        metrics=reads("metrics", report_job("render_figure")),
        runs=reads("runs", report_job("render_figure")),
        stamp=f"{STAMPS}/render_figure/{{study}}/{{name}}",
    output:
        png=report(
            "results/{study}/figures/{name}.png",
            caption="../report/figure.rst",
            category="{study}",
            subcategory="figures",
            labels=lambda wildcards: label(wildcards.name, description(FIGURES[wildcards.name][0])),
        ),
        pdf="results/{study}/figures/{name}.pdf",
        provenance="runs/render_figure/{study}/{name}.json",
    log:
        "logs/render_figure/{study}-{name}.log",
    params:
        job="render_figure {study}/{name}",
        variants=lambda wildcards: FLOW.plans[wildcards.study].study.figures[wildcards.name],
        caption=lambda wildcards: description(FIGURES[wildcards.name][0]),

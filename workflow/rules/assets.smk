# Files from outside. They are fetched where Snakemake itself runs: compute nodes may have no network.
localrules:
    fetch_asset,


rule fetch_asset:
    """A file from outside, by its url, size and digest in params.yaml; the command itself tries again where that helps."""
    output:
        # `update`: Snakemake deletes other outputs before it makes them anew, and this one may have been put in place
        # by hand.
        update("assets/{file}"),
    log:
        "logs/fetch_asset/{file}.log",
    wildcard_constraints:
        file="|".join(re.escape(asset.file) for asset in FLOW.params.assets.values()) or "none",
    conda:
        "../envs/jebm.yaml"
    params:
        name=lambda wildcards: next(n for n, a in FLOW.params.assets.items() if a.file == wildcards.file),
    shell:
        "jebm fetch-asset {params.name} 2>&1 | tee {log}"


rule assets:
    input:
        needed_assets(DEFAULT_STUDIES),


for study_name in FLOW.plans:

    rule:
        name:
            f"assets_{study_name}"
        input:
            needed_assets([study_name]),

# External files. They are downloaded where Snakemake itself runs, because compute nodes may have no network.
localrules:
    fetch_asset,


rule fetch_asset:
    """Download an external file and verify its size and digest; the command itself repeats failed attempts."""
    output:
        # Without `update` Snakemake would delete the file before the rule runs, but a user may have put it in place.
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

rule prepare_dataset:
    """Raw data → one file of images and its manifest."""
    input:
        inputs_of("dataset"),
    output:
        images="data/{name}-{id}/images.safetensors",
        manifest="data/{name}-{id}/manifest.json",
        provenance="data/{name}-{id}/provenance.json",
    log:
        "logs/prepare_dataset/{name}-{id}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("dataset"),
    shell:
        "jebm prepare-dataset {params.study} --id {wildcards.id} > {log} 2>&1"

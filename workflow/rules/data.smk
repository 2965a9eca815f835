rule prepare_dataset:
    """Convert raw data to one file of images and its manifest. All other stages inherit the command of this rule."""
    input:
        outside=reads("outside"),
        stamp=f"{STAMPS}/prepare_dataset/{{name}}-{{id}}",
    output:
        images="data/{name}-{id}/images.safetensors",
        manifest="data/{name}-{id}/manifest.json",
        provenance="data/{name}-{id}/provenance.json",
    log:
        "logs/prepare_dataset/{name}-{id}.log",
    conda:
        "../envs/jebm.yaml"
    threads: cores
    resources:
        **REQUEST,
    params:
        job="prepare_dataset {name}-{id}",
    shell:
        "exec jebm run {params.job} > {log} 2>&1"

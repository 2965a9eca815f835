rule draw_samples:
    """Images from one prior by one sampler."""
    input:
        inputs_of("samples"),
    output:
        samples="runs/samples-{id}/seed{seed}/samples.safetensors",
        provenance="runs/samples-{id}/seed{seed}/provenance.json",
    log:
        "logs/draw_samples/{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    threads: cores("samples")
    resources:
        gpu=gpus("samples"),
    params:
        study=named("samples"),
        launcher=launcher("samples"),
    shell:
        "{params.launcher} draw-samples {params.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"


rule resample_layers:
    """Samples with one layer redrawn and the others kept."""
    input:
        inputs_of("layers"),
    output:
        arrays="runs/layers-{id}/seed{seed}/arrays.safetensors",
        provenance="runs/layers-{id}/seed{seed}/provenance.json",
    log:
        "logs/resample_layers/{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    threads: cores("layers")
    resources:
        gpu=gpus("layers"),
    params:
        study=named("layers"),
    shell:
        "jebm resample-layers {params.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"

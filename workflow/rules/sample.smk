rule draw_samples:
    """Images from one prior by one sampler."""
    input:
        inputs_of("samples"),
    output:
        samples="runs/{study}/samples-{id}/seed{seed}/samples.safetensors",
        provenance="runs/{study}/samples-{id}/seed{seed}/provenance.json",
    log:
        "logs/draw_samples/{study}-{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm draw-samples {wildcards.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"


rule resample_layers:
    """Samples with one layer redrawn and the others kept."""
    input:
        inputs_of("layers"),
    output:
        arrays="runs/{study}/layers-{id}/seed{seed}/arrays.safetensors",
        provenance="runs/{study}/layers-{id}/seed{seed}/provenance.json",
    log:
        "logs/resample_layers/{study}-{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm resample-layers {wildcards.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"

rule evaluate_samples:
    """Fréchet and kernel distance to held-out images, for all variants of a seed."""
    input:
        inputs_of("sample-metrics"),
    output:
        metrics="runs/{study}/sample-metrics-{id}/seed{seed}/metrics.json",
        provenance="runs/{study}/sample-metrics-{id}/seed{seed}/provenance.json",
    log:
        "logs/evaluate_samples/{study}-{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm evaluate-samples {wildcards.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"


rule evaluate_floor:
    """The same distances, real images against real images."""
    input:
        inputs_of("floor"),
    output:
        metrics="runs/{study}/floor-{id}/metrics.json",
        provenance="runs/{study}/floor-{id}/provenance.json",
    log:
        "logs/evaluate_floor/{study}-{id}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm evaluate-floor {wildcards.study} --id {wildcards.id} > {log} 2>&1"


rule evaluate_density:
    """For all priors of a backbone: bounds on log p(x), the partition function, and outlier detection."""
    input:
        inputs_of("density-metrics"),
    output:
        metrics="runs/{study}/density-metrics-{id}/seed{seed}/metrics.json",
        arrays="runs/{study}/density-metrics-{id}/seed{seed}/arrays.safetensors",
        provenance="runs/{study}/density-metrics-{id}/seed{seed}/provenance.json",
    log:
        "logs/evaluate_density/{study}-{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm evaluate-density {wildcards.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"

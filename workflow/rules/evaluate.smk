rule reference_statistics:
    """Mean and covariance of the features of the images that samples are compared with, once for all of them."""
    input:
        inputs_of("reference"),
    output:
        statistics="runs/reference-{id}/statistics.safetensors",
        provenance="runs/reference-{id}/provenance.json",
    log:
        "logs/reference_statistics/{id}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("reference"),
    shell:
        "jebm reference-statistics {params.study} --id {wildcards.id} > {log} 2>&1"


rule evaluate_samples:
    """Fréchet and kernel distance to held-out images, for all variants of a seed."""
    input:
        inputs_of("sample-metrics"),
    output:
        metrics="runs/sample-metrics-{id}/seed{seed}/metrics.json",
        provenance="runs/sample-metrics-{id}/seed{seed}/provenance.json",
    log:
        "logs/evaluate_samples/{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("sample-metrics"),
    shell:
        "jebm evaluate-samples {params.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"


rule evaluate_floor:
    """The same distances, real images against real images."""
    input:
        inputs_of("floor"),
    output:
        metrics="runs/floor-{id}/metrics.json",
        provenance="runs/floor-{id}/provenance.json",
    log:
        "logs/evaluate_floor/{id}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("floor"),
    shell:
        "jebm evaluate-floor {params.study} --id {wildcards.id} > {log} 2>&1"


rule evaluate_density:
    """For all priors of a backbone: bounds on log p(x), the partition function, and outlier detection."""
    input:
        inputs_of("density-metrics"),
    output:
        metrics="runs/density-metrics-{id}/seed{seed}/metrics.json",
        arrays="runs/density-metrics-{id}/seed{seed}/arrays.safetensors",
        provenance="runs/density-metrics-{id}/seed{seed}/provenance.json",
    log:
        "logs/evaluate_density/{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("density-metrics"),
    shell:
        "jebm evaluate-density {params.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"


rule evaluate:
    """One of the further evaluations that a variant asks for."""
    input:
        inputs_of("evaluation"),
    output:
        metrics="runs/evaluation-{id}/seed{seed}/metrics.json",
        arrays="runs/evaluation-{id}/seed{seed}/arrays.safetensors",
        provenance="runs/evaluation-{id}/seed{seed}/provenance.json",
    log:
        "logs/evaluate/{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("evaluation"),
    shell:
        "jebm evaluate {params.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"

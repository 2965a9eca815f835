rule evaluate_samples:
    """Fréchet and kernel distance to held-out images, for all variants that sample one prior."""
    input:
        files_of("dataset", of="sample-metrics"),
        files_of("features", of="sample-metrics"),
        samples=lambda wildcards: [
            path
            for id in stage_of(wildcards, "sample-metrics").spec["samples"]
            for path in PLANS[wildcards.study].find("samples", id).samples.content_files(wildcards.seed)
        ],
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
        files_of("dataset", of="floor"),
        files_of("features", of="floor"),
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
    """Bounds on log p(x), the partition function, and outlier detection."""
    input:
        files_of("dataset", of="density-metrics"),
        files_of("backbone", of="density-metrics"),
        files_of("prior", of="density-metrics"),
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

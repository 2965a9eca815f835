rule train_features:
    """The classifier that the Fréchet and kernel distances look through."""
    input:
        inputs_of("features"),
    output:
        weights="runs/{study}/features-{id}/weights.safetensors",
        history="runs/{study}/features-{id}/history.csv",
        record="runs/{study}/features-{id}/record.json",
        provenance="runs/{study}/features-{id}/provenance.json",
    log:
        "logs/train_features/{study}-{id}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm train-features {wildcards.study} --id {wildcards.id} > {log} 2>&1"


rule train_backbone:
    """Stage 1: the hierarchy and its inference network by the ELBO."""
    input:
        inputs_of("backbone"),
    output:
        weights="runs/{study}/backbone-{id}/seed{seed}/weights.safetensors",
        history="runs/{study}/backbone-{id}/seed{seed}/history.csv",
        record="runs/{study}/backbone-{id}/seed{seed}/record.json",
        provenance="runs/{study}/backbone-{id}/seed{seed}/provenance.json",
    log:
        "logs/train_backbone/{study}-{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm train-backbone {wildcards.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"


rule train_prior:
    """Stage 2: what the prior has to learn, on the frozen backbone."""
    input:
        inputs_of("prior"),
    output:
        weights="runs/{study}/prior-{id}/seed{seed}/weights.safetensors",
        history="runs/{study}/prior-{id}/seed{seed}/history.csv",
        record="runs/{study}/prior-{id}/seed{seed}/record.json",
        provenance="runs/{study}/prior-{id}/seed{seed}/provenance.json",
    log:
        "logs/train_prior/{study}-{id}-seed{seed}.log",
    conda:
        "../envs/jebm.yaml"
    shell:
        "jebm train-prior {wildcards.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"

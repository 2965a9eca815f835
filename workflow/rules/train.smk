# What takes long starts first, so that no core waits for it at the end.
rule train_features:
    """The classifier that the Fréchet and kernel distances look through."""
    input:
        inputs_of("features"),
    output:
        weights="runs/features-{id}/weights.safetensors",
        history="runs/features-{id}/history.csv",
        record="runs/features-{id}/record.json",
        provenance="runs/features-{id}/provenance.json",
    log:
        "logs/train_features/{id}.log",
    priority: 60
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("features"),
    shell:
        "jebm train-features {params.study} --id {wildcards.id} > {log} 2>&1"


rule train_backbone:
    """Stage 1: the hierarchy and its inference network by the ELBO."""
    input:
        inputs_of("backbone"),
    output:
        weights="runs/backbone-{id}/seed{seed}/weights.safetensors",
        history="runs/backbone-{id}/seed{seed}/history.csv",
        record="runs/backbone-{id}/seed{seed}/record.json",
        provenance="runs/backbone-{id}/seed{seed}/provenance.json",
    log:
        "logs/train_backbone/{id}-seed{seed}.log",
    priority: 60
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("backbone"),
    shell:
        "jebm train-backbone {params.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"


rule import_backbone:
    """Instead of stage 1: the weights of a backbone that was trained elsewhere."""
    input:
        inputs_of("imported"),
    output:
        weights="runs/imported-{id}/weights.safetensors",
        record="runs/imported-{id}/record.json",
        provenance="runs/imported-{id}/provenance.json",
    log:
        "logs/import_backbone/{id}.log",
    priority: 60
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("imported"),
    shell:
        "jebm import-backbone {params.study} --id {wildcards.id} > {log} 2>&1"


rule train_prior:
    """Stage 2: what the prior has to learn, on the frozen backbone."""
    input:
        inputs_of("prior"),
    output:
        weights="runs/prior-{id}/seed{seed}/weights.safetensors",
        history="runs/prior-{id}/seed{seed}/history.csv",
        record="runs/prior-{id}/seed{seed}/record.json",
        provenance="runs/prior-{id}/seed{seed}/provenance.json",
    log:
        "logs/train_prior/{id}-seed{seed}.log",
    priority: 50
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("prior"),
    shell:
        "jebm train-prior {params.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"


rule train_joint:
    """Hierarchy, inference network and energies at once."""
    input:
        inputs_of("joint"),
    output:
        weights="runs/joint-{id}/seed{seed}/weights.safetensors",
        prior="runs/joint-{id}/seed{seed}/prior.safetensors",
        history="runs/joint-{id}/seed{seed}/history.csv",
        record="runs/joint-{id}/seed{seed}/record.json",
        provenance="runs/joint-{id}/seed{seed}/provenance.json",
    log:
        "logs/train_joint/{id}-seed{seed}.log",
    priority: 50
    conda:
        "../envs/jebm.yaml"
    params:
        study=named("joint"),
    shell:
        "jebm train-joint {params.study} --id {wildcards.id} --seed {wildcards.seed} > {log} 2>&1"

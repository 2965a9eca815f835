# Long jobs start first, so that the other cores do not have to wait for them at the end.
use rule prepare_dataset as train_features with:
    # The feature space of the Fréchet and kernel distances.
    input:
        outside=reads("outside"),
        dataset=reads("dataset"),
        stamp=f"{STAMPS}/train_features/{{name}}-{{id}}",
    output:
        weights="runs/train_features/{name}-{id}/weights.safetensors",
        history="runs/train_features/{name}-{id}/history.csv",
        record="runs/train_features/{name}-{id}/record.json",
        provenance="runs/train_features/{name}-{id}/provenance.json",
    log:
        "logs/train_features/{name}-{id}.log",
    priority: 60
    params:
        job="train_features {name}-{id}",


use rule prepare_dataset as train_backbone with:
    # Stage 1: train the hierarchy and its inference network by the ELBO.
    input:
        dataset=reads("dataset"),
        stamp=f"{STAMPS}/train_backbone/{{name}}-{{id}}/seed{{seed}}",
    output:
        weights="runs/train_backbone/{name}-{id}/seed{seed}/weights.safetensors",
        history="runs/train_backbone/{name}-{id}/seed{seed}/history.csv",
        record="runs/train_backbone/{name}-{id}/seed{seed}/record.json",
        provenance="runs/train_backbone/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/train_backbone/{name}-{id}-seed{seed}.log",
    priority: 60
    params:
        job="train_backbone {name}-{id}/seed{seed}",


use rule prepare_dataset as import_backbone with:
    # Instead of stage 1: import the weights of a backbone that was trained elsewhere.
    input:
        outside=reads("outside"),
        dataset=reads("dataset"),
        stamp=f"{STAMPS}/import_backbone/{{name}}-{{id}}",
    output:
        weights="runs/import_backbone/{name}-{id}/weights.safetensors",
        record="runs/import_backbone/{name}-{id}/record.json",
        provenance="runs/import_backbone/{name}-{id}/provenance.json",
    log:
        "logs/import_backbone/{name}-{id}.log",
    priority: 60
    params:
        job="import_backbone {name}-{id}",


use rule train_backbone as train_prior with:
    # Stage 2: train the prior on the frozen backbone.
    input:
        dataset=reads("dataset"),
        backbone=reads("backbone"),
        stamp=f"{STAMPS}/train_prior/{{name}}-{{id}}/seed{{seed}}",
    output:
        weights="runs/train_prior/{name}-{id}/seed{seed}/weights.safetensors",
        history="runs/train_prior/{name}-{id}/seed{seed}/history.csv",
        record="runs/train_prior/{name}-{id}/seed{seed}/record.json",
        provenance="runs/train_prior/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/train_prior/{name}-{id}-seed{seed}.log",
    priority: 50
    params:
        job="train_prior {name}-{id}/seed{seed}",


use rule train_backbone as train_joint with:
    # Train hierarchy, inference network and energies jointly.
    input:
        dataset=reads("dataset"),
        pretrained=reads("pretrained"),
        stamp=f"{STAMPS}/train_joint/{{name}}-{{id}}/seed{{seed}}",
    output:
        weights="runs/train_joint/{name}-{id}/seed{seed}/weights.safetensors",
        prior="runs/train_joint/{name}-{id}/seed{seed}/prior.safetensors",
        history="runs/train_joint/{name}-{id}/seed{seed}/history.csv",
        record="runs/train_joint/{name}-{id}/seed{seed}/record.json",
        provenance="runs/train_joint/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/train_joint/{name}-{id}-seed{seed}.log",
    priority: 50
    params:
        job="train_joint {name}-{id}/seed{seed}",

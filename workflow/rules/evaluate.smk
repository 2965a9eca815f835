use rule prepare_dataset as reference_statistics with:
    # Mean and covariance of the features of the reference images, computed once for all samples.
    input:
        outside=reads("outside"),
        dataset=reads("dataset"),
        features=reads("features"),
        stamp=f"{STAMPS}/reference_statistics/{{name}}-{{id}}",
    output:
        statistics="runs/reference_statistics/{name}-{id}/statistics.safetensors",
        provenance="runs/reference_statistics/{name}-{id}/provenance.json",
    log:
        "logs/reference_statistics/{name}-{id}.log",
    params:
        job="reference_statistics {name}-{id}",


use rule prepare_dataset as evaluate_floor with:
    # Distances between real images and real images.
    input:
        outside=reads("outside"),
        dataset=reads("dataset"),
        features=reads("features"),
        reference=reads("reference"),
        stamp=f"{STAMPS}/evaluate_floor/{{name}}-{{id}}",
    output:
        metrics="runs/evaluate_floor/{name}-{id}/metrics.json",
        provenance="runs/evaluate_floor/{name}-{id}/provenance.json",
    log:
        "logs/evaluate_floor/{name}-{id}.log",
    params:
        job="evaluate_floor {name}-{id}",


use rule train_backbone as evaluate_samples with:
    # Distances between one set of samples and held-out images.
    input:
        outside=reads("outside"),
        dataset=reads("dataset"),
        features=reads("features"),
        reference=reads("reference"),
        samples=reads("samples"),
        stamp=f"{STAMPS}/evaluate_samples/{{name}}-{{id}}/seed{{seed}}",
    output:
        metrics="runs/evaluate_samples/{name}-{id}/seed{seed}/metrics.json",
        provenance="runs/evaluate_samples/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/evaluate_samples/{name}-{id}-seed{seed}.log",
    priority: 0
    params:
        job="evaluate_samples {name}-{id}/seed{seed}",


use rule train_backbone as evaluate_density with:
    # One prior as a density: bounds on log p(x), the partition function and outlier detection.
    input:
        dataset=reads("dataset"),
        backbone=reads("backbone"),
        prior=reads("prior"),
        stamp=f"{STAMPS}/evaluate_density/{{name}}-{{id}}/seed{{seed}}",
    output:
        metrics="runs/evaluate_density/{name}-{id}/seed{seed}/metrics.json",
        arrays="runs/evaluate_density/{name}-{id}/seed{seed}/arrays.safetensors",
        provenance="runs/evaluate_density/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/evaluate_density/{name}-{id}-seed{seed}.log",
    priority: 0
    params:
        job="evaluate_density {name}-{id}/seed{seed}",


use rule train_backbone as run_evaluation with:
    # One of the further evaluations of a variant.
    input:
        outside=reads("outside"),
        dataset=reads("dataset"),
        backbone=reads("backbone"),
        prior=reads("prior"),
        features=reads("features"),
        stamp=f"{STAMPS}/run_evaluation/{{name}}-{{id}}/seed{{seed}}",
    output:
        metrics="runs/run_evaluation/{name}-{id}/seed{seed}/metrics.json",
        arrays="runs/run_evaluation/{name}-{id}/seed{seed}/arrays.safetensors",
        provenance="runs/run_evaluation/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/run_evaluation/{name}-{id}-seed{seed}.log",
    priority: 0
    params:
        job="run_evaluation {name}-{id}/seed{seed}",

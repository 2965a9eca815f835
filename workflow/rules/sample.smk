use rule train_backbone as draw_samples with:
    # Draw images from one prior by one sampler.
    input:
        dataset=reads("dataset"),
        backbone=reads("backbone"),
        prior=reads("prior"),
        stamp=f"{STAMPS}/draw_samples/{{name}}-{{id}}/seed{{seed}}",
    output:
        samples="runs/draw_samples/{name}-{id}/seed{seed}/samples.safetensors",
        provenance="runs/draw_samples/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/draw_samples/{name}-{id}-seed{seed}.log",
    priority: 0
    params:
        job="draw_samples {name}-{id}/seed{seed}",


use rule train_backbone as resample_layers with:
    # Redraw one layer of some samples while the others are fixed.
    input:
        dataset=reads("dataset"),
        backbone=reads("backbone"),
        samples=reads("samples"),
        stamp=f"{STAMPS}/resample_layers/{{name}}-{{id}}/seed{{seed}}",
    output:
        arrays="runs/resample_layers/{name}-{id}/seed{seed}/arrays.safetensors",
        provenance="runs/resample_layers/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/resample_layers/{name}-{id}-seed{seed}.log",
    priority: 0
    params:
        job="resample_layers {name}-{id}/seed{seed}",


use rule train_backbone as count_operations with:
    # What the training and the sampler of one prior cost, in operations.
    input:
        outside=reads("outside"),
        dataset=reads("dataset"),
        stamp=f"{STAMPS}/count_operations/{{name}}-{{id}}/seed{{seed}}",
    output:
        metrics="runs/count_operations/{name}-{id}/seed{seed}/metrics.json",
        provenance="runs/count_operations/{name}-{id}/seed{seed}/provenance.json",
    log:
        "logs/count_operations/{name}-{id}-seed{seed}.log",
    priority: 0
    params:
        job="count_operations {name}-{id}/seed{seed}",

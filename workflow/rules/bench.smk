rule bench:
    """What a study costs on this machine, on synthetic pixels; one at a time, since it is the clock that is read."""
    output:
        # The tables in results/ are recorded ones of some machine: they must not keep this one from being measured.
        temp(touch("logs/bench/{study}.measured")),
    log:
        "logs/bench/{study}.log",
    conda:
        "../envs/jebm.yaml"
    threads: workflow.cores or 1
    shell:
        "jebm bench {wildcards.study} > {log} 2>&1"


rule benchmark:
    input:
        expand("logs/bench/{study}.measured", study=FLOW.plans),

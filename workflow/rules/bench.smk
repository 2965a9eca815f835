rule bench:
    """Measure what a study costs on this machine, on synthetic pixels. One at a time, since times are measured."""
    output:
        # The tables in results/ may have been recorded on another machine, so they are no outputs of this rule.
        temp(touch("logs/bench/{study}.measured")),
    log:
        "logs/bench/{study}.log",
    conda:
        "../envs/jebm.yaml"
    threads: lambda wildcards: workflow.cores
    shell:
        "jebm bench {wildcards.study} > {log} 2>&1"


rule benchmark:
    input:
        expand("logs/bench/{study}.measured", study=FLOW.plans),

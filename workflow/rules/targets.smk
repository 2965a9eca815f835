# What one can ask for by name.


for study_name in FLOW.plans:

    rule:
        name:
            study_name
        input:
            all_files([study_name]),


rule tables:
    input:
        lambda wildcards: or_one_line(FLOW.rendered, DEFAULT_STUDIES, "table"),


rule figures:
    input:
        lambda wildcards: or_one_line(FLOW.rendered, DEFAULT_STUDIES, "figure"),

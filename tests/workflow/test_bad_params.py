"""A mistake in params.yaml ends Snakemake with one line that names the key, before any job starts."""

import pytest

MISTAKES = {
    "unknown key": (("train_prior", "lerning_rate"), 1.0, ["digits.train_prior.lerning_rate:", "learning_rate"]),
    "wrong type": (("train_backbone", "steps"), "many", ["digits.train_backbone.steps:", "integer", "'many'"]),
    "negative": (("train_prior", "chain", "steps"), -3, ["digits.train_prior.chain.steps:", "greater than or equal"]),
    "length": (("train_backbone", "kl_warmup"), [[0.0, 0.1]] * 3, ["digits.train_backbone.kl_warmup:", "2 layers"]),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
@pytest.mark.parametrize("tool", [("snakemake", "-n"), ("jebm", "plan")], ids=" ".join)
def test_one_line_names_the_key_and_what_is_allowed(workspace, mistake, tool):
    path, value, expected = MISTAKES[mistake]
    params = workspace.params()
    block = params["digits"]
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    workspace.write_params(params)
    done = workspace.run(*tool, check=False)
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "params.yaml: " in line]
    assert len(lines) == 1
    assert all(part in lines[0] for part in expected), lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_parameters_from_the_command_line_are_refused(workspace):
    done = workspace.run("snakemake", "-n", "--config", "default_studies=[]", check=False)
    assert done.returncode != 0
    assert "--config: parameters come from params.yaml alone; edit it" in done.stderr


def test_mistake_in_another_file_of_parameters_names_that_file(workspace):
    path = workspace.folder / "params/depth.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("blocks: 1\n", "block: 1\n"), encoding="utf-8")
    for tool in (("snakemake", "-n"), ("jebm", "plan")):
        done = workspace.run(*tool, check=False)
        assert done.returncode != 0
        assert "params/depth.yaml: backbone.block: unknown key; did you mean 'blocks'?" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_a_mistyped_table_as_target_is_one_line_with_the_nearest_name(workspace):
    done = workspace.run("snakemake", "-n", "results/digits/tables/mian.md", check=False)
    assert done.returncode == 2
    assert "render_table has no job 'digits/mian'; did you mean 'digits/main'?" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr

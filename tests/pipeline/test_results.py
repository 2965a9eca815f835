"""Results found by their key: what the key depends on, when work is done, and what is taken instead."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from toy_jobs import PICTURES, Worker, only, toy_jobs

from jebm.errors import JebmError
from jebm.io.digests import DigestCache
from jebm.pipeline.code_digest import code_fingerprint
from jebm.pipeline.results import (
    KEPT,
    keep_all,
    kept_result,
    key_of,
    produce,
    read_record,
    result_in_place,
    wrong_files,
)


def key(job, digests=None):
    return key_of(job, code_fingerprint(job.entries), digests or DigestCache())


@pytest.fixture
def data(code):
    """The toy study's jobs, its data made."""
    jobs = toy_jobs()
    Worker()(only(jobs, "prepare_dataset"))
    return jobs


@pytest.fixture
def backbone(data):
    return only(data, "train_backbone", "seed1")


# What a key depends on -----------------------------------------------------------------------------------------------


def test_key_changes_with_the_parameters_that_the_job_uses_and_with_no_others(data, backbone):
    longer = only(toy_jobs({"toy/train_backbone/steps": 11}), "train_backbone", "seed1")
    other = only(toy_jobs({"toy/train_prior/steps": 11}), "train_backbone", "seed1")
    assert key(backbone) != key(longer)
    assert key(backbone) == key(other)
    assert key(backbone) != key(only(data, "train_backbone", "seed0"))


def test_key_changes_with_the_code_and_not_with_its_comments(code, backbone):
    before = key(backbone)
    code.edit("x = 1  # one\n")
    assert key(backbone) == before
    code.edit("x = 2\n")
    assert key(backbone) != before


def test_key_changes_with_the_content_of_inputs_and_not_with_their_times(backbone):
    before, path = key(backbone), Path(backbone.input_files[0])
    os.utime(path, (1, 1))
    assert key(backbone) == before
    path.write_text("other", encoding="utf-8")
    assert key(backbone) != before


def test_key_does_not_change_with_the_folder_of_an_input(backbone):
    moved = {role: tuple(f"other/{path}" for path in paths) for role, paths in backbone.inputs.items()}
    shutil.copytree("data", "other/data")
    assert key(replace(backbone, inputs=moved)) == key(backbone)


def test_key_changes_when_two_inputs_of_a_role_change_places(backbone):
    (role,) = backbone.inputs
    swapped = {role: tuple(reversed(backbone.inputs[role]))}
    Path(backbone.input_files[0]).write_text("another content", encoding="utf-8")
    contents = {path: str(place) for place, path in enumerate(backbone.input_files)}
    exchanged = dict(zip(contents, reversed(contents.values()), strict=True))
    assert key(backbone, contents.get) != key(backbone, exchanged.get)
    assert key(backbone) != key(replace(backbone, inputs=swapped))


def test_key_changes_with_the_content_of_a_folder_from_outside_and_not_with_its_name(code):
    job = only(toy_jobs(PICTURES), "prepare_dataset")
    Path("cats").mkdir()
    Path("cats/0.png").write_bytes(b"first")
    before = key(job)
    os.utime("cats/0.png", (1, 1))
    assert key(job) == before
    shutil.copytree("cats", "dogs")
    assert key(replace(job, inputs={"outside": ("dogs",)})) == before
    Path("cats/0.png").rename("cats/1.png")
    renamed = key(job)
    Path("cats/1.png").write_bytes(b"other")
    assert len({before, renamed, key(job)}) == 3


def test_key_of_a_rule_in_results_names_its_study(code):
    """Two studies may have variants of the same names and parameters; their metrics say which study it is."""
    same = only(toy_jobs(), "collect_metrics")
    renamed = only(toy_jobs(study="other"), "collect_metrics")
    assert same.inputs == renamed.inputs
    assert key(same) != key(renamed)


@pytest.mark.parametrize(("rule", "end"), [("collect_metrics", ""), ("render_figure", "samples")])
def test_key_tells_which_of_several_variants_share_a_file(code, rule, end):
    """A variant that becomes equal to another one than before changes no file, and yet other rows have its values."""
    like = {
        name: {"toy/variants/twin": {"draw_samples": {"sampler": {"steps": steps}}}}
        | {"toy/figures/samples": ["joint", "twin", "joint-k40"]}
        for name, steps in (("joint", 20), ("joint-k40", 40))
    }
    Worker("evaluate_samples").all(toy_jobs(like["joint"]))
    first, second = (only(toy_jobs(changes), rule, end) for changes in like.values())
    assert set(first.input_files) == set(second.input_files)
    assert key(first) != key(second)


# When the work is done -----------------------------------------------------------------------------------------------


def test_work_is_done_once_then_nothing_then_again_when_it_is_asked_for(backbone, capsys):
    worker = Worker()
    assert worker(backbone)
    made = {path: Path(path).read_bytes() for path in backbone.outputs}
    assert not worker(backbone)
    assert "made before with this key" in capsys.readouterr().err
    assert worker(backbone, again=True)
    assert {path: Path(path).read_bytes() for path in backbone.outputs[:-1]} == {
        path: content for path, content in made.items() if path != backbone.provenance
    }


def test_record_names_key_parameters_code_inputs_and_outputs(backbone):
    Worker()(backbone)
    record = read_record(Path(backbone.provenance))
    assert record["key"] == key(backbone)
    assert record["parameters"] == backbone.parameters
    assert record["code"] == code_fingerprint(backbone.entries)
    assert record["inputs"] == {path: DigestCache()(path) for path in backbone.input_files}
    assert record["outputs"] == {Path(path).name: DigestCache()(path) for path in backbone.outputs[:-1]}


def test_deleted_result_is_taken_from_the_kept_ones(backbone, capsys):
    worker = Worker()
    worker(backbone)
    made = {path: Path(path).read_bytes() for path in backbone.outputs}
    shutil.rmtree("runs")
    assert not worker(backbone)
    assert f"taken from {KEPT / key(backbone)}" in capsys.readouterr().err
    assert {path: Path(path).read_bytes() for path in backbone.outputs} == made


def test_changing_back_takes_what_was_made_first(code, backbone):
    worker = Worker()
    worker(backbone)
    first = Path(backbone.provenance).read_bytes()
    code.edit("x = 2\n")
    assert worker(backbone)
    assert Path(backbone.provenance).read_bytes() != first
    code.edit("x = 1\n")
    assert not worker(backbone)
    assert Path(backbone.provenance).read_bytes() == first


def test_result_takes_no_space_twice(backbone):
    Worker()(backbone)
    for path in backbone.outputs:
        assert os.path.samefile(path, KEPT / key(backbone) / Path(path).name)


def test_making_a_result_anew_leaves_the_kept_one_of_another_key_alone(code, backbone):
    """Outputs are hard links to kept files: whoever writes must replace them and not write through them."""
    worker = Worker()
    worker(backbone)
    folder = KEPT / key(backbone)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code.edit("x = 2\n")
    for path in backbone.outputs:
        Path(path).unlink()  # as Snakemake does before it runs a job
    worker(backbone)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "record"])
def test_damaged_kept_result_is_not_taken(backbone, damage):
    worker = Worker()
    worker(backbone)
    path = KEPT / key(backbone) / ("provenance.json" if damage == "record" else "weights.safetensors")
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage == "flipped" else content[:20])
    shutil.rmtree("runs")
    assert kept_result(backbone, key(backbone), DigestCache()) is None
    assert worker(backbone)
    assert result_in_place(backbone, key(backbone), DigestCache())
    shutil.rmtree("runs")
    assert not worker(backbone), "what was made anew is kept in the place of the damaged one"


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_damaged_result_in_place_is_replaced_by_the_kept_one(backbone, damage):
    worker = Worker()
    worker(backbone)
    path = Path(backbone.outputs[0])
    content = path.read_bytes()
    path.unlink()  # and not written through: the kept one is another name of the same file
    if damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not result_in_place(backbone, key(backbone), DigestCache())
    assert not worker(backbone)
    assert path.read_bytes() == content


def test_a_result_that_was_pulled_is_kept_before_another_replaces_it(code, backbone):
    worker = Worker()
    worker(backbone)
    shutil.rmtree(KEPT)  # no job here has made it
    keep_all([backbone], DigestCache())
    code.edit("x = 2\n")
    worker(backbone)
    code.edit("x = 1\n")
    assert not worker(backbone)


def test_a_damaged_result_is_not_kept(backbone):
    Worker()(backbone)
    shutil.rmtree(KEPT)
    Path(backbone.outputs[0]).write_text("damaged", encoding="utf-8")
    keep_all([backbone], DigestCache())
    assert not KEPT.exists()


def test_failed_work_leaves_no_record(backbone):
    def fail(code):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        produce(backbone, fail)
    assert not Path(backbone.provenance).exists()
    assert Worker()(backbone)


def test_training_state_goes_when_the_result_is_there_and_not_before(backbone):
    state = Path(backbone.state)
    state.mkdir(parents=True)

    def fail(code):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        produce(backbone, fail)
    assert state.exists()
    Worker()(backbone)
    assert not state.exists()


def test_an_edit_during_the_work_is_noticed_afterwards(code, backbone):
    """The record says what the work began with."""

    def work(digest):
        Worker()._work(backbone)
        code.edit("x = 2\n")

    produce(backbone, work)
    assert not result_in_place(backbone, key(backbone), DigestCache())
    code.edit("x = 1\n")
    assert result_in_place(backbone, key(backbone), DigestCache())


def test_a_rank_that_does_not_lead_works_and_writes_nothing(backbone):
    done = []
    produce(backbone, done.append, is_rank_zero=False)
    assert len(done) == 1
    assert not Path(backbone.provenance).exists()
    Worker()(backbone)
    produce(backbone, done.append, is_rank_zero=False)
    assert len(done) == 1, "the result is there: no rank works"
    produce(backbone, done.append, again=True, is_rank_zero=False)
    assert len(done) == 2


# Early cutoff --------------------------------------------------------------------------------------------------------


def test_behind_a_job_that_makes_the_same_bytes_again_nothing_works(code):
    worker, jobs = Worker(), toy_jobs()
    assert len(worker.all(jobs)) == len(jobs)
    edited = frozenset({"jebm.work", "jebm.data_only"})
    (code.module.parent / "data_only.py").write_text("y = 1\n", encoding="utf-8")
    changed = {
        name: replace(job, entries=edited) if job.rule == "prepare_dataset" else job for name, job in jobs.items()
    }
    assert worker.all(changed) == ["prepare_dataset"]


def test_behind_a_job_that_makes_other_bytes_everything_works_that_reads_them(code):
    worker = Worker("prepare_dataset")
    worker.all(toy_jobs())
    reached = set(worker.all(toy_jobs({"toy/train_backbone/steps": 11})))
    assert {"train_backbone", "train_prior", "draw_samples", "collect_metrics", "render_table"} <= reached
    assert not {"prepare_dataset", "train_features", "evaluate_floor"} & reached


# What is refused -----------------------------------------------------------------------------------------------------


def test_missing_input_is_one_line_that_says_what_makes_it(code):
    job = only(toy_jobs(), "train_backbone", "seed1")
    with pytest.raises(JebmError) as error:
        Worker()(job)
    missing = job.input_files[0]
    assert str(error.value) == f"{missing}: no such file; `snakemake --cores all {missing}` makes it"


def test_corrupted_input_is_one_line_that_says_what_repairs_it(backbone):
    path = Path(backbone.input_files[0])
    path.unlink()
    path.write_text("corrupted", encoding="utf-8")
    worker = Worker()
    with pytest.raises(JebmError) as error:
        worker(backbone)
    assert str(error.value) == (
        f"{path}: is not what the job made that wrote it; `snakemake --cores all {path}` repairs it"
    )
    assert not worker.done
    assert not Path(backbone.provenance).exists()


def test_missing_file_of_the_user_is_left_to_the_work_which_knows_its_parameter(code):
    assert Worker()(only(toy_jobs(PICTURES), "prepare_dataset"))


HOLD = """
import sys, time
from pathlib import Path
from toy_jobs import Worker, only
from jebm.pipeline.results import exclusive, produce
from jebm.pipeline.jobs import all_jobs
from jebm.pipeline.study import make_plan
from jebm.config.read import parse_params
from toy import params

job = only(all_jobs(make_plan(parse_params(params())).values()), "prepare_dataset")
with exclusive(job):
    print("holds", flush=True)
    time.sleep(60)
"""


def test_second_process_on_a_job_is_refused_and_a_killed_one_holds_nothing(code):
    job = only(toy_jobs(), "prepare_dataset")
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests/support'}"}
    first = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "holds\n"
        worker = Worker()
        with pytest.raises(JebmError, match="another process is already working on this; let it finish, or stop it"):
            worker(job)
        assert not worker.done
    finally:
        first.kill()
        first.wait()
    assert worker(job)


# Records -------------------------------------------------------------------------------------------------------------


def damaged(record, **changes):
    return json.dumps(record | changes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"key": "1"}',
        b'{"created_by": "another program", "outputs": {}}',
        b'{"key": 1, "code": 1, "parameters": 1, "context": 1, "seconds": 1, "inputs": {}, "outputs": [1]}',
        b'{"key": 1, "code": 1, "parameters": 1, "context": 1, "seconds": 1, "inputs": {}, "outputs": {"a": 1}}',
        b'{"key": 1, "code": 1, "parameters": 1, "context": 1, "seconds": 1, "inputs": null, "outputs": {"a": "1"}}',
    ],
)
def test_record_of_another_program_or_a_damaged_one_counts_as_none(backbone, content):
    worker = Worker()
    worker(backbone)
    shutil.rmtree(KEPT)
    path = Path(backbone.provenance)
    path.unlink()
    path.write_bytes(content)
    assert read_record(path) is None
    assert wrong_files(backbone, DigestCache()) == {backbone.provenance: "is not a record of jebm"}
    keep_all([backbone], DigestCache())
    assert not KEPT.exists()
    assert worker(backbone)


def test_wrong_files_are_named_with_what_is_wrong(backbone):
    assert wrong_files(backbone, DigestCache()) == {}, "a result that is not there is not wrong"
    Worker()(backbone)
    assert wrong_files(backbone, DigestCache()) == {}
    weights, history = map(Path, backbone.outputs[:2])
    weights.unlink()
    history.write_text("other", encoding="utf-8")
    assert wrong_files(backbone, DigestCache()) == {str(weights): "is missing", str(history): "has other content"}


def test_links_into_a_cache_are_results_like_any_others(backbone, tmp_path):
    """``dvc pull`` with symbolic links."""
    worker = Worker()
    worker(backbone)
    shutil.rmtree(KEPT)
    for path in map(Path, backbone.outputs):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert not worker(backbone)
    keep_all([backbone], DigestCache())
    shutil.rmtree("runs")
    assert not worker(backbone)


def test_file_systems_without_hard_links_get_copies(backbone, monkeypatch):
    def no_links(*_):
        raise OSError

    monkeypatch.setattr(os, "link", no_links)
    worker = Worker()
    worker(backbone)
    shutil.rmtree("runs")
    assert not worker(backbone)


def test_seconds_of_earlier_runs_are_in_the_record(backbone):
    def work(code):
        Worker()._work(backbone)
        return {"seconds": 1234.5}

    produce(backbone, work)
    assert read_record(Path(backbone.provenance))["seconds"] == 1234.5
    started = time.monotonic()
    Worker()(backbone, again=True)
    assert read_record(Path(backbone.provenance))["seconds"] <= time.monotonic() - started + 0.01

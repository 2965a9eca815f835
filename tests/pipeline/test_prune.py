"""What may be deleted: results of parameters that no study has any more, after the days that were asked for."""

from pathlib import Path

from toy import params
from toy_jobs import Worker, toy_jobs

from jebm.config.read import parse_params
from jebm.pipeline.prune import total_size, unneeded
from jebm.pipeline.results import KEPT, read_record
from jebm.pipeline.study import make_plan

CHANGE = {"toy/draw_samples/sampler/steps": 30}


def plans(changes=None):
    return make_plan(parse_params(params(changes)))


def test_what_the_parameters_name_stays_whatever_its_age(code):
    Worker().all(toy_jobs())
    assert unneeded(plans(), 0) == []


def test_results_of_former_parameters_go_with_their_kept_copies_and_nothing_else(code):
    worker = Worker()
    worker.all(toy_jobs())
    worker.all(toy_jobs(CHANGE))
    found = unneeded(plans(CHANGE), 0)
    needed = {Path(job.provenance).parent for job in toy_jobs(CHANGE).values()}
    keys = {read_record(Path(job.provenance))["key"] for job in toy_jobs(CHANGE).values()}
    assert any("runs/draw_samples" in str(folder) for folder in found)
    assert not needed & set(found)
    assert not {KEPT / key for key in keys} & set(found)
    assert unneeded(plans(CHANGE), 1) == [], "they were made today"


def test_the_size_is_what_deleting_frees(code):
    worker = Worker()
    worker.all(toy_jobs())
    worker.all(toy_jobs(CHANGE))
    found = unneeded(plans(CHANGE), 0)
    placed = [folder for folder in found if KEPT not in folder.parents]
    assert total_size(placed) == 0, "their files have another name among the kept ones"
    assert total_size(found) > 0

"""Training on several ranks: equal weights, different noise, the batches of one process, and no rank runs on alone."""

from datetime import timedelta

import pytest
import torch
import two_ranks
from two_ranks import DATA, FEATURES, Job

from jebm.errors import JebmError, LostRankError
from jebm.metrics.statistics import gather
from jebm.runtime.distributed import Ranks, local_device, map_location, process_group
from jebm.runtime.random import make_rng


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Run a function of tests/support/two_ranks.py in one process of two; both use the same folder."""
    folder = tmp_path_factory.mktemp("ranks")
    stopped = Job(folder / "single", norm=False, disturb=two_ranks.on(0, 4, two_ranks.terminate)).run()
    return {
        "folder": folder,
        "plain": Job(folder / "alone", norm=False).run(),
        "noise": Job(folder / "noise", noise=0.3).run(),
        "stopped": stopped,
    }


@pytest.fixture(scope="module")
def both(single):
    """The results of both ranks."""
    return two_ranks.start(single["folder"])


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# Operations ----------------------------------------------------------------------------------------------------------


def test_operations(both):
    first, second = (rank["operations"] for rank in both)
    for seen in (first, second):
        assert seen["gradient"].tolist() == [1.5, 4.5]
        assert seen["unused"] is None
        assert seen["means"]["a"] == 1.5
        assert seen["means"]["b"].isnan()
        assert seen["largest"] == [1, 0]
        assert [int(x) for x in seen["gathered"]] == [0, 1]
    assert first["collected"] == [{"rank": 0}, {"rank": 1}]
    assert second["collected"] is None
    assert first["merged"] == ["0.0", "1.0", "0.1", "1.1", "0.2"]
    assert second["merged"] == []
    assert [*first["part"], *second["part"]] == list(range(7))


def test_a_forked_rng_is_common_and_the_original_differs(both):
    first, second = (rank["operations"] for rank in both)
    assert torch.equal(first["order"], second["order"])
    common = torch.randn(4, generator=make_rng("common"))
    assert torch.equal(first["order"], common)
    draws = [first["own"], second["own"], common]
    assert len({tuple(draw.tolist()) for draw in draws}) == 3


def test_one_process_does_nothing_with_the_others():
    alone, rng = Ranks(), make_rng("alone")
    before = rng.get_state()
    assert alone.fork_rng(rng) is rng
    assert alone.seed_rng(rng) is rng
    assert torch.equal(rng.get_state(), before)
    batch = torch.arange(7)
    assert alone.shard_batch(batch).equal(batch)
    scalars = {"a": torch.tensor(1.0)}
    assert alone.mean(scalars) is scalars
    assert alone.gather_object("x") == ["x"]
    assert list(alone.interleave(iter("ab"))) == ["a", "b"]


def test_shares_that_are_not_equal_are_refused():
    with pytest.raises(JebmError, match="a batch of 7 examples can't be shared equally by 2 devices"):
        Ranks(0, 2).shard_batch(torch.arange(7))
    with pytest.raises(JebmError, match="3 images are too few for 4 devices"):
        Ranks(0, 4).shard_range(3)


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has them")
def test_more_devices_than_there_are_end_in_one_sentence(monkeypatch):
    for key, value in {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(key, value)
    with (
        pytest.raises(JebmError, match=r"compute.devices: asks for 8 GPUs, but this machine offers \d"),
        process_group(8, "cuda"),
    ):
        pass


def test_without_the_others_a_rank_gives_up(monkeypatch):
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for key, value in place.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("jebm.runtime.distributed.TIMEOUT", timedelta(seconds=1))
    with (
        pytest.raises(LostRankError, match="the connection between the processes of this job was lost"),
        process_group(2, "cpu"),
    ):
        pass


# Training ------------------------------------------------------------------------------------------------------------


def test_shares_of_the_ranks_make_the_batches_of_one_process(both, single):
    """Within the first epoch, three steps of 6 of 23 examples, also those of a single process."""
    shares = [rank["plain"]["batches"] for rank in both]
    united = [first + second for first, second in zip(*shares, strict=True)]
    assert united[:3] == single["plain"]["batches"][:3]
    for epoch in range(3):
        seen = [i for batch in united[3 * epoch : 3 * epoch + 3] for i in batch]
        assert len(set(seen)) == 18


def test_without_noise_the_ranks_take_the_steps_of_one_process(both, single):
    """The gradient of a mean loss is the mean of the gradients on the shards; only rounding differs."""
    history = both[0]["plain"]["history"][:3]
    for ours, theirs in zip(history, single["plain"]["history"], strict=False):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_all_ranks_have_the_same_weights_at_every_step(both):
    for scenario in ("plain", "normalised", "skipped"):
        first, second = (rank[scenario] for rank in both)
        assert first["digests"] == second["digests"]
        assert len(set(first["digests"])) > 5
        assert equal(first["weights"], second["weights"])
        assert first["history"] == second["history"]


def test_every_rank_has_noise_of_its_own(both, single):
    first, second = (torch.stack(rank["normalised"]["noise"]) for rank in both)
    assert first.shape == second.shape
    assert not (first[:, :, None] == second[:, None]).any()
    assert not (first.flatten()[:, None] == torch.cat([n.flatten() for n in single["noise"]["noise"]])).any()


def test_negatives_differ_on_every_rank(both):
    first, second = (rank["negatives"] for rank in both)
    assert first["digest"] == second["digest"]
    for ours, theirs in zip(first["ends"], second["ends"], strict=True):
        assert ours.shape == theirs.shape == (4, 5)
        assert not torch.isclose(ours[:, None], theirs[None]).all(-1).any()


def test_a_signal_to_one_rank_stops_all_at_one_step(both):
    for rank in both:
        stopped = rank["interrupted"]["stopped"]
        assert stopped["step"] == 4
        assert stopped["ended"] == "tiny run: stopped by SIGTERM at step 4; run the same command to go on"


def test_an_interrupted_run_goes_on_to_the_same_bits(both):
    for rank in both:
        resumed, undisturbed = rank["interrupted"]["resumed"], rank["normalised"]
        assert resumed["batches"] == undisturbed["batches"][4:]
        assert equal(resumed["weights"], undisturbed["weights"])
        assert resumed["history"] == undisturbed["history"]
        assert all(map(torch.equal, resumed["noise"], undisturbed["noise"][4:]))


def test_divergence_on_one_rank_stops_all_with_one_message(both):
    first, second = (rank["diverged"] for rank in both)
    assert first["ended"].startswith("tiny run: loss is nan, ")
    assert first["ended"] == second["ended"]
    assert first["step"] == second["step"] == 4


def test_a_step_that_one_rank_must_skip_is_skipped_by_all(both):
    for rank in both:
        assert rank["skipped"]["ended"] == ""
        assert rank["skipped"]["history"][-1]["skipped"] == 1
        assert all(tensor.isfinite().all() for tensor in rank["skipped"]["weights"].values())


# Another number of ranks ---------------------------------------------------------------------------------------------


def test_two_ranks_go_on_with_the_state_and_the_data_of_one(both, single):
    """Stopped after 5 steps, in the middle of an epoch: its last batch is the one that one process would take."""
    assert single["stopped"]["step"] == 5
    first, second = (rank["taken over"] for rank in both)
    assert first["history"][:5] == single["stopped"]["history"]
    assert first["batches"][0] + second["batches"][0] == single["plain"]["batches"][5]
    assert [len(rank["batches"]) for rank in (first, second)] == [4, 4]
    assert equal(first["weights"], second["weights"])
    own = [torch.stack(rank["noise"]) for rank in (first, second)]
    assert not (own[0] == own[1]).any()


def test_one_process_goes_on_with_the_state_and_the_data_of_two(both, single):
    """Stopped after 4 steps: the two that are left of the epoch are those that two processes would take."""
    first, second = (rank["left"] for rank in both)
    assert first["step"] == second["step"] == 4
    whole = [ours + theirs for ours, theirs in zip(*(rank["plain"]["batches"] for rank in both), strict=True)]
    resumed = Job(single["folder"] / "left", noise=0.3, norm=False).run()
    assert resumed["history"][:4] == first["history"]
    assert resumed["batches"][:2] == whole[4:6]
    assert len(resumed["batches"]) == 5


def test_batches_that_the_data_cannot_fill_are_refused(tmp_path):
    """A batch is never larger than the data, which need not be shared equally then."""
    job = Job(tmp_path, batch_size=50)
    job.trainer.ranks = Ranks(0, 2)
    with pytest.raises(JebmError, match=f"a batch of {len(DATA)} examples can't be shared equally by 2 devices"):
        job.trainer.advance()


# Features ------------------------------------------------------------------------------------------------------------


def test_statistics_of_the_parts_are_those_of_all_features(both):
    whole = gather(FEATURES.split(7), len(FEATURES), 10)
    found, other = (rank["statistics"] for rank in both)
    assert other is None
    torch.testing.assert_close(found["mean"], torch.from_numpy(whole.mean), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["covariance"], torch.from_numpy(whole.covariance), rtol=1e-12, atol=1e-12)
    assert torch.equal(found["kept"], torch.from_numpy(whole.kept))


# Devices -------------------------------------------------------------------------------------------------------------


def test_each_rank_has_a_gpu_of_its_own_and_loads_what_rank_0_saved_onto_it(monkeypatch):
    assert local_device("cuda") == "cuda"
    assert map_location() is None
    monkeypatch.setattr("jebm.runtime.distributed.ranks", lambda: Ranks(3, 4))
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == "cuda:3"
    assert local_device("cpu") == "cpu"
    assert map_location() == {"cuda:0": "cuda:3"}

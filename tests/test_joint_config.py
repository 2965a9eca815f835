"""What a ``train_joint`` block may say, and the stages that it leads to."""

import pytest
import toy

from jebm.config import parse_params
from jebm.errors import ParamsError
from jebm.plan import make_plan

CHAIN = {"kernel": {"name": "pcnl", "step_size": 0.3}, "steps": 5}
JOINT = {
    "method": "variational", "steps": 10, "batch_size": 8, "learning_rate": 1e-3, "energy_learning_rate": 1e-3,
    "chain": CHAIN,
}  # fmt: skip


def variant(**changes):
    prior = changes.pop("prior", None)
    block = {"train_joint": JOINT | changes} | ({"prior": prior} if prior else {})
    return parse_params(toy.params({"toy/variants/both": block}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "mcmc"}, r"toy\.variants\.both\.train_joint\.posterior_chain: is needed by the method 'mcmc'"),
        ({"posterior_chain": CHAIN}, r"train_joint\.posterior_chain: is needed by the method 'mcmc', and by no other"),
        ({"posterior_start": "network"}, r"train_joint\.posterior_start: only the method 'mcmc' has a posterior chain"),
        ({"kl_warmup": [[0, 0.1]] * 3}, r"train_joint\.kl_warmup: has 3 entries, but the backbone has 2 layers"),
        ({"kl_warmup": [[0.5, 0.1]]}, r"train_joint\.kl_warmup: each entry is \[start, end\] with start ≤ end"),
        ({"prior": {"name": "mixture"}}, r"both\.prior\.name: 'mixture' can't be trained with the backbone"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ParamsError, match=message):
        variant(**changes)


def test_training_from_stage_1_counts_its_cost_too():
    plan = make_plan(variant(start="backbone"))["toy"]
    both, two_stage = plan.variants["both"], plan.variants["joint"]
    assert both.pretrained == two_stage.backbone
    assert both.backbone == both.prior != two_stage.prior
    kinds = [kind for name, seed, kind, _ in plan.record_files() if (name, seed) == ("both", 0)]
    assert kinds == ["backbone", "joint"]


def test_training_from_scratch_has_no_stage_1():
    plan = make_plan(variant())["toy"]
    assert plan.variants["both"].pretrained is None
    assert [kind for name, seed, kind, _ in plan.record_files() if (name, seed) == ("both", 0)] == ["joint"]

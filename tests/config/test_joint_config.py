"""What a ``train_joint`` block may say, and the stages that it leads to."""

import pytest
import toy

from jebm.config.read import parse_params
from jebm.errors import ParamsError
from jebm.pipeline.study import make_plan

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
        (
            {"chain": CHAIN | {"space": "z"}},
            r"both\.train_joint\.chain\.space: 'z' needs a 'langevin' kernel",
        ),
        (
            {"method": "mcmc", "posterior_chain": CHAIN | {"start": "prior"}, "posterior_start": "network"},
            r"train_joint\.posterior_chain\.start: the chain starts at the network, as 'posterior_start' says",
        ),
        ({"chain": CHAIN | {"space": "x"}}, r"train_joint\.chain\.space: 'x' is unknown; allowed: whitened, z"),
        ({"betas": [0.9]}, r"train_joint\.betas: must have at least 2 entries, got \[0\.9\]"),
        ({"prior": {"name": "mixture"}}, r"both\.prior\.name: 'mixture' can't be trained with the backbone"),
        (
            {"prior": {"base": {"name": "mixture"}}},
            r"both\.prior\.base\.name: 'mixture' is fitted to a trained backbone",
        ),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ParamsError, match=message):
        variant(**changes)


LANGEVIN_IN_Z = {"kernel": {"name": "langevin", "step_size": 0.3}, "steps": 5, "space": "z"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("toy/train_prior/estimator", CHAIN | {"name": "short-run", "space": "z"},
         r"toy\.train_prior\.estimator\.space: 'z' needs a 'langevin'"),
        (
            "toy/variants/mixed",
            {"prior": {"name": "ncp", "energy": {"name": "layerwise"}}, "train_prior": {"estimator": None},
             "draw_samples": {"sampler": LANGEVIN_IN_Z}},
            r"mixed\.draw_samples\.sampler\.space: 'z' needs the prior 'ebm'",
        ),
        (
            "toy/variants/mixed",
            {"prior": {"name": "ncp", "energy": {"name": "layerwise"}},
             "train_prior": {"estimator": None, "energy_l2": 0.1},
             "draw_samples": {"sampler": {"name": "resampling", "pool": 100}}},
            r"mixed\.train_prior\.energy_l2: the prior 'ncp' is learned without it; only 'ebm' has it",
        ),
        ("toy/prior/energy/hidden", [8, 8, 8], r"toy\.prior\.energy\.hidden: has 3 entries, but 2 layers have"),
        ("toy/prior/energy/depth", [1, -1], r"toy\.prior\.energy\.depth: must be a whole number from 0, or a list"),
        ("toy/prior/energy/activation", "relu", r"toy\.prior\.energy\.activation: 'relu' is unknown"),
        ("toy/backbone", {"name": "residual", "layers_per_scale": [2], "latent_channels": 2,
                          "likelihood": {"name": "logistic"}},
         r"toy\.backbone\.likelihood\.name: 'logistic' is unknown; did you mean 'logistic-mixture'"),
        ("toy/backbone", {"name": "convolutional", "latent_dims": [4, 2], "likelihood": {"sigma": 0.3}},
         r"toy\.backbone\.likelihood\.name: is required, but missing"),
        ("toy/backbone", {"name": "convolutional", "latent_dims": [4, 2],
                          "likelihood": {"name": "gaussian", "sigma": 0.0}},
         r"toy\.backbone\.likelihood\.sigma: input should be greater than 0, got 0\.0"),
    ],
)  # fmt: skip
def test_mistakes_elsewhere_are_named(key, value, message):
    with pytest.raises(ParamsError, match=message):
        parse_params(toy.params({key: value}))


def test_chain_in_z_of_a_base_does_not_bind_variants_that_train_nothing():
    said = {"toy/train_prior/estimator": LANGEVIN_IN_Z | {"name": "short-run"}}
    assert parse_params(toy.params(said)).studies["toy"].variants["gaussian"].prior.name == "gaussian"


def test_defaults_of_new_keys_move_no_identity():
    """What these keys mean when they are left out is what they mean when they say so."""
    plain = make_plan(parse_params(toy.params()))["toy"]
    said = {
        "toy/train_prior/estimator/space": "whitened", "toy/train_prior/estimator/start": "normal",
        "toy/train_prior/betas": [0.9, 0.999], "toy/train_prior/energy_l2": 0.0, "toy/prior/energy/start": "zero",
        "toy/prior/energy/activation": "silu", "toy/draw_samples/sampler/space": "whitened",
        "toy/draw_samples/sampler/start": "normal", "toy/train_backbone/betas": [0.9, 0.999],
    }  # fmt: skip
    same = make_plan(parse_params(toy.params(said)))["toy"]
    other = make_plan(parse_params(toy.params({"toy/prior/energy/start": "random"})))["toy"]
    for name, variant in plain.variants.items():
        assert variant.all_stages() == same.variants[name].all_stages()
    assert plain.variants["joint"].prior.id != other.variants["joint"].prior.id


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

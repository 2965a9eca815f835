"""A trained model in Python: sampling, decoding, inference, densities and chains, on the core study.

Run it in the project's folder after `snakemake --cores all core` (about three minutes): python docs/example.py
In a notebook, the parts between the lines of `# %%` are its cells.
"""

# %% Results: one value per row
import jebm

metrics = jebm.load_metrics("digits")
fd = metrics[metrics.metric == "fd"].groupby("variant", sort=False).value
print(fd.agg(["mean", "std", "count"]).round(2))

# %% A trained model: the hierarchy with its inference network, and the prior over both layers
model = jebm.load("digits/likelihood", seed=1)
print(
    f"{model.hierarchy.layers} layers of {model.hierarchy.layer_dims} latent dimensions, {type(model.prior).__name__}"
)

# %% Samples, and the same noise under the Gaussian prior
eps = model.sample(16, seed=0)
images = model.decode(eps)  # (16, 1, 8, 8), pixels in [-1, 1]
gaussian = jebm.load("digits/gaussian", seed=1)
print(f"samples {tuple(images.shape)}, mean pixel {images.mean():.2f}")
print(f"Gaussian prior: mean pixel {gaussian.decode(gaussian.sample(16)).mean():.2f}")

# %% From an image to its latents and back
posterior = model.infer(images, seed=0)
print("KL of each layer, nats:", posterior.kl.mean(0).numpy().round(2))
print("latents z, bottom first:", [tuple(z.shape) for z in posterior.top.z])

# %% Densities need log Z, which is estimated; check how many draws carry the estimate before you use it
log_z = model.log_partition(draws=20_000)
print(
    f"log Z = {log_z.value:.3f} ± {log_z.standard_error:.3f}, {log_z.effective_fraction:.1%} of the draws are effective"
)
print("log p of the latents:", model.log_density(eps, log_z.value)[:3].numpy().round(1))
print(f"bound on log p(x): {model.log_likelihood(images, draws=20, log_z=log_z.value).mean():.2f} nats per image")

# %% Chains on the prior, with any kernel
for step_size in (0.1, 0.35):
    kernel = {"name": "pcnl", "step_size": step_size, "adjusted": True}
    result = model.chain(count=200, steps=20, kernel=kernel)
    print(f"step size {step_size}: {result.acceptance:.0%} accepted, f = {model.prior.tilt(result.x).mean():.2f}")

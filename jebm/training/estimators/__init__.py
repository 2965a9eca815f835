"""Estimators of the gradient of log Z, the negative phase of maximum likelihood (``train_prior.estimator``)."""

"""The order of the training data: a new permutation in every epoch, which can be resumed in the middle of an epoch."""

import torch


class EpochSampler:
    """Yields batches of indices.

    The last, incomplete batch of an epoch is dropped. If the data have fewer than ``batch_size`` examples, every batch
    holds all of them.
    """

    def __init__(self, count: int, batch_size: int, rng: torch.Generator):
        self.count, self.batch_size, self.rng = count, min(batch_size, count), rng
        self.order, self.position = torch.empty(0, dtype=torch.int64), 0

    def next(self) -> torch.Tensor:
        if self.position + self.batch_size > len(self.order):
            self.order = torch.randperm(self.count, generator=self.rng, device=self.rng.device)
            self.position = 0
        batch = self.order[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return batch

    def state_dict(self) -> dict:
        return {"order": self.order, "position": self.position}

    def load_state_dict(self, state: dict) -> None:
        self.order, self.position = state["order"], state["position"]

"""The order of the data: a new permutation every epoch, resumable in the middle of one."""

import torch


class EpochSampler:
    """Indices of batches. The last, smaller batch of an epoch is dropped; a batch is never larger than the data."""

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

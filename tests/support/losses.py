"""Losses of a few lines, for tests of what is around a loss."""

from jebm.training.loss import Loss


class FunctionLoss(Loss):
    """A function of step and batch as a loss on some examples; ``state`` is what it keeps, if anything."""

    def __init__(self, examples, function, state=None):
        super().__init__(examples)
        self.function, self.state = function, state

    def __call__(self, step, batch):
        return self.function(step, batch)

    def state_dict(self):
        return self.state.state_dict() if self.state else {}

    def load_state_dict(self, state):
        if self.state:
            self.state.load_state_dict(state)

"""A model that remembers what it made before it was given something wrong."""

from typing import Any

from torch import Tensor

from tests.support.small_models import COUNTS, cache, generate, same


class Witness:
    """A model, what it made before, and whether a bad call made any token of its own."""

    def __init__(self, model: Any, ids: Tensor) -> None:
        self.model, self.ids = model, ids
        self.stock = generate(model, ids)
        self.layers_run = 0
        last = model.model.layers[-1]
        last.register_forward_hook(lambda *_: setattr(self, "layers_run", self.layers_run + 1))

    def usable(self, *, before_any_token: bool = True) -> None:
        """The model makes what it made before, dense and pruned."""
        assert self.layers_run == 0 or not before_any_token, "the error came after a whole forward"
        assert same(generate(self.model, self.ids), self.stock)
        past = cache()
        generate(self.model, self.ids, past)
        assert past.report().tokens_per_layer == COUNTS

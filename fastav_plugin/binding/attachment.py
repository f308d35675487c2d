"""How the generate() calls of a model are pruned: all of them, or those in a block of `pruned`."""

import copy
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from fastav_plugin.config import FastAVConfig
from fastav_plugin.report import PruningReport

logger = logging.getLogger(__name__)

#: Called with the account of a generate(); None where nothing was replaced.
OnReport = Callable[[PruningReport[Any] | None], None]


@dataclass(eq=False)
class Attachment:
    """What `attach`, or a block of `pruned`, asks for.

    Attributes:
        config: what to prune.
        cache_for: makes the cache that takes the place of one that generate() made, or None.
            Called with the latter and whether a generate() was found around it. None if the
            config cuts nothing.
        on_report: called with what each generate() dropped.
        whole_batch: whether `on_report` gets accounts of all batch rows, or of the first.
        warned: the causes of unpruned calls that a warning named.
    """

    config: FastAVConfig
    cache_for: Callable[[Any, bool], Any] | None
    on_report: OnReport | None = None
    whole_batch: bool = False
    warned: set[str] = field(default_factory=set)

    def say(self, cause: str, text: str, *values: Any) -> None:
        """Log that a call of the caller's runs unpruned: a warning once per cause, then INFO."""
        first = cause not in self.warned
        self.warned.add(cause)
        if first:
            logger.warning(f"fastav: {text} Later ones are logged at INFO.", *values)
        else:
            logger.info(f"fastav: {text}", *values)


@dataclass
class RunningGenerate:
    """What happened to the caches of one generate() of an attached model.

    Attributes:
        made: the caches that took the place of its own, for its report.
        asked: whether any cache of its own was seen.
        said: whether the log says that it runs unpruned.
    """

    made: list[Any] = field(default_factory=list)
    asked: bool = False
    said: bool = False


#: The generate() of an attached model that runs in this context.
running: ContextVar[RunningGenerate | None] = ContextVar("fastav_running", default=None)

#: Blocks of `pruned` that this context is in, the innermost last. One that ended elsewhere, as a
#: generator closed by another thread does, may still be here; it holds no longer.
_entered: ContextVar[tuple[Attachment, ...]] = ContextVar("fastav_blocks", default=())


class Attachments:
    """What holds for the calls of one model.

    Attributes:
        everywhere: what `attach` asked for, in every thread.
        blocks: what the blocks of `pruned` that run, in whatever threads, ask for.
        replaces: whether any of them replaces caches: what compiled calls look at.
    """

    def __init__(self) -> None:
        self.everywhere: Attachment | None = None
        self.blocks: set[Attachment] = set()
        self.replaces = False

    def set(self, attachment: Attachment | None) -> None:
        """Prune everywhere as asked, or nowhere but in blocks."""
        self.everywhere = attachment
        self._changed()

    def enter(self, block: Attachment) -> None:
        """Begin a block in this context."""
        self.blocks.add(block)
        _entered.set((*_entered.get(), block))
        self._changed()

    def leave(self, block: Attachment) -> None:
        """End a block, which may have begun in another context."""
        self.blocks.discard(block)
        _entered.set(tuple(entered for entered in _entered.get() if entered is not block))
        self._changed()

    def _changed(self) -> None:
        asked = (self.everywhere, *self.blocks)
        self.replaces = any(each is not None and each.cache_for is not None for each in asked)

    @property
    def empty(self) -> bool:
        """Whether nobody asks for anything."""
        return self.everywhere is None and not self.blocks

    @property
    def here(self) -> Attachment | None:
        """What holds in this context: the innermost block's, or that of `attach`."""
        inside = (block for block in reversed(_entered.get()) if block in self.blocks)
        return next(inside, self.everywhere)

    def say_elsewhere(self) -> None:
        """Say that a generate() runs in another context than the blocks that prune."""
        for block in tuple(self.blocks):
            if block.cache_for is not None:
                block.say(
                    "another thread",
                    "this generate() runs unpruned, in another thread than the block of pruned(). "
                    "If the block starts the thread, let it run "
                    "contextvars.copy_context().run(model.generate, ...).",
                )

    @property
    def replacing(self) -> Attachment | None:
        """The same, if it replaces caches."""
        found = self.here
        return found if found is not None and found.cache_for is not None else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Attachments":
        """A copied model is attached as the original is; blocks are of the original alone."""
        twin = type(self)()
        twin.set(copy.deepcopy(self.everywhere, memo))
        return twin


def say_unpruned(attachment: Attachment, model: str, cache: str | None) -> None:
    """Say that a generate(), or a direct call, runs dense; names of its model and cache."""
    call = running.get()
    if call is None:
        attachment.say(
            "a direct call",
            "this direct call of %s runs unpruned, for only generate() is pruned. Pass a "
            "FastAVCache to prune it.",
            model,
        )
    elif not call.said:
        call.said = True
        if call.made:
            what = (
                "calls the model again, without the cache that is pruned, and runs unpruned there. "
                "Have its loop pass on the cache that it is given."
            )
        elif cache is None:
            what = (
                "calls the model without a cache and runs unpruned. Have its loop pass on the "
                "cache that it is given."
            )
        else:
            what = (
                f"got a {cache} of the caller's and runs unpruned. Leave it out, or pass a "
                "FastAVCache."
            )
        attachment.say(what, "this generate() %s", what)

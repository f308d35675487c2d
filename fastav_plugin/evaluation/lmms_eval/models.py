"""The classes behind `--model fastav`: one of lmms-eval's own models, pruned."""

import inspect
from typing import Any, Self

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, StateError, UnsupportedError
from fastav_plugin.evaluation.lmms_eval.pruned_generate import PrunedGenerate
from fastav_plugin.evaluation.lmms_eval.summary import figures, sentence, unpruned

try:
    from lmms_eval.api.model import lmms
except ModuleNotFoundError:  # so that this room can be read without it
    lmms = object

#: What `--model_args` takes beside `base` and the arguments of that model.
SETTINGS = tuple(
    name
    for name in inspect.signature(FastAVConfig.for_model).parameters
    if name not in ("model", "prompt", "hooks")
)


class FastAV(lmms):
    """One of lmms-eval's own models of which every generate() prunes its prompt.

    `--model_args base=NAME,...` names that model; its class is derived from, so its prompts, media,
    batches and answers are its own. Log-likelihoods are made here: the context is asked as a prompt
    is, and the continuation is decoded token by token on the pruned cache. They are mean losses, as
    those of lmms-eval's own models are.

    Attributes:
        pruned: the generate() of the model, with what the prompts took.
    """

    is_simple = False
    pruned: PrunedGenerate | None = None
    _scoring = False

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> Self:
        """Make the model that `base` names and prune it, by the other arguments.

        Raises:
            ConfigError: no base, or settings that do not suit the model.
            UnsupportedError: a model that cannot be pruned, or that runs elsewhere.
        """
        from lmms_eval.models import get_model
        from lmms_eval.utils import simple_parse_args_string

        settings, others = divided(simple_parse_args_string(arg_string))
        base = others.pop("base", None)
        if base in (None, "fastav"):
            raise ConfigError(
                "`--model fastav` needs the name of the lmms-eval model that it prunes, such as "
                f"--model_args base=llava_hf,pretrained=FOLDER,method=divprune; got base={base!r}."
            )
        kind = get_model(base, force_simple=cls.is_simple)
        # Its own `is_simple`: not every model has a class for both kinds of tasks.
        marks = {"is_simple": kind.is_simple, "__module__": __name__}
        pruned = type(f"FastAV{kind.__name__}", (cls, kind), marks)
        more = {
            name: value for name, value in (additional_config or {}).items() if value is not None
        }
        made: Self = pruned(**others, **more)
        made.prune(base, settings)
        return made

    def prune(self, base: str, settings: dict[str, Any]) -> None:
        """Let every generate() of the model prune.

        Args:
            base: lmms-eval's name of the model.
            settings: arguments of `FastAVConfig.for_model`.
        """
        from loguru import logger

        model: Any = getattr(self, "model", None)
        if not callable(getattr(model, "generate", None)):
            raise UnsupportedError(
                f"lmms-eval's {base!r} holds {_named(model)} without generate(), so there is "
                "nothing to prune. Use the one that it has for this family, such as llava_hf, "
                "qwen2_5_vl or qwen2_5_omni."
            )
        config = FastAVConfig.for_model(model, **settings)
        self.pruned = PrunedGenerate(model, config)
        logger.info(f"fastav: {config.describe()} Settings: {config.source}")

    @property
    def rank(self) -> int:
        """Of this process; while answers are scored not 0, so that no prompt draws a bar."""
        return -1 if self._scoring else int(super().rank)

    def generate_until(self, requests: list[Any]) -> list[Any]:
        """Answers of the base, pruned."""
        return self._asked("generate_until", requests)

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        """Answers of the base in several rounds, each a pruned prompt."""
        return self._asked("generate_until_multi_round", requests)

    def generate_visual_cot(self, requests: list[Any]) -> list[Any]:
        """Refused: it makes pictures, by other means than generate()."""
        raise UnsupportedError("Visual chain-of-thought makes pictures and cannot be pruned.")

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        """Mean loss of each continuation, and whether it is what greedy decoding would say.

        Each pair is the `text` of a GenerationResult: lmms-eval 0.7.3 makes text of any other, and
        then fails to read it.

        Raises:
            UnsupportedError: a continuation without a prompt, or a model of chat tasks alone.
        """
        if not self.is_simple:
            raise UnsupportedError(
                "A log-likelihood is asked of lmms-eval's simple models. Add --force_simple."
            )
        from lmms_eval.api.instance import GenerationResult
        from tqdm import tqdm  # type: ignore[import-untyped]

        before = len(self._pruned().costs)
        bar = tqdm(requests, disable=self.rank != 0, desc="Answers scored")
        self._scoring = True
        try:
            scored = [GenerationResult(text=self._score(request)) for request in bar]
        finally:
            self._scoring = False
        self._tell("loglikelihood", before)
        return scored

    def clean(self) -> None:
        """Detach the model, and free it as the base does."""
        if self.pruned is not None:
            self.pruned.remove()
            self.pruned = None
        super().clean()

    def _pruned(self) -> PrunedGenerate:
        if self.pruned is None:
            raise StateError(
                "This model was cleaned up. Make it again with create_from_arg_string."
            )
        return self.pruned

    def _asked(self, kind: str, requests: list[Any]) -> list[Any]:
        pruned = self._pruned()
        before = len(pruned.costs)
        answers: list[Any] = getattr(super(), kind)(requests)
        pruned.refuse()
        if requests and len(pruned.costs) == before:
            raise UnsupportedError(
                f"{type(self).__name__} answered without the generate() of its model, so nothing "
                "was pruned."
            )
        self._tell(kind, before)
        return answers

    def _score(self, request: Any) -> tuple[float, bool]:
        from lmms_eval.api.instance import Instance

        if len(request.args) != 6:
            raise UnsupportedError(
                "A log-likelihood without a prompt (acc_mutual_info) cannot be asked. Leave that "
                "metric out."
            )
        context, target, visuals, doc_id, task, split = request.args
        text = target if isinstance(target, str) else target(self.task_dict[task][split][doc_id])
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        if not ids:
            raise ConfigError(f"The continuation {text!r} of task {task!r} has no tokens.")
        settings = {"max_new_tokens": len(ids), "temperature": 0}
        prompt = Instance(
            request_type="generate_until",
            arguments=(context, settings, visuals, doc_id, task, split),
            idx=request.idx,
            metadata=request.metadata,
        )
        return self._pruned().score(ids, lambda: super(FastAV, self).generate_until([prompt]))

    def _tell(self, kind: str, before: int) -> None:
        """Log what the prompts took, for people and for the file of results."""
        from lmms_eval.models.model_utils.gen_metrics import log_metrics
        from loguru import logger

        pruned = self._pruned()
        costs = pruned.costs[before:]
        logger.info(f"fastav: {kind}: {sentence(costs)}")
        if (reasons := unpruned(costs)) and pruned.config.method != "none":
            logger.warning(f"fastav: {kind}: {reasons}")
        log_metrics(0.0, 0, 0.0, additional_metrics=figures(costs))


class FastAVSimple(FastAV):
    """The same for lmms-eval's simple tasks, among them all that ask for log-likelihoods."""

    is_simple = True


def _named(model: Any) -> str:
    return "no model" if model is None else f"a {type(model).__name__}"


def divided(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of pruning among `--model_args`, and the others."""
    settings = {name: value for name, value in arguments.items() if name in SETTINGS}
    others = {name: value for name, value in arguments.items() if name not in SETTINGS}
    return settings, others

"""Settings that a request has of its own, in its field `fastav`, and the configs they make."""

import dataclasses
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, FastAVError, did_you_mean, unknown_name
from fastav_plugin.report import PruningReport
from fastav_plugin.serving.batching.observer import NO_OBSERVER, ModelObserver

#: The field of a request.
FIELD = "fastav"
#: What requests may set unless the operator says otherwise.
DEFAULT_FIELDS = frozenset({"method", "visual_keep_ratio", "audio_keep_ratio", "fine_drop_ratio"})
#: Fields that no request sets: one names a file of the server, one is code.
_NEVER = frozenset({"calibration", "hooks"})
#: Configs of one model that are kept at a time.
CONFIGS = 256


def allowed_fields(text: str) -> frozenset[str]:
    """What an operator allows: fields of FastAVConfig joined by commas, or "none".

    Raises:
        ConfigError: one that there is not, or that no request may set.
    """
    if text.strip() == "none":
        return frozenset()
    named = frozenset(name.strip() for name in text.split(","))
    known = [each.name for each in dataclasses.fields(FastAVConfig) if each.name not in _NEVER]
    for name in sorted(named):
        if name in _NEVER:
            raise ConfigError(
                f"No request may set `{name}`. Allowed are: {', '.join(known)}; or 'none'."
            )
        if name not in known:
            raise unknown_name("setting", name, known)
    return named


def take_settings(
    body: Mapping[str, Any], allowed: frozenset[str]
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Take the field out of a body, which the server would refuse.

    Returns:
        The body without it, and the fields of FastAVConfig that it sets.

    Raises:
        ConfigError: it is no object, or sets what is not allowed.
    """
    rest = {name: value for name, value in body.items() if name != FIELD}
    settings = body.get(FIELD)
    if settings is None:
        return rest, {}
    if not isinstance(settings, dict):
        raise ConfigError(
            f'`{FIELD}` must be an object such as {{"method": "none"}}, got {settings!r:.80}.'
        )
    for name in settings:
        if name not in allowed:
            may = ", ".join(sorted(allowed)) or "nothing"
            guess = did_you_mean(name, allowed)
            raise ConfigError(
                f"`{FIELD}` sets {name!r:.80}.{guess} Requests to this server may set: {may}."
            )
    return rest, settings


@dataclass(eq=False)
class Served:
    """How a loaded model is pruned, and who hears of it.

    Attributes:
        config: of requests without settings of their own.
        on_report: called for each request, in the thread of the model; with None where the method
            cuts nothing.
        make_config: makes the config of a model with fields given by name.
        observer: of its requests.
    """

    config: FastAVConfig
    on_report: Callable[[PruningReport | None], None]
    make_config: Callable[..., FastAVConfig] = FastAVConfig.for_model
    observer: ModelObserver = NO_OBSERVER
    _made: OrderedDict[str, FastAVConfig] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def config_of(self, model: Any, settings: Mapping[str, Any]) -> FastAVConfig:
        """The config of a request.

        Args:
            model: that is served so; it is not kept.
            settings: of the request, as of `take_settings`.

        Raises:
            FastAVError: a value of a wrong type or out of range, or what does not suit the model.
        """
        if not settings:
            return self.config
        key = json.dumps(settings, sort_keys=True)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(model, settings)
                if len(self._made) > CONFIGS:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]

    def _make(self, model: Any, settings: Mapping[str, Any]) -> FastAVConfig:
        if "method" in settings and not isinstance(settings["method"], str):
            raise ConfigError(
                f"`method` must be a name such as 'fastav', got {settings['method']!r:.80}."
            )
        try:
            return self.make_config(model, **settings)
        except FastAVError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"`{FIELD}` holds a value of a wrong type: {error}.") from error

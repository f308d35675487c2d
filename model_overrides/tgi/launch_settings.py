"""What a launch asks for, as it reaches every process of it: in environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, unknown_name
from fastav_plugin.serving.media.policy import MediaPolicy

#: Names that `--model-override` takes. Each is a method; "none" serves the same model unpruned.
OVERRIDES = ("fastav", "divprune", "fastav+divprune", "none")

OVERRIDE = "FASTAV_MODEL_OVERRIDE"
CONFIG = "FASTAV_CONFIG"

#: TGI's own, of `--max-batch-total-tokens`. Its router takes no notice of it where a model says how
#: many tokens it has room for, as pruned ones do; so they repeat it.
BUDGET = "MAX_BATCH_TOTAL_TOKENS"


@dataclass(frozen=True)
class LaunchSettings:
    """The override of one launch.

    Attributes:
        override: one of OVERRIDES, or None: TGI as it is.
        config_file: a fastav_config.json, its folder or a hub id; None for that in the model's
            folder, else the model family's defaults.
    """

    override: str | None = None
    config_file: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> LaunchSettings:
        """Read FASTAV_MODEL_OVERRIDE and FASTAV_CONFIG; empty means unset.

        Args:
            environment: None for the process's own.

        Raises:
            ConfigError: an unknown override; the message lists the known ones.
        """
        found = os.environ if environment is None else environment
        settings = cls(found.get(OVERRIDE) or None, found.get(CONFIG) or None)
        if settings.override is not None and settings.override not in OVERRIDES:
            raise unknown_name("model override", settings.override, OVERRIDES)
        return settings

    def config(self, model: Any) -> FastAVConfig:
        """The FastAVConfig for a loaded model (or its configuration).

        The override is the method, and goes before that of a `fastav_config.json` in the model's
        folder, whose other fields count where there is no `config_file`.

        Raises:
            ConfigError: an unreadable file, or one given whose method is not the override.
            UnsupportedError: the model cannot be pruned.
        """
        if self.config_file is not None:
            self.check_file()
        method = self.override or "none"
        return FastAVConfig.for_model(model, method=method, config=self.config_file)

    def check_file(self) -> None:
        """Read the `config_file`, whose method must be the override.

        Raises:
            ConfigError: an unreadable file, or one whose method is another.
        """
        config = FastAVConfig.from_pretrained(str(self.config_file))
        if config.method != self.override:
            raise ConfigError(
                f"'{self.config_file}' is for the method '{config.method}', the model override is "
                f"'{self.override}'. Make them the same."
            )


def checked_settings(environment: Mapping[str, str] | None = None) -> LaunchSettings:
    """The settings of a launch, once everything that they name can be used.

    Args:
        environment: None for the process's own.

    Raises:
        ConfigError: an unknown override, a bad config file, or bad limits for media.
    """
    settings = LaunchSettings.from_environment(environment)
    if settings.override is not None:
        if settings.config_file is not None:
            settings.check_file()
        MediaPolicy.from_environment(environment)
    return settings

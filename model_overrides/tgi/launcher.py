"""TGI's launcher with a model override: our options become environment variables, and it follows.

The launcher is replaced, not wrapped: the same process goes on as the real one, so signals, output
and exit codes are its own. It finds our server command first on PATH (shims/) and hands every
variable to the shards.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from fastav_plugin.errors import ConfigError, FastAVError, unknown_name
from fastav_plugin.model_overrides.tgi.launch_settings import (
    BUDGET,
    CONFIG,
    OVERRIDE,
    OVERRIDES,
    checked_settings,
)
from fastav_plugin.serving.media.policy import MEDIA_DIR, MEDIA_HOSTS

LAUNCHER = "text-generation-launcher"
SHIMS = Path(__file__).resolve().parent / "shims"

#: Names this process, so that a command which only leads back here is noticed.
_LAUNCHED = "FASTAV_LAUNCHED"

#: Our options and the variable each of them sets.
OPTIONS = {
    "--model-override": OVERRIDE,
    "--fastav-config": CONFIG,
    "--fastav-media-dir": MEDIA_DIR,
    "--fastav-media-host": MEDIA_HOSTS,
}

HELP = f"""\
Options of fastav_plugin, besides those of {LAUNCHER} below:

  --model-override NAME       {", ".join(OVERRIDES)} [env: {OVERRIDE}]
                              "none" serves the same model class unpruned. Without this option the
                              launcher is TGI's alone.
  --fastav-config FILE        a fastav_config.json, or its folder [env: {CONFIG}]
  --fastav-media-dir FOLDER   requests may name media files below this folder [env: {MEDIA_DIR}]
  --fastav-media-host HOST    requests may name media on this host; may be given again
                              [env: {MEDIA_HOSTS}, separated by commas]

Example: {LAUNCHER} --model-id llava-hf/llava-1.5-7b-hf --model-override fastav

"""


@dataclass
class Command:
    """A command line taken apart.

    Attributes:
        rest: what is TGI's, in its order.
        found: values of our options, by option.
        help: whether it asks for help.
    """

    rest: list[str] = field(default_factory=list)
    found: dict[str, list[str]] = field(default_factory=dict)
    help: bool = False

    @classmethod
    def parse(cls, arguments: list[str]) -> Command:
        """Take our options out, written `--option value` or `--option=value`.

        Raises:
            ConfigError: one without a value or given twice, or an unknown one that begins like
                ours.
        """
        command = cls()
        waiting = list(arguments)
        while waiting:
            argument = waiting.pop(0)
            name, equals, value = argument.partition("=")
            if argument == "--":
                command.rest += [argument, *waiting]
                break
            if name not in OPTIONS:
                if name.startswith(("--fastav", "--model-override")):
                    raise unknown_name("option", name, OPTIONS)
                command.help |= argument in ("-h", "--help")
                command.rest.append(argument)
                continue
            if not equals:
                value = waiting.pop(0) if waiting and not waiting[0].startswith("-") else ""
            if not value:
                raise ConfigError(f"`{name}` needs a value: {name} VALUE.")
            if name in command.found and name != "--fastav-media-host":
                raise ConfigError(f"`{name}` was given twice. Give it once.")
            command.found.setdefault(name, []).append(value)
        return command

    def value(self, option: str) -> str | None:
        """The value of one of TGI's options; None if it is not given."""
        for place, argument in enumerate(self.rest):
            name, equals, value = argument.partition("=")
            if name == option:
                return value if equals else next(iter(self.rest[place + 1 :]), None)
        return None

    def add_to(self, environment: MutableMapping[str, str]) -> None:
        """Write our options over the variables that stand for them; paths become absolute.

        Raises:
            ConfigError: our other options without an override.
        """
        for name, values in self.found.items():
            environment[OPTIONS[name]] = ",".join(values)
        if self.found and not environment.get(OVERRIDE):
            given = ", ".join(self.found)
            raise ConfigError(f"{given} says how to prune: add --model-override as well.")
        if environment.get(OVERRIDE):
            budget = self.value("--" + BUDGET.lower().replace("_", "-"))
            if budget:
                environment[BUDGET] = budget
            for variable in (CONFIG, MEDIA_DIR):
                if environment.get(variable):
                    environment[variable] = os.path.abspath(environment[variable])


def find_real(environment: MutableMapping[str, str]) -> str:
    """Path of the first launcher on PATH that is not ours, of any installation.

    Raises:
        ConfigError: there is none.
    """
    for folder in os.get_exec_path(dict(environment)):
        candidate = Path(folder or ".") / LAUNCHER
        if candidate.is_file() and os.access(candidate, os.X_OK):
            if not (candidate.resolve().parent / "find-real").is_file():
                return str(candidate)
    raise ConfigError(
        f"There is no {LAUNCHER} of Text Generation Inference on PATH. Activate its environment."
    )


def _real_or_end(environment: MutableMapping[str, str], command: Command) -> str:
    """As `find_real`; help was given where there is none, and is no error."""
    try:
        return find_real(environment)
    except ConfigError as error:
        if not command.help:
            raise
        print(f"{error} Then this shows its options as well.")
        sys.exit(0)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Become TGI's launcher. Exits with 2, and one line, for what cannot be launched.

    Without TGI, --help shows our options and exits with 0.

    Args:
        arguments: without the program's name; None for those of this process.
    """
    environment = dict(os.environ)
    try:
        command = Command.parse(sys.argv[1:] if arguments is None else arguments)
        if command.help:
            print(HELP, end="", flush=True)
        else:
            command.add_to(environment)
            # What a shard would read, so that a launch fails before it loads anything.
            if checked_settings(environment).override is not None:
                folders = os.get_exec_path(environment)
                if folders[:1] != [str(SHIMS)]:
                    environment["PATH"] = os.pathsep.join([str(SHIMS), *folders])
        real = _real_or_end(environment, command)
        if environment.get(_LAUNCHED) == str(os.getpid()):
            raise ConfigError(f"'{real}' leads back to this command. Take one of them off PATH.")
    except FastAVError as error:
        print(f"fastav: {error}", file=sys.stderr)
        sys.exit(2)
    environment[_LAUNCHED] = str(os.getpid())
    os.execve(real, [LAUNCHER, *command.rest], environment)


if __name__ == "__main__":
    main()

"""The outcomes of a run as JSON lines, one for each setting and question, to resume from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.answers_file import LineLog
from fastav_plugin.lab.arenas.measure import Outcome


class OutcomeLog(LineLog):
    """Outcomes by question and setting; settings may be added from run to run.

    Raises:
        ConfigError: the file is of another arena, other weights, passages or seed.
    """

    def __init__(self, path: Path | None, header: dict[str, Any]) -> None:
        super().__init__(path, header)
        self._found: dict[tuple[str, str], Outcome] = {}
        for number, line in enumerate(self.lines, start=2):
            try:
                values = json.loads(line)
                key = values.pop("question"), values.pop("digest")
                values.pop("setting")
                self._found[key] = Outcome(**values)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                self.close()
                raise ConfigError(
                    f"Line {number} of '{path}' is no answer of an arena. Remove the line."
                ) from error

    @property
    def count(self) -> int:
        """Outcomes held."""
        return len(self._found)

    def get(self, question: str, digest: str, second: bool = False) -> Outcome | None:
        """What is known; None too where the second question is wanted and was not asked."""
        found = self._found.get((question, digest))
        return None if found is None or (second and found.second is None) else found

    def append(self, question: str, digest: str, setting: str, outcome: Outcome) -> None:
        """Keep an outcome, and write it to the file."""
        self._found[question, digest] = outcome
        line = {"question": question, "setting": setting, "digest": digest, **asdict(outcome)}
        self.write(line)

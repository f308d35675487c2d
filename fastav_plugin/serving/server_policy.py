"""What a request to transformers' server may name, unless the operator says otherwise."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any, cast

from fastav_plugin.serving.media.policy import MEDIA_DIR, MediaPolicy


class EveryHost(Set[str]):
    """The allowed hosts of a policy that names none; their addresses must still be public."""

    def __contains__(self, host: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        raise TypeError("Every host has no list.")

    def __len__(self) -> int:
        raise TypeError("Every host has no number.")

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> frozenset[Any]:
        return frozenset(it)


def server_policy(media_dir: Path | None = None) -> MediaPolicy:
    """The policy of the environment; http(s) addresses of every host unless that names hosts.

    Args:
        media_dir: folder that files are read from; None for the one of the environment.

    Raises:
        ConfigError: as `MediaPolicy.from_environment`.
    """
    environment = dict(os.environ)
    if media_dir is not None:
        environment[MEDIA_DIR] = str(media_dir)
    policy = MediaPolicy.from_environment(environment)
    if policy.allowed_hosts:
        return policy
    return dataclasses.replace(policy, allowed_hosts=cast("frozenset[str]", EveryHost()))

"""The hand-written double of TGI's classes, held against the real ones."""

from __future__ import annotations

from tests.tgi_real.setting import Setting


def compare(setting: Setting) -> None:
    """Signatures of TGI that the plugin and the double rely on."""

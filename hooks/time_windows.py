"""Windows of time over the media of a prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from fastav_plugin.hooks.base import VISUAL, LayerView
from fastav_plugin.tokens import Modality

#: Video time grids in a window: two seconds, where a grid is two frames of two a second.
GRIDS = 2
#: Audio tokens in a window of its own: two seconds at 25 tokens a second.
AUDIO_TOKENS = 50

#: Numbers of images and of sounds that no video says the time of are apart from those of time.
_IMAGES, _SOUNDS = 1 << 40, 1 << 41


def time_windows(view: LayerView) -> Tensor:
    """Number the windows of each batch row's media: int64 [B, T], -1 outside media.

    Video goes by its frame numbers, and so does audio that has them. Other audio is taken to
    last as long as the prompt's video; without one it is cut into runs of `AUDIO_TOKENS`
    positions. An image, or a clip whose frames are unknown, is one window. A row keeps its number
    while others are cut, but for audio beside video: it is spread over the rows still alive.
    """
    visual, audio = view.mask(*VISUAL), view.mask(Modality.AUDIO)
    window = torch.full_like(view.frame, -1)
    timed = (visual | audio) & (view.frame >= 0)
    window = torch.where(timed, view.frame // GRIDS, window)
    window = torch.where(visual & (view.frame < 0), _IMAGES + view.segment, window)
    last_window = torch.where(visual & timed, window, -1).amax(dim=1, keepdim=True)
    loose = audio & (view.frame < 0)
    far = torch.iinfo(torch.int64).max
    first = torch.where(loose, view.positions, far).amin(dim=1, keepdim=True)
    length = torch.where(loose, view.positions, -1).amax(dim=1, keepdim=True) - first + 1
    beside = (view.positions - first) * (last_window + 1) // length.clamp(min=1)
    alone = _SOUNDS + (view.positions - view.start[:, None]) // AUDIO_TOKENS
    return torch.where(loose, torch.where(last_window < 0, alone, beside), window)

"""OmniPack against its formulas: importance and coverage, then relevant diversity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastav_plugin import ConfigError, FastAVConfig, LayerView
from fastav_plugin.functional.selectors.density_peaks import density_peaks
from fastav_plugin.hooks import METHODS, OmniPackDiversity, OmniPackEntrance
from tests.hooks.test_feature_pruning import PROMPT, featured
from tests.support.views import AUDIO, VIDEO, make_view, modalities


def scaled(values: Tensor) -> Tensor:
    return (values - values.min()) / (values.max() - values.min())


def distance(one: Tensor, other: Tensor) -> Tensor:
    return 1 - torch.nn.functional.cosine_similarity(one, other, dim=-1)


def kept(keep: Tensor | None, view: LayerView, kind: int) -> list[int]:
    assert keep is not None
    found: list[int] = (keep[0] & (view.modality[0] == kind)).nonzero().squeeze(1).tolist()
    return found


def joined(features: Tensor, cues: Tensor, places: Tensor, count: int, share: float) -> list[int]:
    order = sorted(range(len(cues)), key=lambda index: (-float(cues[index]), index))
    important = order[: round(share * count)]
    others = [index for index in range(len(cues)) if index not in important]
    peaks = density_peaks(features[others], places[others], count - len(important))
    return sorted(important + [others[peak] for peak in peaks.tolist()])


def test_video_by_frames_and_audio() -> None:
    view = featured(PROMPT, frames=4)  # six frames of four tokens, two by two
    keep = OmniPackEntrance(0.5, 0.6, columns=2)(view)
    video = view.hidden_states[0, 2:26].view(6, 4, 16)
    change = torch.cat([distance(video[:-1], video[1:]), distance(video[-1:], video[-2:-1])])
    unlike = distance(video, video.mean(dim=1, keepdim=True))
    cues = (scaled(change) + scaled(unlike)).flatten()
    places = torch.tensor([[t, y, x] for t in range(6) for y in range(2) for x in range(2)])
    wanted = joined(video.flatten(0, 1), cues, places, 12, 0.25)
    assert kept(keep, view, VIDEO) == [2 + index for index in wanted]
    audio = view.hidden_states[0, 27:42]
    change = torch.cat([distance(audio[:-1], audio[1:]), distance(audio[-1:], audio[-2:-1])])
    wanted = joined(audio, scaled(change), torch.arange(15)[:, None], 9, 0.35)
    assert kept(keep, view, AUDIO) == [27 + index for index in wanted]


def test_a_picture_that_stands_still_has_no_change() -> None:
    """Copies differ in their rounding, which is no cue: what is unlike its frame alone decides."""
    view = featured("t" + "v" * 96 + "t", frames=16)
    states = view.hidden_states.clone()
    states[0, 1:97] = states[0, 1:17].repeat(6, 1)
    view = replace(view, hidden_states=states)
    frame = states[0, 1:17]
    cues = scaled(distance(frame, frame.mean(dim=0, keepdim=True))).repeat(6)
    places = torch.stack([torch.arange(96) // 16, torch.zeros(96), torch.arange(96) % 16], dim=1)
    wanted = joined(states[0, 1:97], cues, places, 48, 0.25)
    assert kept(OmniPackEntrance(0.5)(view), view, VIDEO) == [1 + index for index in wanted]


def test_pictures_have_no_time() -> None:
    view = featured("t" + "i" * 9 + "t")
    image = view.hidden_states[0, 1:10]
    cues = scaled(distance(image, image.mean(dim=0, keepdim=True)))
    places = torch.tensor([[0, y, x] for y in range(3) for x in range(3)])
    wanted = joined(image, cues, places, 4, 0.25)
    keep = OmniPackEntrance(0.45, columns=3)(view)
    assert kept(keep, view, int(view.modality[0, 1])) == [1 + index for index in wanted]


def test_without_lines_a_picture_is_a_sequence() -> None:
    view = featured("t" + "i" * 9 + "t")
    image = view.hidden_states[0, 1:10]
    cues = scaled(distance(image, image.mean(dim=0, keepdim=True)))
    wanted = joined(image, cues, torch.arange(9)[:, None], 4, 0.25)
    keep = OmniPackEntrance(0.45)(view)
    assert kept(keep, view, int(view.modality[0, 1])) == [1 + index for index in wanted]


def test_a_clip_without_frames_is_a_sequence() -> None:
    view = featured("t" + "v" * 10 + "t")
    view = replace(view, frame=torch.full_like(view.frame, -1))
    clip = view.hidden_states[0, 1:11]
    change = torch.cat([distance(clip[:-1], clip[1:]), distance(clip[-1:], clip[-2:-1])])
    cues = scaled(change) + scaled(distance(clip, clip.mean(dim=0, keepdim=True)))
    wanted = joined(clip, cues, torch.arange(10)[:, None], 5, 0.25)
    assert kept(OmniPackEntrance(0.5)(view), view, VIDEO) == [1 + index for index in wanted]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_importance_alone_and_coverage_alone(share: float) -> None:
    view = featured(PROMPT)
    keep = OmniPackEntrance(0.5, 0.4, share, share)(view)
    assert len(kept(keep, view, VIDEO)) == 12
    assert len(kept(keep, view, AUDIO)) == 6
    if share:
        audio = view.hidden_states[0, 27:42]
        change = torch.cat([distance(audio[:-1], audio[1:]), distance(audio[-1:], audio[-2:-1])])
        best = change.argsort(descending=True)[:6].sort().values + 27
        assert kept(keep, view, AUDIO) == best.tolist()


def relevance(view: LayerView, media: Tensor) -> Tensor:
    """R of each media token, by loops."""
    states = view.hidden_states[0].double()
    question = states[-3:]
    modality = view.modality[0]
    asked, crossed, dense = [], [], []
    for index in media.tolist():
        token = states[index]
        near = [float(1 - distance(token, word)) for word in question]
        asked.append(max(*near, float(1 - distance(token, question.mean(dim=0)))))
        other = states[media[modality[media] != modality[index]]].mean(dim=0)
        crossed.append(float(1 - distance(token, other)))
        apart = [float(distance(token, states[one])) for one in media.tolist()]
        dense.append(-sum(apart) / len(apart))
    terms = [torch.tensor(asked), torch.tensor(crossed), torch.tensor(dense).exp()]
    return torch.stack([scaled(term) for term in terms]).sum(dim=0)


def test_diversity_among_the_relevant() -> None:
    view = featured(PROMPT)
    keep = OmniPackDiversity()(view)
    media = view.media[0].nonzero().squeeze(1)
    weights = 1 + scaled(relevance(view, media))
    states = view.hidden_states[0, media].double()
    apart = distance(states[:, None], states[None]).fill_diagonal_(float("inf"))
    apart = apart * weights[:, None]
    picks = [int(apart.amin(dim=1).argmax())]
    while len(picks) < round(0.5 * len(media)):
        nearest = apart[:, picks].amin(dim=1)
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
    assert keep is not None
    assert (keep[0] & view.media[0]).nonzero().squeeze(1).tolist() == sorted(media[picks].tolist())
    assert keep[0, view.modality[0] == 1].all()


@pytest.mark.parametrize("prompts", [("tvvvvvvvt", "ttt"), ("aaaaaaa",), (PROMPT, "tiiiat")])
def test_half_of_what_is_left_whatever_the_prompt(prompts: tuple[str, ...]) -> None:
    view = featured(*prompts)
    hook = OmniPackDiversity()
    keep, dry = hook(view), hook.dry_run(view)
    assert keep is not None and dry is not None
    for row, total in enumerate(view.media.sum(dim=1).tolist()):
        wanted = max(1, round(0.5 * total)) if total else 0
        assert int((keep & view.media)[row].sum()) == wanted
        assert int((dry & view.media)[row].sum()) == wanted
    for number, prompt in enumerate(prompts):
        alone = hook(featured(prompt, seed=number))
        assert alone is not None
        assert torch.equal(alone[0], keep[number, -len(prompt) :])


def test_settings() -> None:
    assert METHODS["omnipack"] == ("omnipack_entrance", "omnipack_diversity")
    assert OmniPackDiversity().layers(28) == {18}
    assert OmniPackDiversity(layer=9).layers(28) == {9}
    config = FastAVConfig(visual_keep_ratio=0.15, global_layer=3)
    diversity = OmniPackDiversity.from_config(config)
    assert (diversity.keep_ratio, diversity.layer) == (0.5, None)
    assert OmniPackEntrance.from_config(config).visual_keep_ratio == 0.15
    for name, value in (("visual_importance", 1.5), ("audio_importance", -1)):
        with pytest.raises(ConfigError, match=f"`{name}`.*{value}"):
            OmniPackEntrance(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`keep_ratio`"):
        OmniPackDiversity(0)


def test_no_media() -> None:
    view = make_view(modalities("tttt", "..tt"))
    for hook in (OmniPackEntrance(), OmniPackDiversity()):
        keep = hook(view)
        assert keep is not None and keep[view.alive].all()

"""Where the tokens of real processors lie on what they made of real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastav_plugin import UnsupportedError
from fastav_plugin.analysis.media_tokens import Picture, pictures_of, positions_of, video_grid
from fastav_plugin.cli.options.checkpoint import Machine
from fastav_plugin.cli.options.media import Reading
from fastav_plugin.cli.scene import Scene
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.model_overrides import find_override
from fastav_plugin.tokens import TokenMap
from tests.model_overrides.videollama2.checkpoint import write_official
from tests.pages.picture_models import save_llava_next, save_llava_onevision, save_qwen2_5_vl
from tests.support.checkpoints import save_llava

CLIP = SAMPLES[1].path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.zeros((96, 160, 3), np.uint8)
    pixels[:48, :80] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def load(folder: Path, frames: int | None = None, **files: Any) -> tuple[Scene, TokenMap]:
    given = {"images": [], "video": None, "audio": None} | files
    reading, machine = Reading(frames=frames), Machine(threads=1)
    scene = Scene.load(folder, "Which sound?", reading=reading, machine=machine, **given)
    override = find_override(scene.model)
    ids, mask = scene.inputs["input_ids"], scene.inputs.get("attention_mask")
    return scene, override.token_map(scene.model.config, ids, mask, scene.inputs)


def pictures(folder: Path, kind: str, **files: Any) -> list[Picture]:
    """The pictures of a prompt, which hold each of its visual tokens once, in order."""
    scene, tokens = load(folder, **files)
    found = pictures_of(scene.processor, scene.inputs, scene.media, tokens)
    assert {picture.kind for picture in found} == {kind}
    joined = np.concatenate([picture.positions for picture in found])
    assert joined.tolist() == positions_of(tokens, kind).tolist()
    for picture in found:
        assert picture.grid is None or np.prod(picture.grid) == len(picture.positions)
    return found


def test_a_clip_of_a_processor_that_states_grids(tmp_path: Path) -> None:
    found = pictures(MODEL_PATH, "video", video=CLIP)
    assert [(picture.grid, picture.seconds) for picture in found] == [
        ((4, 4), float(second)) for second in range(8)
    ]
    assert {picture.pixels.shape for picture in found} == {(112, 112, 3)}
    save_qwen2_5_vl(tmp_path)
    assert [picture.grid for picture in pictures(tmp_path, "video", video=CLIP, frames=4)] == [
        (12, 12),
        (12, 12),
    ]


@pytest.mark.parametrize(
    ("save", "grid", "tokens"),
    [
        (save_qwen2_5_vl, (3, 6), 18),
        (save_llava_next, None, 396),
        (save_llava_onevision, None, 396),
    ],
)
def test_an_image(
    tmp_path: Path,
    photo: Path,
    save: Callable[[Path], None],
    grid: tuple[int, int] | None,
    tokens: int,
) -> None:
    """Tiles of a picture are joined with tokens between their rows, which is no grid."""
    save(tmp_path / "model")
    (found,) = pictures(tmp_path / "model", "image", images=[photo])
    assert (found.grid, len(found.positions), found.seconds) == (grid, tokens, None)
    assert found.pixels.shape == (96, 160, 3)


def test_squares_are_shown_as_the_model_sees_them(tmp_path: Path, photo: Path) -> None:
    """LLaVA's processor cuts the middle out of a picture, so the file's pixels would lie."""
    save_llava(tmp_path / "model")
    found = pictures(tmp_path / "model", "image", images=[photo, photo])
    assert [picture.grid for picture in found] == [(12, 12)] * 2
    assert found[0].pixels.shape == (96, 96, 3)
    # The bright corner of the photo, to one grey level.
    assert np.abs(found[0].pixels[4:40, 4:40].astype(int) - 255).max() <= 1
    assert found[0].pixels[56:].max() <= 1


def test_frames_that_a_processor_of_ours_read(tmp_path: Path) -> None:
    write_official(tmp_path)
    found = pictures(tmp_path, "video", video=CLIP)
    assert [picture.grid for picture in found] == [(2, 2)] * 4
    assert [picture.seconds for picture in found] == [0, 2, 4, 6]
    assert len({picture.pixels.tobytes() for picture in found}) == 4


def test_frames_without_a_grid_have_their_own_tokens(tmp_path: Path) -> None:
    save_llava_onevision(tmp_path)
    found = pictures(tmp_path, "video", video=CLIP, frames=4)
    # A new line ends the clip.
    assert [(picture.grid, len(picture.positions)) for picture in found] == [
        (None, count) for count in (36, 36, 36, 37)
    ]


def test_sound_alone_has_no_pictures() -> None:
    scene, tokens = load(MODEL_PATH, audio=CLIP)
    assert pictures_of(scene.processor, scene.inputs, scene.media, tokens) == []
    assert len(positions_of(tokens, "audio")) == 200


def test_the_grid_of_one_video() -> None:
    scene, _ = load(MODEL_PATH, video=CLIP)
    assert video_grid(scene.processor, scene.inputs) == (8, 4, 4)
    with pytest.raises(UnsupportedError, match="`fastav visualize explore`"):
        video_grid(scene.processor, {})

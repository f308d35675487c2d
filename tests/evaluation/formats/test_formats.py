"""Every format: its rows, how it is told, and what is wrong with malformed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.dataset import Dataset, read_dataset
from fastav_plugin.evaluation.formats.avhbench import PICTURES_ALONE, SOUND_ALONE, TASKS
from fastav_plugin.evaluation.formats.music_avqa import fill_placeholders
from fastav_plugin.evaluation.formats.registry import FORMATS
from tests.evaluation.formats.media import FILES, MEDIA_NAMES


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    for name in MEDIA_NAMES:
        (folder / name).touch()
    return folder


def read(media: Path, file: str, **options: Any) -> Dataset:
    return read_dataset(FILES / file, media=[media], **options)


def changed(folder: Path, name: str, **values: Any) -> Path:
    """A file of one row: the first of another file, with other values; None takes one away."""
    text = (FILES / name).read_text()
    rows = json.loads(text) if text.startswith("[") else [json.loads(text.split("\n")[0])]
    row = {key: value for key, value in {**rows[0], **values}.items() if value is not None}
    path = folder / "changed.json"
    path.write_text(json.dumps([row]))
    return path


ALL = {
    "avqa.json": ("avqa", 4),
    "music_avqa.json": ("music-avqa", 6),
    "avhbench.json": ("avhbench", 8),
    "avhbench_training.json": ("avhbench", 6),
    "coco_pope_adversarial.json": ("pope", 4),
    "pope_export.jsonl": ("pope", 4),
    "videollama2.json": ("videollama2", 4),
    "coco_captions.json": ("coco-captions", 2),
    "plain.jsonl": ("plain", 4),
}


@pytest.mark.parametrize("name", ALL)
def test_every_file_is_told_and_read(media: Path, name: str) -> None:
    found = read(media, name)
    assert (found.form.name, len(found.questions)) == ALL[name]
    assert found.faults == []
    assert set(found.samples) == {question.key for question in found.questions}
    for question in found.questions:
        assert question.text == found.samples[question.key].question
        assert found.places[question.key]
    clips = [question.clip for question in found.questions]
    assert len(set(clips)) == sum(a != b for a, b in zip(clips, ["", *clips], strict=False))


def test_no_row_is_of_two_formats() -> None:
    for name, (expected, _) in ALL.items():
        text = (FILES / name).read_text()
        whole = json.loads(text) if name.endswith(".json") and text[0] != "{" else None
        first = whole[0] if whole else json.loads(text if "images" in text else text.split("\n")[0])
        assert [form.name for form in FORMATS.values() if form.recognises(first)] == [expected]


def test_music_avqa(media: Path) -> None:
    found = {question.key: question for question in read(media, "music_avqa.json").questions}
    assert [found[str(key)].text for key in range(6)] == [
        "Which colour is the ladder ?",
        "When is the hum heard?",
        "Is the circle visible?",
        "When is the click heard?",
        "Is the cross visible?",
        "Which sound is heard?",
    ]
    assert found["0"].task == "Visual Location"
    assert found["0"].right == ("blue",)
    assert found["0"].clip == "00000002.mp4"
    assert (found["0"].rule, found["0"].part) == ("exact", "music-avqa")


@pytest.mark.parametrize(
    ("question", "values", "expected"),
    [
        ("Is the <Object> louder than the <Object>?", ["a", "b"], "Is the a louder than the b?"),
        ("Where is the <FL> <LRer> instrument？  ", ["x", "y"], "Where is the x y instrument?"),
        ("Is <TH>, first?", ["it <b>"], "Is it <b>, first?"),
        ("How many?", ["spare"], "How many?"),
        ("a  <BA", ["x"], "a  x"),
    ],
)
def test_placeholders(question: str, values: list[str], expected: str) -> None:
    assert fill_placeholders(question, values) == expected


@given(st.lists(st.sampled_from(["is", "<Object>", "the", "<LL>"]), min_size=1, max_size=9))
def test_placeholders_are_filled_in_order(words: list[str]) -> None:
    names = [f"v{place}" for place, word in enumerate(words) if "<" in word]
    filled = fill_placeholders(" ".join(words) + "?", names)
    assert (
        filled
        == " ".join(f"v{place}" if "<" in word else word for place, word in enumerate(words)) + "?"
    )
    if names:
        with pytest.raises(ConfigError, match="too few"):
            fill_placeholders(" ".join(words), names[:-1])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"templ_values": "[]"}, "too few"),
        ({"templ_values": "['a'"}, "list written as text"),
        ({"templ_values": "__import__('os')"}, "list written as text"),
        ({"templ_values": "['a', 3]"}, "list of texts"),
        ({"type": "[]"}, "kind of the question"),
        ({"type": 3}, "list of texts"),
        ({"anser": None}, "no `anser` or `answer`"),
        ({"video_id": "00000009"}, "video file '00000009' is not in"),
    ],
)
def test_malformed_music_avqa(
    media: Path, tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    fault(changed(tmp_path, "music_avqa.json", **values), media, "music-avqa", reason)


def fault(path: Path, media: Path, name: str, reason: str) -> None:
    found = read_dataset(path, name=name, media=[media])
    assert found.questions == []
    [only] = found.faults
    assert only.place == "[0], line 1"
    assert reason in only.reason


def test_avqa(media: Path) -> None:
    first, second, *_ = read(media, "avqa.json").questions
    assert first.text.split("\n") == [
        "Which colour is the circle?",
        *("A. red", "B. green", "C. blue", "D. white"),
        "Answer with the letter of the right option.",
    ]
    assert (first.right, first.rule, first.task) == (("green",), "choice", "Which")
    assert first.chance == 0.25
    assert second.right == ("early",)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("avqa", {"answer": 4}, "place from 0 to 3"),
        ("avqa", {"answer": -1}, "place from 0 to 3"),
        ("avqa", {"answer": "one"}, "place from 0 to 3"),
        ("avqa", {"answer": True}, "place from 0 to 3"),
        ("avqa", {"answer": None}, "place from 0 to 3"),
        ("avqa", {"multi_choice": ["red"]}, "2 to 26 options"),
        ("avqa", {"multi_choice": ["red", 2]}, "must hold texts"),
        ("avhbench", {"task": "AV Guessing"}, "Known: Video-driven"),
        ("avhbench", {"label": "Perhaps"}, "must be Yes or No"),
        ("coco_pope_adversarial", {"label": "maybe"}, "must be yes or no"),
        ("coco_pope_adversarial", {"image": "x.jpg"}, "image file 'x.jpg'"),
        ("activitynet_q", {}, "in another file"),
        ("activitynet_q", {"answer": "yes", "type": 9}, "from 0 to 8"),
        ("activitynet_q", {"answer": "yes", "type": None}, "from 0 to 8"),
        ("activitynet_q", {"answer": 3, "type": 3}, "`answer` must be text"),
        ("videollama2", {"conversations": []}, "one question"),
        ("videollama2", {"conversations": "x"}, "one question"),
        ("videollama2", {"conversations": [{"from": "human"}, {"from": "gpt"}]}, "is empty"),
        ("videollama2", {"video": None}, "none of"),
        ("plain", {"answer": []}, "`answer` must be"),
        ("plain", {"choices": ["red", "blue"]}, "none of the `choices`"),
        ("plain", {"video": None}, "none of"),
    ],
)
def test_malformed_rows(
    media: Path, tmp_path: Path, name: str, values: dict[str, Any], reason: str
) -> None:
    form = {"activitynet_q": "activitynet-qa", "coco_pope_adversarial": "pope"}.get(name, name)
    file = "plain.jsonl" if name == "plain" else f"{name}.json"
    fault(changed(tmp_path, file, **values), media, form, reason)


def test_an_index_written_as_text(media: Path, tmp_path: Path) -> None:
    [question] = read_dataset(changed(tmp_path, "avqa.json", answer="2"), media=[media]).questions
    assert question.right == ("blue",)


def test_avhbench_in_both_namings(media: Path) -> None:
    names = []
    for name in ("avhbench.json", "avhbench_training.json"):
        found = read(media, name)
        for question in found.questions:
            names.append(question.task)
            caption = question.task == "AV Captioning"
            assert question.rule == ("cider-d" if caption else "yes-no")
            yes_or_no = question.right in {("yes",), ("no",)}
            assert yes_or_no != caption, question.right
            sample = found.samples[question.key]
            assert (sample.video is None) == (question.task == SOUND_ALONE)
            assert (sample.audio is None) == (question.task != SOUND_ALONE)
            assert sample.sound == (question.task != PICTURES_ALONE)
    assert set(names) == set(TASKS)


def test_pope_of_both_publishers(media: Path) -> None:
    own, other = read(media, "coco_pope_adversarial.json"), read(media, "pope_export.jsonl")
    prompt = "Is the circle visible?\nAnswer the question using a single word or phrase."
    assert own.questions[0].text == other.questions[0].text == prompt
    assert {question.task for question in own.questions} == {"pope"}
    assert {question.task for question in other.questions} == {"random", "popular"}
    # Ids repeat from category to category; keys do not.
    assert len({question.key for question in other.questions}) == 4
    assert own.form.max_new_tokens == 128


def test_activitynet_qa(media: Path) -> None:
    found = read(media, "activitynet_q.json", answers=FILES / "activitynet_a.json")
    assert [question.task for question in found.questions] == [
        *("colour", "yes/no", "colour", "temporal relation")
    ]
    first = found.questions[0]
    assert first.text == (
        "Which colour is the circle? Answer the question using a single word or phrase."
    )
    assert (first.right, first.rule) == (("green",), "offline-match")
    assert first.clip == "v_1QIUV7WYKXg.mp4"


def test_videollama2(media: Path) -> None:
    found = read(media, "videollama2.json")
    assert [question.text for question in found.questions] == [
        *("Which colour is the circle?", "Is the circle visible?"),
        *("When is the click heard?", "Which sound is heard?"),
    ]
    assert found.questions[0].right == ("Green",)
    assert found.samples["3"].audio == media / "single.mp4"


def test_coco_captions(media: Path, tmp_path: Path) -> None:
    found = read(media, "coco_captions.json", rule="exact")
    assert {question.rule for question in found.questions} == {"cider-d"}
    assert found.questions[0].right == (
        *("A green circle and a purple cross.", "Circle and cross on a noisy wall."),
    )
    assert found.questions[0].text == "Provide a one-sentence caption for the provided image."
    row = {"file_name": "000000000001.jpg", "coco_url": "", "answer": ["A", "B"], "question_id": 1}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    [question] = read_dataset(tmp_path / "rows.json", media=[media]).questions
    assert question.right == ("A", "B")
    document = {
        "images": [{"id": 1, "file_name": "000000000001.jpg"}, {"id": 2, "file_name": "x"}, 3],
        "annotations": [{"image_id": 1, "caption": "A"}, {"image_id": 9, "caption": "B"}, 4],
    }
    (tmp_path / "document.json").write_text(json.dumps(document))
    broken = read_dataset(tmp_path / "document.json", media=[media])
    assert [question.right for question in broken.questions] == [("A",)]
    assert sorted(fault.place for fault in broken.faults) == [
        *("annotations[1]", "annotations[2]", "images[1]", "images[2]")
    ]
    (tmp_path / "none.json").write_text('{"images": [], "annotations": 3}')
    with pytest.raises(ConfigError, match="must hold the lists"):
        read_dataset(tmp_path / "none.json")


def test_plain(media: Path) -> None:
    found = read(media, "plain.jsonl")
    assert [question.rule for question in found.questions] == ["exact", "exact", "choice", "exact"]
    assert found.questions[1].right == ("yes", "yes it is")
    assert found.samples["1"].video == media / "crowded.mp4"
    assert found.questions[2].chance == 0.5


def test_options(media: Path) -> None:
    options = {"template": r"{question}\n{options}", "rule": "exact", "max_new_tokens": 5}
    found = read(media, "avqa.json", **options, limit=2)
    assert len(found.questions) == 2
    assert found.questions[0].rule == "exact"
    assert found.questions[0].text.endswith("?\nA. red\nB. green\nC. blue\nD. white")
    assert found.form.max_new_tokens == 5
    assert found.facts()["prompt"] == "{question}\n{options}"
    assert found.facts()["data"] == read(media, "avqa.json").facts()["data"]
    assert found.facts()["data"] != read(media, "music_avqa.json").facts()["data"]


@pytest.mark.parametrize("template", ["ask", "{question} {0}", "{question} {x}", "{question", "{}"])
def test_wrong_templates(media: Path, template: str) -> None:
    with pytest.raises(ConfigError, match="prompt template must hold {question}"):
        read(media, "avqa.json", template=template)


def test_questions_with_braces_stay_as_they_are(media: Path, tmp_path: Path) -> None:
    path = changed(tmp_path, "avqa.json", question_text="Which {options}?")
    assert read_dataset(path, media=[media]).questions[0].text.startswith("Which {options}?\nA.")


def test_wrong_names(media: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'avqa'. Known: avqa, "):
        read(media, "avqa.json", name="avqa2")
    with pytest.raises(ConfigError, match="Unknown matching rule"):
        read(media, "avqa.json", rule="loose")
    (tmp_path / "odd.json").write_text('[{"a": 1}]')
    with pytest.raises(ConfigError, match="like no known format; .* record are: a"):
        read_dataset(tmp_path / "odd.json")
    row = {"video_id": "", "task": "", "text": "", "label": "", "image": ""}
    (tmp_path / "two.json").write_text(json.dumps([row]))
    with pytest.raises(ConfigError, match="like avhbench and pope"):
        read_dataset(tmp_path / "two.json")


def test_media_in_several_folders(media: Path, tmp_path: Path) -> None:
    folders = [tmp_path, media]
    found = read_dataset(FILES / "avqa.json", media=folders)
    assert found.questions == read(media, "avqa.json").questions

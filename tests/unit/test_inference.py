from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from alexnet.build import build
from alexnet.checkpoints import untrained
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.errors import UserError
from alexnet.inference import Viewer, looked_at
from alexnet.zoo import NETWORKS, network_from

CPU = torch.device("cpu")
SMALL = network_from("alexnet-2012@67").adapted(classes=5, hidden=8)


def test_a_walk_gives_every_stage_what_the_whole_network_has_there() -> None:
    checkpoint = untrained(SMALL, seed=3)
    images = torch.randn(2, 3, 67, 67, generator=torch.Generator().manual_seed(0)) * 50
    whole = build(SMALL).eval()
    whole.load_state_dict(dict(checkpoint.weights))
    viewer = Viewer(checkpoint, CPU)
    values = images
    with torch.no_grad():
        walked = list(viewer.walk(images))
        for (stage, output), (name, child) in zip(walked, whole.named_children(), strict=False):
            values = child(values)
            assert stage.name == name
            assert output.shape == (2, *stage.out_shape)
            torch.testing.assert_close(output, values, rtol=1e-4, atol=1e-3)  # sums in another order
        torch.testing.assert_close(viewer.scores(images), values, rtol=1e-4, atol=1e-3)
    assert [stage.name for stage, _ in walked] == [stage.name for stage in SMALL.stages()]
    torch.testing.assert_close(walked[-1][1], walked[-2][1].softmax(1))


def test_a_walk_ends_before_the_first_missing_weights_and_scores_say_which() -> None:
    checkpoint = untrained(SMALL)
    kept = {name: tensor for name, tensor in checkpoint.weights.items() if not name.startswith(("conv4", "fc7"))}
    partial = dataclasses.replace(checkpoint, weights=kept)
    assert partial.missing == ("conv4", "fc7")
    viewer = Viewer(partial, CPU)
    assert [stage.name for stage, _ in viewer.walk(torch.zeros(1, 3, 67, 67))][-1] == "relu3"
    with pytest.raises(UserError, match="no weights for conv4, fc7"):
        viewer.scores(torch.zeros(1, 3, 67, 67))


@pytest.mark.parametrize("mean_image", [False, True])
def test_a_picture_is_cropped_and_the_mean_under_the_crop_subtracted(mean_image: bool) -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (12, 20, 3), np.uint8)
    mean = torch.from_numpy(random.random((3, 12, 12), np.float32)) * 100 if mean_image else torch.full((3, 1, 1), 9.0)
    made = Preprocessing(Geometry(12, 6, 8), mean, torch.tensor([2.0, 4.0, 5.0])[:, None, None])
    crop, inputs = looked_at(made, picture)
    expected = picture[3:9, 6:14]  # the central 12×12 of 12×20 begins at column 4, its central 6×8 at row 3, column 2
    np.testing.assert_array_equal(crop, expected)
    under = mean[:, 3:9, 2:10] if mean_image else mean
    by_hand = (torch.from_numpy(expected.astype(np.float32)).permute(2, 0, 1) - under) / made.divisor
    assert inputs.shape == (1, 3, 6, 8)
    torch.testing.assert_close(inputs[0], by_hand)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith(("alexnet", "caffe", "bvlc"))])
def test_every_network_can_be_looked_at_untrained(name: str) -> None:
    network = NETWORKS[name].adapted(classes=3, hidden=8)
    first = untrained(network, seed=1).weights["conv1.weight"]
    layer = dict(network.layers)["conv1"]
    deviation = layer.init_std or (2 / first[0].numel()) ** 0.5  # as the source states, else He's
    assert float(first.std()) == pytest.approx(deviation, rel=0.03)
    assert not torch.equal(first, untrained(network, seed=2).weights["conv1.weight"])

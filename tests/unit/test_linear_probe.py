"""How much of a photograph's class pool5 tells a linear classifier, against the same network with weights shuffled."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional

from alexnet.inference import Viewer, looked_at
from tests.bvlc import bvlc_checkpoint, photographs

if TYPE_CHECKING:
    import numpy as np

TRAIN, VAL, FEW = 20, 20, 10  # pictures a class; of shuffled weights a few show enough


def pool5(viewer: Viewer, pictures: dict[str, list[np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(pictures, 9216) values and (pictures,) labels."""
    preprocessing = viewer.checkpoint.preprocessing
    labels = torch.tensor([label for label, some in enumerate(pictures.values()) for _ in some])
    inputs = [looked_at(preprocessing, picture)[1] for some in pictures.values() for picture in some]
    found = []
    with torch.no_grad():
        for start in range(0, len(inputs), 40):
            walked = {stage.name: values for stage, values in viewer.walk(torch.cat(inputs[start : start + 40]))}
            found.append(walked["pool5"].flatten(1))
    return torch.cat(found), labels


def probe_accuracy(
    train: tuple[torch.Tensor, torch.Tensor], val: tuple[torch.Tensor, torch.Tensor], decay: float = 0.001
) -> float:
    """Multinomial logistic regression on standardised features; the share of validation pictures it gets right."""
    features, labels = train
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    scaled = [(some - mean) / deviation / features.shape[1] ** 0.5 for some in (features, val[0])]
    weights = torch.zeros(features.shape[1] + 1, int(labels.max()) + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(scaled[0] @ weights[1:] + weights[0], labels)
        value = value + decay * weights[1:].square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        return float(((scaled[1] @ weights[1:] + weights[0]).argmax(1) == val[1]).float().mean())


@pytest.mark.xdist_group("probe")
@pytest.mark.long
def test_pool5_tells_classes_apart_and_shuffled_weights_do_not() -> None:
    checkpoint = bvlc_checkpoint()
    random = torch.Generator().manual_seed(0)
    shuffled = {
        name: weight.flatten()[torch.randperm(weight.numel(), generator=random)].reshape(weight.shape)
        if name.endswith("weight")
        else weight
        for name, weight in checkpoint.weights.items()
    }
    train, val = photographs("train", TRAIN), photographs("val", VAL)
    assert (len(train), {len(some) for some in train.values()}) == (10, {TRAIN})
    assert {len(some) for some in val.values()} == {VAL}
    accuracy = {}
    start = time.perf_counter()
    for name, weights in (("trained", checkpoint.weights), ("shuffled", shuffled)):
        viewer = Viewer(replace(checkpoint, weights=weights), torch.device("cpu"))
        judged = val if name == "trained" else {wnid: some[:FEW] for wnid, some in val.items()}
        accuracy[name] = probe_accuracy(pool5(viewer, train), pool5(viewer, judged))
    seconds = time.perf_counter() - start
    print(f"linear probe on pool5, {TRAIN} pictures a class, {10 * VAL} looked at: {accuracy}, {seconds:.1f} s")
    assert accuracy["trained"] >= 0.80
    assert 0.05 < accuracy["shuffled"] < 0.40

from __future__ import annotations

import argparse
import collections
import copy
import dataclasses
import datetime as dt
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from alexnet import checkpoints
from alexnet.__main__ import main
from alexnet.checkpoints import Checkpoint, CheckpointError
from alexnet.errors import UserError
from alexnet.foreign import PIXELS, CheckpointMismatchError, inspect, open_checkpoint
from alexnet.foreign.mapping import fit, units_of
from alexnet.inference import Viewer, looked_at
from alexnet.zoo import NETWORKS
from tests import layouts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

ROOT = Path(__file__).parents[2]


def scores(opened: Checkpoint, images: Tensor) -> Tensor:
    return Viewer(opened, torch.device("cpu")).scores(images)


def agrees(opened: Checkpoint, module: nn.Module, side: int = 224) -> None:
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = module.eval()(images)
    torch.testing.assert_close(scores(opened, images), expected, rtol=1e-3, atol=1e-4)


def caffe_agrees(opened: Checkpoint, weights: Any, *, pool_first: bool = False) -> None:
    """The opened network on red, green, blue against Caffe's own on blue, green, red."""
    images = torch.randn(2, 3, 227, 227, generator=torch.Generator().manual_seed(3)) * 50
    expected = layouts.caffe_forward(weights, images.flip(1), pool_first=pool_first)
    torch.testing.assert_close(scores(opened, images), expected, rtol=1e-3, atol=1e-2)


@pytest.fixture(scope="module")
def alexnet() -> nn.Module:
    torch.manual_seed(0)
    return layouts.TorchvisionAlexNet(num_classes=7, hidden=16)


# --- torch -----------------------------------------------------------------------------------------------------------


def examples(module: nn.Module) -> dict[str, Any]:
    """What main.py of pytorch/examples saves: for AlexNet only the features are in DataParallel."""
    module.features = nn.DataParallel(module.features)  # type: ignore[assignment]
    state = dict(module.state_dict())
    module.features = module.features.module  # type: ignore[assignment,union-attr]
    assert "features.module.0.weight" in state
    momentum = {index: {"momentum_buffer": tensor.clone()} for index, tensor in enumerate(state.values())}
    return {
        "epoch": 90,
        "arch": "alexnet",
        "state_dict": state,
        "best_acc1": torch.tensor(56.5),
        "optimizer": {"state": momentum, "param_groups": [{"lr": 1e-4, "params": list(momentum)}]},
        "scheduler": {"last_epoch": 90},
    }


def reference(module: nn.Module) -> dict[str, Any]:
    """What references/classification/train.py of torchvision saves."""
    options = argparse.Namespace(model="alexnet", lr=0.01, data_path=Path("/data"), classes=None)
    return {
        "model": module.state_dict(),
        "optimizer": {},
        "epoch": 3,
        "args": options,
        "model_ema": module.state_dict(),
    }


def compiled(module: nn.Module, *, parallel: bool = False) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's imports use what is deprecated
        made = torch.compile(module)
        made = nn.DataParallel(made) if parallel else made
    assert f"{'module.' * parallel}_orig_mod.features.0.weight" in made.state_dict()
    return made


LAYOUTS: dict[str, Callable[[nn.Module], Any]] = {
    "a state_dict": lambda module: module.state_dict(),
    "a plain dictionary": lambda module: dict(module.state_dict()),
    "pytorch/examples": examples,
    "torchvision's reference": reference,
    "DistributedDataParallel": lambda module: nn.DataParallel(module).state_dict(),
    "torch.compile": lambda module: compiled(module).state_dict(),
    "compiled in DataParallel": lambda module: nn.DataParallel(torch.compile(module)).state_dict(),  # type: ignore[arg-type]
    "Lightning": lambda module: {
        "state_dict": {f"model.{name}": tensor for name, tensor in module.state_dict().items()},
        "pytorch-lightning_version": "2.0",
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {},
    },
    "parameters": lambda module: {"net": dict(module.named_parameters()), "acc": 93.0},
    "a wrapper nobody knows": lambda module: {"my_own_key": module.state_dict(), "step": 3},
    "a script's own things": lambda module: {
        "state_dict": module.state_dict(),
        "losses": collections.defaultdict(list, train=[1.0, 0.5]),
        "folder": Path("runs"),
        "rng": np.arange(3),
        "when": dt.datetime(2024, 1, 2, tzinfo=dt.UTC).replace(tzinfo=None),
    },
    "numpy scalars": lambda module: {"state_dict": module.state_dict(), "best_acc1": np.float64(0.25), "epoch": 2},
}


# torch's compiler, which one layout needs, warns of torch while it is imported.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_layouts_of_the_same_network(
    layout: str, alexnet: nn.Module, tmp_path: Path, *, new_format: bool
) -> None:
    path = tmp_path / "x.pth"
    torch.save(LAYOUTS[layout](alexnet), path, _use_new_zipfile_serialization=new_format)
    opened = open_checkpoint(path)
    assert opened.network.name == "alexnet-owt"
    assert (opened.network.classes, opened.network.hidden) == (7, 16)
    assert not opened.missing
    assert "torchvision's names" in opened.origin
    if new_format:
        agrees(opened, alexnet)


def test_what_lies_beside_the_weights_is_kept_as_plain_values(alexnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(examples(alexnet), path)
    opened = open_checkpoint(path)
    assert opened.origin == "torchvision's names, in a training checkpoint of pytorch/examples (epoch 90)"
    assert opened.results == {"epoch": 90, "best_acc1": 56.5}
    assert opened.config == {"arch": "alexnet"}
    torch.save(reference(alexnet), path)
    opened = open_checkpoint(path)
    assert opened.config == {"model": "alexnet", "lr": 0.01}
    assert any("averaged weights (model_ema)" in note for note in opened.notes)
    torch.save(LAYOUTS["numpy scalars"](alexnet), path)
    assert open_checkpoint(path).results == {"best_acc1": 0.25, "epoch": 2}


def test_names_of_classes_are_the_files_or_numbers_and_never_made_up(alexnet: nn.Module, tmp_path: Path) -> None:
    path, state = tmp_path / "x.pth", alexnet.state_dict()
    torch.save(state, path)
    opened = open_checkpoint(path)
    assert opened.classes == tuple(f"class {number}" for number in range(7))
    assert any("names none of its 7 classes" in note for note in opened.notes)
    torch.save({"state_dict": state, "classes": list("abcdefg")}, path)
    assert open_checkpoint(path).classes == tuple("abcdefg")
    torch.save({"state_dict": state, "class_to_idx": {letter: 6 - n for n, letter in enumerate("abcdefg")}}, path)
    assert open_checkpoint(path).classes == tuple("gfedcba")
    torch.save({"state_dict": state, "classes": list("abc")}, path)
    assert open_checkpoint(path).classes[0] == "class 0"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    module = layouts.TorchvisionAlexNet(3, 8).to(dtype)
    torch.save(module.state_dict(), tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert {tensor.dtype for tensor in opened.weights.values()} == {torch.float32}
    assert torch.equal(opened.weights["fc8.weight"], module.classifier[6].weight.detach().float())
    assert {held.dtype for held in inspect(tmp_path / "x.pth").tensors} == {str(dtype).removeprefix("torch.")}


def test_a_usual_port_of_the_paper(tmp_path: Path) -> None:
    torch.manual_seed(1)
    port = layouts.UsualPort(4, 8)
    torch.save(port.state_dict(), tmp_path / "alexnet.pkl")
    opened = open_checkpoint(tmp_path / "alexnet.pkl")
    assert opened.network.name == "alexnet-one-tower"
    agrees(opened, port, 227)


@pytest.mark.parametrize(("name", "ours"), [("vgg11", "vgg-a"), ("vgg16", "vgg-d")])
def test_vgg_of_torchvision_and_of_timm(name: str, ours: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    for module in (layouts.TorchvisionVGG(name, 3, 8), layouts.TimmVGG(name, 3, 8)):
        safetensors.torch.save_file(module.state_dict(), tmp_path / "x.safetensors")
        opened = open_checkpoint(tmp_path / "x.safetensors")
        assert opened.network.name == ours
        agrees(opened, module)
    assert "timm's names" in opened.origin


@pytest.mark.parametrize(
    ("make", "ours"),
    [
        (layouts.TorchvisionAlexNet, "alexnet-owt"),
        (lambda: layouts.TorchvisionVGG("vgg11"), "vgg-a"),
        (lambda: layouts.TorchvisionVGG("vgg13"), "vgg-b"),
        (lambda: layouts.TorchvisionVGG("vgg16"), "vgg-d"),
        (lambda: layouts.TorchvisionVGG("vgg19"), "vgg-e"),
        (layouts.UsualPort, "alexnet-one-tower"),
    ],
)
def test_published_shapes_fit_their_network_and_no_other(make: Callable[[], nn.Module], ours: str) -> None:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    units = units_of(shapes, ordered=True)
    fitting = {name for name, network in NETWORKS.items() if fit(units, network).fits}
    assert fitting == ({"vgg-a", "vgg-a-lrn"} if ours == "vgg-a" else {ours})
    assert fit(units, NETWORKS[ours]).network == NETWORKS[ours]
    assert fit(units, NETWORKS[ours]).missing == ()


def test_torchvisions_alexnet_is_refused_for_the_papers_with_every_reason(alexnet: nn.Module, tmp_path: Path) -> None:
    torch.save(alexnet.state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointMismatchError, match="does not fit alexnet-2012: ") as caught:
        open_checkpoint(tmp_path / "x.pth", network="alexnet-2012")
    assert "features.0.weight is 64×3×11×11 where conv1.weight is 96×3×11×11" in str(caught.value)
    assert "features.3.weight is 192×64×5×5 where conv2.weight is 256×48×5×5" in str(caught.value)
    assert "It fits alexnet-owt" in str(caught.value)
    wrong = {mismatch.place for mismatch in caught.value.mismatches}
    assert wrong == {f"conv{n}.{part}" for n, part in ((1, "weight"), (1, "bias"), (2, "weight"), (2, "bias"))} | {
        "conv3.weight",
        "conv4.weight",
        "conv4.bias",
        "conv5.weight",
    }
    assert "\n" not in str(caught.value)


def test_groups_are_the_reason_where_they_are(tmp_path: Path) -> None:
    torch.save(layouts.UsualPort(4, 8).state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        CheckpointMismatchError, match=r"is 256×96×5×5 where conv2.weight is 256×48×5×5 \(in 2 groups\)"
    ):
        open_checkpoint(tmp_path / "x.pth", network="alexnet-2012")


def test_the_nearest_network_is_named_with_every_mismatch(alexnet: nn.Module, tmp_path: Path) -> None:
    state = dict(alexnet.state_dict())
    state["features.8.weight"] = torch.zeros(256, 384, 5, 5)
    state["extra.weight"] = torch.zeros(3, 4)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointMismatchError, match="the nearest is alexnet-owt, with 2 mismatches") as caught:
        open_checkpoint(tmp_path / "x.pth")
    assert "features.8.weight is 256×384×5×5 where conv4.weight is 256×384×3×3" in str(caught.value)
    assert "extra.weight (3×4) has no place in alexnet-owt" in str(caught.value)
    assert caught.value.network.name == "alexnet-owt"
    assert len(caught.value.mismatches) == 2
    report = inspect(tmp_path / "x.pth")
    assert not report.fits
    assert report.nearest[0] == ("alexnet-owt", 2)
    assert "no network as it is; held against alexnet-owt" in report.text()


def test_batch_normalisation_is_refused_with_the_reason(tmp_path: Path) -> None:
    torch.save(layouts.TorchvisionVGG("vgg11", 3, 8, batch_norm=True).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointMismatchError, match="it has batch normalisation, which no network here has"):
        open_checkpoint(tmp_path / "x.pth")


def test_convolutions_without_biases_are_refused(tmp_path: Path) -> None:
    state = {
        name: tensor for name, tensor in layouts.TorchvisionAlexNet(3, 8).state_dict().items() if "0.bias" not in name
    }
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointMismatchError, match=r"features.0.weight comes without a bias where conv1 has one"):
        open_checkpoint(tmp_path / "x.pth")


def test_the_input_side_follows_from_fc6(tmp_path: Path) -> None:
    port = layouts.UsualPort(4, 8)
    port.classifier[1] = nn.Linear(256 * 3 * 3, 8)
    torch.save(port.state_dict(), tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert opened.network.input_shape == (3, 131, 131)
    assert any(
        "the input is taken to be 131×131: fc6 has the same weights for any side from 131 to" in note
        for note in opened.notes
    )
    agrees(opened, port, 131)


def test_half_the_layers_open_as_far_as_they_go(alexnet: nn.Module, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in alexnet.state_dict().items() if name.startswith("features")}
    torch.save(state, tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert opened.network.name == "alexnet-owt"
    assert opened.missing == ("fc6", "fc7", "fc8")
    assert opened.classes == ()
    with pytest.raises(UserError, match="no classes can be told"):
        scores(opened, torch.zeros(1, 3, 224, 224))
    images = torch.randn(1, 3, 224, 224)
    values = {stage.name: value for stage, value in Viewer(opened, torch.device("cpu")).walk(images)}
    with torch.no_grad():
        torch.testing.assert_close(values["pool5"], alexnet.features(images), rtol=1e-3, atol=1e-4)  # type: ignore[operator]


# --- Caffe, numpy, TensorFlow ----------------------------------------------------------------------------------------

NAMINGS = {
    "conv1.weight": (".weight", ".bias"),
    "conv1/weights": ("/weights", "/biases"),
    "conv1_w_0": ("_w_0", "_b_0"),
    "conv1_W": ("_W", "_b"),
    "conv1/kernel:0": ("/kernel:0", "/bias:0"),
    "conv1_weight": ("_weight", "_bias"),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_an_npz_of_any_naming(naming: str, tmp_path: Path) -> None:
    weights = layouts.caffe_weights()
    ends = NAMINGS[naming]
    arrays = {name + end: one.numpy() for name, pair in weights.items() for end, one in zip(ends, pair, strict=True)}
    save = np.savez if naming == "conv1_W" else np.savez_compressed
    save(tmp_path / "x.npz", **arrays)
    opened = open_checkpoint(tmp_path / "x.npz")
    if naming == "conv1.weight":  # as numpy.savez writes a torch module's state_dict
        assert opened.network.name == "alexnet-2012"
        assert float(opened.preprocessing.divisor[0]) == pytest.approx(58.395)
        opened = open_checkpoint(tmp_path / "x.npz", network="bvlc-alexnet", pixels="caffe")
    assert opened.network.name == "bvlc-alexnet"
    caffe_agrees(opened, weights)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("nested", ["lists", "dictionaries", "object arrays"])
def test_the_dictionary_in_a_npy_of_tensorflows_ports(protocol: int, nested: str, tmp_path: Path) -> None:
    weights = layouts.caffe_weights()
    held: dict[str, Any] = dict(layouts.tensorflow_layout(weights))
    if nested == "dictionaries":
        held = {name: dict(zip(("weights", "biases"), pair, strict=True)) for name, pair in held.items()}
    if nested == "object arrays":
        for name, pair in held.items():
            held[name] = np.empty(2, object)
            held[name][:] = pair
    array = np.empty((), object)
    array[()] = held
    with (tmp_path / "bvlc_alexnet.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(array, file, protocol=protocol)
    opened = open_checkpoint(tmp_path / "bvlc_alexnet.npy")
    assert opened.network.name == "bvlc-alexnet"
    assert opened.origin == "a dictionary of layers in a .npy file"
    caffe_agrees(opened, weights)


def test_a_dictionary_that_python_2_pickled(tmp_path: Path) -> None:
    # {'conv1': [array, array]} as numpy 1.x under Python 2 wrote it: names and bytes are old strings, in ASCII or not
    def array(values: np.ndarray) -> bytes:
        shape = b"(" + b"".join(b"I%d\n" % length for length in values.shape) + b"t"
        data = values.astype("<f4").tobytes()
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n" + shape
            + b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
            + b"T" + len(data).to_bytes(4, "little") + data + b"tb"
        )  # fmt: skip

    pair = layouts.tensorflow_layout(layouts.caffe_weights())["conv1"]
    inner = b"(dS'conv1'\n(l" + array(pair[0]) + b"a" + array(pair[1]) + b"as"
    outer = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(t"
    outer += b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR"
    outer += b"(I3\nS'|'\nNNNI-1\nI-1\nI63\ntbI00\n(l" + inner + b"atb."
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(outer)
    opened = open_checkpoint(tmp_path / "x.npy")
    assert torch.equal(opened.weights["conv1.weight"], layouts.caffe_weights()["conv1"][0].flip(1))


@pytest.mark.parametrize("naming", ["conv1_weight", "conv1.weight", "conv1/weights"])
def test_a_folder_of_npy_files_with_a_mean_image(naming: str, tmp_path: Path) -> None:
    weights, ends = layouts.caffe_weights(), NAMINGS[naming]
    for name, pair in weights.items():
        for end, one in zip(ends, pair, strict=True):
            file = tmp_path / f"{name}{end}.npy"
            file.parent.mkdir(exist_ok=True)
            np.save(file, one.numpy())
    mean = np.random.default_rng(0).uniform(90, 130, (3, 227, 227)).astype(np.float32)
    np.save(tmp_path / "mean_bgr.npy", mean)
    opened = open_checkpoint(tmp_path)
    caffe_agrees(opened, weights)
    picture = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    crop, given = looked_at(opened.preprocessing, picture)
    shown = scores(opened, given)
    bgr = torch.from_numpy(crop[..., ::-1].copy()).permute(2, 0, 1).float() - torch.from_numpy(mean)
    torch.testing.assert_close(shown, layouts.caffe_forward(weights, bgr[None]), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_a_caffemodel(tmp_path: Path, *, old: bool, pool_first: bool, double: bool) -> None:
    weights = layouts.caffe_weights()
    path = tmp_path / "x.caffemodel"
    path.write_bytes(layouts.caffemodel(weights, old=old, pool_first=pool_first, double=double))
    opened = open_checkpoint(path)
    assert opened.network.name == ("caffenet" if pool_first else "bvlc-alexnet")
    assert any("the file's order of layers says" in note for note in opened.notes)
    caffe_agrees(opened, weights, pool_first=pool_first)
    assert opened.preprocessing.mean.flatten().tolist() == [123, 117, 104]
    assert ("before 2015" in opened.origin) == old


def test_a_caffemodel_states_its_means_and_its_own_lrn(tmp_path: Path) -> None:
    transform = b"".join(layouts.single(5, value) for value in (100.0, 110.0, 120.0))
    data = layouts.chunk(100, layouts.chunk(1, "data") + layouts.chunk(2, "Data") + layouts.chunk(100, transform))
    path = tmp_path / "x.caffemodel"
    path.write_bytes(layouts.caffemodel(layouts.caffe_weights(), extra=[data]).replace(
        layouts.single(2, 1e-4), layouts.single(2, 5e-4)
    ))  # fmt: skip
    opened = open_checkpoint(path)
    assert opened.preprocessing.mean.flatten().tolist() == [120, 110, 100]
    assert any("the file's LRN is n 5, α 0.0005, β 0.75, k 1" in note for note in opened.notes)


def exported(module: nn.Module, side: int, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs nothing else to be installed is the older one
        torch.onnx.export(module.eval(), (torch.zeros(1, 3, side, side),), path, dynamo=False)


def test_an_export_to_onnx(alexnet: nn.Module, tmp_path: Path) -> None:
    exported(alexnet, 224, tmp_path / "x.onnx")
    opened = open_checkpoint(tmp_path / "x.onnx")
    assert opened.network.name == "alexnet-owt"
    agrees(opened, alexnet)
    port = layouts.UsualPort(3, 8)
    exported(port, 227, tmp_path / "y.onnx")
    opened = open_checkpoint(tmp_path / "y.onnx")
    assert opened.network.name == "alexnet-one-tower"
    agrees(opened, port, 227)


@pytest.mark.parametrize("form", ["float_data", "raw", "float16", "float16 in int32", "double", "bfloat16", "matmul"])
def test_onnx_in_every_form_of_numbers(form: str, tmp_path: Path) -> None:
    weights = layouts.caffe_weights()
    nodes, tensors, before = [], [], "data"
    for number, (name, pair) in enumerate(weights.items()):
        labels = (
            [f"onnx::Op_{2 * number}", f"onnx::Op_{2 * number + 1}"]
            if form == "raw"
            else [f"{name}_w_0", f"{name}_b_0"]
        )
        values = [one.numpy() for one in pair]
        conv = name.startswith("conv")
        if form == "matmul" and not conv:
            values[0] = values[0].T
        for label, value in zip(labels, values, strict=True):
            if form in {"raw", "matmul"}:
                tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), label))
            elif form == "double":
                tensors.append(helper.make_tensor(label, TensorProto.DOUBLE, value.shape, value.flatten()))
            elif form == "bfloat16":
                half = torch.from_numpy(value).bfloat16().view(torch.int16).numpy()
                tensors.append(helper.make_tensor(label, TensorProto.BFLOAT16, value.shape, half.tobytes(), raw=True))
            elif form == "float16":
                tensors.append(numpy_helper.from_array(value.astype(np.float16), label))
            else:
                kind = TensorProto.FLOAT if form == "float_data" else TensorProto.FLOAT16
                tensors.append(helper.make_tensor(label, kind, value.shape, value.flatten()))
        if conv:
            nodes.append(helper.make_node("Conv", [before, *labels], [name]))
        elif form == "matmul":
            nodes += [
                helper.make_node("MatMul", [before, labels[0]], [f"{name}_product"]),
                helper.make_node("Add", [f"{name}_product", labels[1]], [name]),
            ]
        else:
            nodes.append(helper.make_node("Gemm", [before, *labels], [name], transB=1))
        before = name
    shape = numpy_helper.from_array(np.array([1, -1], np.int64), "OC2_DUMMY_1")
    nodes.append(helper.make_node("Reshape", [before, "OC2_DUMMY_1"], ["out"]))
    graph = helper.make_graph(nodes, "AlexNet", [], [], initializer=[*tensors[::-1], shape])
    onnx.save(helper.make_model(graph, producer_name="onnx-caffe2"), tmp_path / "x.onnx")
    opened = open_checkpoint(tmp_path / "x.onnx", network="bvlc-alexnet")
    rounded = {
        name: tuple(
            one.half().float()
            if "float16" in form and form[0] == "f"
            else one.bfloat16().float()
            if form[0] == "b"
            else one
            for one in pair
        )
        for name, pair in weights.items()
    }
    assert torch.equal(opened.weights["fc6.weight"], rounded["fc6"][0])
    caffe_agrees(opened, rounded)


# --- what cannot be known --------------------------------------------------------------------------------------------


def test_of_networks_with_equal_shapes_the_likeliest_is_taken_and_the_others_named(tmp_path: Path) -> None:
    weights = layouts.caffe_weights()
    state = {f"{name}.weight": pair[0] for name, pair in weights.items()}
    torch.save(state | {f"{name}.bias": pair[1] for name, pair in weights.items()}, tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert opened.network.name == "alexnet-2012"
    note = next(note for note in opened.notes if "--network" in note)
    assert "bvlc-alexnet" in note
    assert "caffenet" in note
    assert open_checkpoint(tmp_path / "x.pth", network="caffenet").network.name == "caffenet"
    assert set(inspect(tmp_path / "x.pth").others) == {"bvlc-alexnet", "caffenet", "alexnet-2012-source"}


@pytest.mark.parametrize("pixels", PIXELS)
def test_every_convention_of_pixels_against_its_formula(pixels: str, alexnet: nn.Module, tmp_path: Path) -> None:
    torch.save(alexnet.state_dict(), tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth", pixels=pixels)
    picture = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    crop, given = looked_at(opened.preprocessing, picture)
    rgb = torch.from_numpy(crop.copy()).permute(2, 0, 1).double()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = {
        "torchvision": (rgb / 255 - mean[:, None, None]) / deviation[:, None, None],
        "caffe": rgb.flip(0) - torch.tensor([104.0, 117.0, 123.0])[:, None, None],
        "rgb-255": rgb - 255 * mean[:, None, None],
        "rgb-raw": rgb,
        "rgb-1": rgb / 255,
        "rgb-centred": rgb / 127.5 - 1,
    }[pixels]
    with torch.no_grad():
        torch.testing.assert_close(
            scores(opened, given),
            alexnet.eval()(expected.float()[None]),
            rtol=1e-3,
            atol=1e-3 * float(given.abs().max()),
        )
    assert any(f"({pixels})" in note for note in opened.notes)


def test_unknown_pixels_and_networks_are_said(tmp_path: Path, alexnet: nn.Module) -> None:
    torch.save(alexnet.state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="no pixels called 'bgr'; known: torchvision, caffe"):
        open_checkpoint(tmp_path / "x.pth", pixels="bgr")
    with pytest.raises(CheckpointError, match="no network named 'resnet'"):
        open_checkpoint(tmp_path / "x.pth", network="resnet")


def bvlc() -> Path:
    folder = Path(os.environ.get("ALEXNET_TEST_DATA") or ROOT.parent / "shared" / "data") / "bvlc-alexnet-conv"
    if not folder.is_dir():
        pytest.skip("no BVLC weights: bvlc-alexnet-conv is neither in ../shared/data nor in $ALEXNET_TEST_DATA")
    return folder


def test_the_real_bvlc_convolutions(tmp_path: Path) -> None:
    folder = bvlc()
    opened = open_checkpoint(folder)
    assert opened.network.name == "bvlc-alexnet"
    assert opened.missing == ("fc6", "fc7", "fc8")
    original = np.load(folder / "conv1_weight.npy")
    assert np.array_equal(opened.weights["conv1.weight"].numpy(), original[:, ::-1])
    mean = np.load(folder / "mean_rgb_227.npy")
    assert np.array_equal(opened.preprocessing.mean[:, 14:241, 14:241].numpy(), mean)
    arrays = {file.stem: torch.from_numpy(np.load(file)) for file in folder.glob("conv*.npy")}
    weights = {f"conv{n}": (arrays[f"conv{n}_weight"], arrays[f"conv{n}_bias"]) for n in range(1, 6)}
    picture = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    crop, given = looked_at(opened.preprocessing, picture)
    bgr = torch.from_numpy((crop.transpose(2, 0, 1) - mean)[::-1].copy()).float()
    values = {stage.name: value for stage, value in Viewer(opened, torch.device("cpu")).walk(given)}
    expected = layouts.caffe_forward(weights, bgr[None], until="conv5")
    torch.testing.assert_close(values["relu5"], expected, rtol=1e-3, atol=1e-2)
    checkpoints.save(tmp_path / "x.safetensors", opened)
    again = open_checkpoint(tmp_path / "x.safetensors")
    assert again.missing == opened.missing
    assert (again.origin, again.notes) == (opened.origin, opened.notes)
    assert torch.equal(again.preprocessing.mean, opened.preprocessing.mean)


# --- ours, reports and the command line ------------------------------------------------------------------------------


def ours(**changes: Any) -> Checkpoint:
    made = checkpoints.untrained(NETWORKS["alexnet-2012"].adapted(classes=3, hidden=8, input_shape=(3, 67, 67)))
    return dataclasses.replace(made, classes=("ape", "bee", "cat"), config={"data": "x"}, **changes)


def test_ours_opens_as_it_is_and_can_be_seen_otherwise(tmp_path: Path) -> None:
    saved = ours()
    checkpoints.save(tmp_path / "x.pt", saved)
    opened = open_checkpoint(tmp_path / "x.pt")
    assert (opened.network, opened.classes) == (saved.network, saved.classes)
    assert opened.preprocessing.geometry == saved.preprocessing.geometry
    other = open_checkpoint(tmp_path / "x.pt", pixels="caffe")
    assert torch.equal(other.weights["conv1.weight"], saved.weights["conv1.weight"].flip(1))
    other = open_checkpoint(tmp_path / "x.pt", network="caffenet@67")
    assert other.network.name == "caffenet@67"
    assert other.classes == ("ape", "bee", "cat")
    with pytest.raises(CheckpointMismatchError, match="does not fit vgg-d"):
        open_checkpoint(tmp_path / "x.pt", network="vgg-d")
    assert inspect(tmp_path / "x.pt").fits


def test_a_report_says_what_each_tensor_became(alexnet: nn.Module, tmp_path: Path) -> None:
    torch.save(examples(alexnet), tmp_path / "x.pth")
    report = inspect(tmp_path / "x.pth")
    held = {one.name: one for one in report.tensors}
    weight = alexnet.features[0].weight.detach()  # type: ignore[index]
    assert held["features.module.0.weight"].stage == "conv1.weight"
    assert held["features.module.0.weight"].shape == (64, 3, 11, 11)
    assert held["features.module.0.weight"].norm == pytest.approx(float(weight.double().square().sum().sqrt()))
    assert held["classifier.6.bias"].stage == "fc8.bias"
    assert report.removed == ("state_dict", "module")
    assert (report.fits, report.network, report.classes) == (True, "alexnet-owt", 7)
    assert json.loads(json.dumps(report.as_json()))["metadata"]["epoch"] == 90
    assert "classifier.6.bias" in report.text()


def test_inspect_from_a_shell(tmp_path: Path) -> None:
    torch.save(layouts.TorchvisionAlexNet(7, 8).state_dict(), tmp_path / "x.pth")
    command = [sys.executable, "-m", "alexnet", "inspect", tmp_path / "x.pth"]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (seen.returncode, seen.stderr) == (0, "")
    assert "fits      alexnet-owt (3×224×224, 7 classes): all weights" in seen.stdout


def test_inspect_and_convert_from_the_command_line(
    alexnet: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def program(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    source, out = tmp_path / "x.pth", tmp_path / "out.safetensors"
    torch.save(examples(alexnet), source)
    status, text, _ = program("inspect", source, "--network", "vgg-a", "--json")
    assert status == 0
    assert json.loads(text)["fits"] is False
    assert json.loads(text)["mismatches"]
    nowhere = tmp_path / "nowhere"
    assert program("inspect", nowhere) == (2, "", f"python -m alexnet inspect: there is no checkpoint {nowhere}\n")
    status, text, errors = program("convert", source, out, "--pixels", "rgb-1", "--half")
    assert (status, errors) == (0, "")
    assert "alexnet-owt from torchvision's names" in text
    opened = open_checkpoint(out)
    assert {held.dtype for held in inspect(out).tensors} == {"float16"}  # though `opened` has them as float32
    agrees(opened, copy.deepcopy(alexnet).half().float())
    assert opened.preprocessing.divisor.flatten().tolist() == [255, 255, 255]
    before = out.read_bytes()
    status, _, errors = program("convert", source, out)
    assert (status, out.read_bytes()) == (2, before)
    assert errors.endswith("exists: give another name, or --force to write over it\n")
    assert program("convert", source, out, "--force")[0] == 0
    assert out.read_bytes() != before
    assert "name it y.safetensors" in program("convert", source, tmp_path / "y.pt")[2]
    assert "there is no folder" in program("convert", source, tmp_path / "no" / "y.safetensors")[2]


def test_any_checkpoint_can_be_evaluated(tmp_path: Path) -> None:
    from alexnet.inference import evaluate_checkpoint
    from tests.training import folder_of_pictures

    folder_of_pictures(tmp_path / "data", classes=3, per_class=2, val=2)
    torch.manual_seed(0)
    torch.save({"state_dict": layouts.TorchvisionAlexNet(3, 8).state_dict(), "seed": None}, tmp_path / "x.pth")
    said: list[str] = []
    found = evaluate_checkpoint(tmp_path / "x.pth", str(tmp_path / "data"), device="cpu", say=said.append)
    assert found.pictures == 6
    assert found.classes == ("class0", "class1", "class2")
    assert any("numbers its classes" in text for text in said)
    state: Mapping[str, Tensor] = layouts.TorchvisionAlexNet(3, 8).features.state_dict(prefix="features.")
    torch.save(state, tmp_path / "y.pth")
    with pytest.raises(UserError, match=r"no classes can be told: .* has no weights for fc6, fc7, fc8"):
        evaluate_checkpoint(tmp_path / "y.pth", str(tmp_path / "data"), device="cpu")

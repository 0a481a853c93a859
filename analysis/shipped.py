"""What is measured of a bundle before it is shipped: its network, its training, its kernels and how right it is.

Everything but the pictures' evaluation is read from the bundle itself, so that whoever has it can do it again.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from alexnet.bundled import FORMAT, RESULTS, Bundle
from alexnet.config import TrainConfig
from alexnet.data.imagenet import readable
from alexnet.data.sources import BUILT_IN
from alexnet.launch import Request, command
from alexnet.presets import preset_named
from alexnet.runs import RunDirectory, replace_atomically
from alexnet.zoo import base_of
from analysis.costs import cost_table
from analysis.formats import rounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from alexnet.bundled import Which
    from alexnet.checkpoints import Checkpoint
    from alexnet.evaluate import Crops, Evaluation
    from alexnet.spec import Network

CROPS: tuple[Crops, ...] = ("centre", "ten")
_Look = tuple[str, "Crops", tuple[int, ...]]
"""Which weights, which crops, and at which short sides if not at the recipe's own."""
PLACE = "DATA"
"""What commands call the pictures."""


def measured(
    folder: Path,
    path: Path,
    data: str,
    *,
    which: Which = "best",
    note: str = "",
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
    seen: Callable[[int, int, str], None] = lambda _done, _total, _what: None,
) -> dict[str, Any]:
    """The results of the bundle in `folder`, made of the run at `path`, on the pictures at `data`; plain types.

    The shipped float16 weights are evaluated, and the run's own float32 ones for comparison, products in float32.

    Raises:
        UserError: the bundle or the run cannot be read, or the pictures are not those of the training.
    """
    from alexnet.bundle import checkpoint_of  # noqa: PLC0415 - torch takes seconds
    from alexnet.foreign import open_checkpoint  # noqa: PLC0415
    from alexnet.inference import evaluate_checkpoint  # noqa: PLC0415

    bundle, run = Bundle(folder), RunDirectory.open(path)
    kept = bundle.run
    checkpoint, record = open_checkpoint(bundle.weights), kept.config()
    moments = [_moments(kept), _moments(run)]
    files = {"float16": bundle.weights, "float32": checkpoint_of(run, which)}
    looks: list[_Look] = [(weights, crops, ()) for weights in files for crops in CROPS]
    looks += [("float16", "ten", sides) for sides in jittered(checkpoint.config)]
    found: dict[_Look, Evaluation] = {}
    for weights, crops, sides in looks:
        what = f"{weights}, {crops} crop{'s' * (crops == 'ten')}" + "".join(f", {side} pixels" for side in sides)
        say(f"evaluating {what}")
        found[weights, crops, sides] = evaluate_checkpoint(
            files[weights],
            data,
            crops=crops,
            sides=sides,
            device=device,
            seen=lambda done, total, what=what: seen(done, total, what),  # type: ignore[misc]
        )
    shipped = found["float16", "centre", ()]
    packed = _packed(data)
    return {
        "format": FORMAT,
        "made": time.strftime("%Y-%m-%d"),
        "network": network_facts(checkpoint.network, bundle.weights.stat().st_size),
        "checkpoint": {"which": which, **checkpoint.results},
        "data": {
            "name": checkpoint.config["data"],
            "train": record["data"]["train"],
            "val": record["data"]["val"],
            "packed": packed,
            "classes": [{"name": name, "words": readable(name)} for name in checkpoint.classes],
        },
        "recipe": checkpoint.config,
        "training": training(kept),
        "moments": moments,
        "records": [_steps(kept), _steps(run)],
        "k": shipped.k,
        "accuracy": [
            {
                "weights": weights,
                "crops": crops,
                "sides": list(sides),
                "pictures": one.pictures,
                "top1": one.top1,
                "topk": one.topk,
                "loss": one.loss,
            }
            for (weights, crops, sides), one in found.items()
        ],
        "per_class": _per_class(shipped, found["float16", "ten", ()]),
        "kernels": kernels(checkpoint),
        "branch": record.get("branch"),
        "commands": commands(checkpoint.config, record.get("branch"), packed, which, moments[0]),
        "note": note.strip(),
    }


def save(results: Mapping[str, Any], folder: Path) -> None:
    """Writes results.json.

    Raises:
        OSError: there is no room, or no right to.
    """
    text = json.dumps(results, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    replace_atomically(folder / RESULTS, text.encode(), durable=False)


def jittered(recipe: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The short sides that a network trained at several is tested at, besides the least; none where trained at one.

    VGG's rule for scale jitter: the mean of the least and the largest (section 4.1).
    """
    if recipe["jitter_to"] is None:
        return []
    return [((TrainConfig.from_json(dict(recipe)).short_side() + recipe["jitter_to"]) // 2,)]


# --- parts ------------------------------------------------------------------------------------------------------------


def network_facts(network: Network, size: int) -> dict[str, Any]:
    """The network beside the one it is made of; `size` is its file's, in bytes."""
    base = base_of(network.name)
    own = dict(base.layers)
    return {
        **_network(network),
        "bytes": size,
        "base": _network(base),
        "changed": [name for name, layer in network.layers if own.get(name) != layer]
        + [name for name in own if name not in dict(network.layers)],
    }


def _network(network: Network) -> dict[str, Any]:
    costs = cost_table(network)
    return {
        "name": network.name,
        "input": list(network.input_shape),
        "hidden": network.hidden,
        "classes": network.classes,
        "towers": network.towers,
        "parameters": costs.total("params"),
        "macs": costs.total("macs"),
    }


def training(run: RunDirectory) -> dict[str, Any]:
    """Steps, time without pauses and speed, from a run's records."""
    from analysis import learning  # noqa: PLC0415 - numpy, which the rest does without
    from analysis.history import History  # noqa: PLC0415

    curves, record, status = History(run.metrics_path).update(), run.config(), run.status()
    hours = learning.places(curves, "time")
    last = curves.val.step[-1:]
    return {
        "steps": status.get("step"),
        "epochs": status.get("epochs"),
        "validations": len(curves.val.step),
        "seconds": round(float(hours(last)[0]) * 3600, 1) if hours is not None and last.size else None,
        "pauses": len(learning.pauses(curves)),
        "images_per_second": rounded(learning.speed(curves, None), 1),
        "last": {"step": int(last[0]), "top1": float(curves.val.top1[-1])} if last.size else None,
        "machine": record.get("machine", {}),
        "versions": record.get("versions", {}),
    }


def _moments(run: RunDirectory) -> int:
    return len(list(run.probes_path.glob("step-*.npz")))


def _steps(run: RunDirectory) -> int:
    return sum(record.get("kind") == "train" for record in run.metrics())


def _packed(data: str) -> int | None:
    """Pixels a side of the pictures in a pack; None where they are not packed."""
    from alexnet.data.pack import PackSource  # noqa: PLC0415
    from alexnet.data.sources import open_data  # noqa: PLC0415

    source = open_data(data).val
    return source.side if isinstance(source, PackSource) else None


def _per_class(centre: Evaluation, ten: Evaluation) -> list[dict[str, Any]]:
    """Each class's share of right answers, and what it is most often taken for with ten crops."""
    rows = []
    for at, name in enumerate(centre.classes):
        others = sorted(((count, other) for other, count in enumerate(ten.confusion[at]) if other != at), reverse=True)
        rows.append(
            {
                "name": name,
                "words": readable(name),
                "pictures": sum(ten.confusion[at]),
                "centre": centre.per_class[at],
                "ten": ten.per_class[at],
                "taken_for": [[readable(centre.classes[other]), count] for count, other in others[:2] if count],
            }
        )
    return rows


def kernels(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """conv1 measured, beside BVLC's and random weights; None where there is no such layer of 11×11 on colours."""
    from analysis import kernel_figures  # noqa: PLC0415 - numpy
    from analysis.kernels import layer_kernels, layers_with_kernels  # noqa: PLC0415

    layers = layers_with_kernels(checkpoint)
    if not layers:
        return None
    found = layer_kernels(checkpoint, layers[0])
    if kernel_figures.comparison_table(found) is None:
        return None
    figures = kernel_figures.kernel_figures(found.kernels)
    return {
        "layer": found.layer,
        "towers": list(found.names),
        "sentence": found.sentence,
        "ours": figures.as_json(),
        "bvlc": kernel_figures.BVLC.as_json(),
        "random": kernel_figures.random_figures(figures.kernels, len(figures.colourfulness)).as_json(),
    }


def commands(
    config: Mapping[str, Any], branch: Mapping[str, Any] | None, packed: int | None, which: str, moments: int
) -> dict[str, str]:
    """What repeats it, with DATA for where the pictures lie; those that are generated lie nowhere.

    `branch` is what config.json holds of a run that went on from another: that one is trained first.
    """
    place = BUILT_IN if config["data"] == BUILT_IN else PLACE
    pictures = place if packed is None else "PACK"
    made = {} if packed is None else {"pack": f"python -m alexnet pack {place} PACK --side {packed}"}
    evaluate = f"python -m alexnet evaluate BUNDLE/weights.safetensors {pictures}"
    ten = f"{evaluate} --ten-crop"
    sizes = {
        f"evaluate_{'_'.join(map(str, sides))}": f"{ten} --sides {','.join(map(str, sides))}"
        for sides in jittered(config)
    }
    return (
        made
        | _trainings(config, branch, pictures)
        | {
            "bundle": f"python -m alexnet bundle RUN BUNDLE --data {pictures} --checkpoint {which} --moments {moments}",
            "evaluate": evaluate,
            "evaluate_ten": ten,
        }
        | sizes
    )


def _trainings(config: Mapping[str, Any], branch: Mapping[str, Any] | None, pictures: str) -> dict[str, str]:
    """The command of a training, behind those of all that it goes on from: RUN from RUN1, that from RUN2."""
    made: dict[str, str] = {}
    recipe, run = dict(config) | {"data": pictures}, "RUN"
    while branch is not None:
        before = f"RUN{len(made) + 1}"
        changed = {name: new for name, (_, new) in branch["changed"].items() if name != "data"}
        asked = Request(changed | {"data": pictures}, f"{before}/checkpoints/{branch['checkpoint']}.pt")
        made[f"train_{run}"] = " ".join(["python -m alexnet train", *command(asked), "--run-dir", run])
        recipe |= {name: old for name, (old, _) in branch["changed"].items() if name != "data"}
        run, branch = before, branch.get("before")
    made[f"train_{run}"] = " ".join(["python -m alexnet train", *command(Request(recipe)), "--run-dir", run])
    return dict(reversed(made.items()))


def changes(recipe: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of a recipe that are not its preset's: [the preset's, its own]."""
    config = TrainConfig.from_json(dict(recipe))
    own = TrainConfig(data=config.data, preset=config.preset, **preset_named(config.preset).changes).as_json()
    return {name: [own[name], value] for name, value in config.as_json().items() if value != own[name]}

"""What a class or a value answers to in the picture: gradient, guided backpropagation, occlusion, Grad-CAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.errors import UserError
from analysis import attribution
from analysis.activations import top_classes
from analysis.sheets import map_tiles
from app import choices, components, exports, queries
from app.figures.maps import pictures_svg
from app.state import literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alexnet.spec import Stage
    from analysis.activations import Activations
    from analysis.attribution import Attribution, Target
    from app.looking import Chosen, Picture
    from app.map_explorer import Place

METHODS = {
    "Grad-CAM": "Maps of the last convolution below the target, weighted by what the target's gradient says of each "
    "(Selvaraju et al. 2017): coarse, and true to the class.",
    "Guided backpropagation": "The gradient, let through only where both it and the activation are positive "
    "(Springenberg et al. 2015): sharp, and more about the picture's edges than about the class.",
    "Gradient": "How much the target would change per grey level of each pixel (Simonyan et al. 2014).",
    "Occlusion": "How much the target falls when a square of the picture is covered with the mean (Zeiler and Fergus "
    "2014): slow, and it means what it says.",
}


def show_attribution(chosen: Chosen, picture: Picture, found: Activations, stage: Stage, place: Place) -> None:
    """The choice of method and target, and the result over the picture."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = choices.pick("Method", list(METHODS), "method", width=220)
        target = _target(found, stage, place)
    st.caption(METHODS[method])
    try:
        result = _result(chosen, picture, method, target)
    except UserError as error:
        st.info(literal(f"{str(error)[:1].upper()}{str(error)[1:]}. Choose another method or target."))
        return
    st.markdown(
        f"**{method}** for {literal(attribution.describe(found, target))}, which is {result.value:.5g}: "
        f"{literal(result.meaning)}."
    )
    panels = [("the picture", found.crop), ("laid over it", attribution.overlay(found.crop, result.heat))]
    if result.values.ndim == 3:
        panels.append(("by colour, grey is 0", attribution.signed_picture(result.values)))
    elif result.coarse is not None:
        panels.append((f"as computed, {result.coarse.shape[0]}×{result.coarse.shape[1]}", _grey(result.coarse)))
    with st.container(key="attribution_figure"):
        components.drawing(pictures_svg(panels, title=method), key="attribution_drawing")
    name = f"{chosen.label}-{picture.name}-{method.lower().replace(' ', '-')}"
    with st.container(horizontal=True, vertical_alignment="center"):
        components.save_figure("attribution_figure", method, name)
        exports.save_npy(lambda: result.values, name, "save_attribution", "The values themselves, float32")


def _grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values as computed: black is 0 and white the greatest, or grey is 0 where some are negative."""
    if values.min() < 0:
        return attribution.signed_picture(values)
    grey: NDArray[np.uint8] = map_tiles(values[None], colours="grey")[0]
    return grey


def _target(found: Activations, stage: Stage, place: Place) -> Target:
    """What is to be explained: one of the best classes, the value picked above, or its whole map."""
    classes = {f"class {one.name}": attribution.class_target(found, one.number) for one in top_classes(found)}
    options: dict[str, Target] = dict(classes)
    if not classes:
        strongest = attribution.resolved(found, attribution.default_target(found))
        options[attribution.describe(found, strongest)] = strongest
    if len(stage.out_shape) == 3:
        channel, row, column = place.index
        options[f"map {channel} of {stage.name}"] = attribution.Target(stage.name, channel)
        options[f"the value picked above ({stage.name} {channel}, {row}, {column})"] = attribution.Target(
            stage.name, channel, row, column
        )
    else:
        options[f"value {place.channel} of {stage.name}"] = attribution.Target(stage.name, place.channel)
    return options[choices.pick("Target", list(options), "target", width=380)]


def _result(chosen: Chosen, picture: Picture, method: str, target: Target) -> Attribution:
    if method != "Occlusion":
        return queries.attributed(chosen, picture, method, target)
    bar = st.progress(0.0, "Covering …")
    done: Attribution | None = None
    try:
        for step in queries.occluded(chosen, picture, target):
            bar.progress(step.done / step.total, f"Covering place {step.done} of {step.total}")
            done = step.attribution
    finally:
        bar.empty()
    assert done is not None
    return done

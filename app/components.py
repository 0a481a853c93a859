"""The two custom elements of the pages: the clickable drawing, and the buttons that save a figure.

Both live in the page itself (no frame), so the drawing follows the theme and the buttons can reach the figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DRAWING_JS = """
export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const host = parentElement.querySelector(".drawing");
  const had = host.contains(document.activeElement) ? document.activeElement.dataset.stage : null;
  host.innerHTML = data.svg;
  const byName = new Map([...host.querySelectorAll("[data-stage]")].map((g) => [g.dataset.stage, g]));
  const stages = data.stages.map((name) => byName.get(name)).filter(Boolean);
  const select = (chosen) => {
    for (const g of stages) {
      const on = g === chosen;
      g.classList.toggle("selected", on);
      g.setAttribute("aria-pressed", String(on));
      g.tabIndex = on ? 0 : -1;
    }
  };
  select(byName.get(data.selected));
  if (!byName.has(data.selected) && stages.length) stages[0].tabIndex = 0;
  if (had && byName.has(had)) byName.get(had).focus({ preventScroll: true });
  const pick = (g) => {
    select(g);
    setTriggerValue("picked", g.dataset.stage);
  };
  host.onclick = (event) => {
    const g = event.target.closest("[data-stage]");
    if (g) pick(g);
  };
  host.onkeydown = (event) => {
    const g = event.target.closest("[data-stage]");
    if (!g) return;
    const at = stages.indexOf(g);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: stages.length - 1 }[event.key];
    if (to !== undefined) {
      const next = stages[Math.min(Math.max(to, 0), stages.length - 1)];
      g.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      event.preventDefault();
    } else if (event.key === "Enter" || event.key === " ") {
      pick(g);
      event.preventDefault();
    }
  };
}
"""

_EXPORT_JS = """
const PROPERTIES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray",
  "stroke-linejoin", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "visibility", "display"];

// A copy that looks the same anywhere: what CSS and the theme decide becomes attributes of the elements.
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const from = [svg, ...svg.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  from.forEach((element, i) => {
    if (!(element instanceof SVGElement) || element.tagName === "style") return;
    const style = getComputedStyle(element);
    for (const name of PROPERTIES) to[i].style.setProperty(name, style.getPropertyValue(name));
  });
  copy.querySelectorAll("style, .hoverlayer, .modebar").forEach((element) => element.remove());
  copy.querySelectorAll("[tabindex]").forEach((element) => element.removeAttribute("tabindex"));
  return copy;
}

function figure(target) {
  const root = document.querySelector(".st-key-" + target);
  const plotly = root && [...root.querySelectorAll(".main-svg")];
  const drawings = plotly && plotly.length ? plotly : root && [...root.querySelectorAll("svg.arch")];
  if (!drawings || !drawings.length) return null;
  const box = plotly.length ? drawings[0].getBoundingClientRect() : drawings[0].viewBox.baseVal;
  const width = Math.ceil(box.width), height = Math.ceil(box.height);
  const whole = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  whole.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  whole.setAttribute("width", width);
  whole.setAttribute("height", height);
  whole.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ground.setAttribute("width", width);
  ground.setAttribute("height", height);
  ground.setAttribute("fill", getComputedStyle(document.querySelector(".stApp")).backgroundColor);
  whole.append(ground, ...drawings.map(standalone));
  return { text: new XMLSerializer().serializeToString(whole), width, height };
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function asPng({ text, width, height }, scale) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = width * scale;
      canvas.height = height * scale;
      const context = canvas.getContext("2d");
      context.scale(scale, scale);
      context.drawImage(image, 0, 0);
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png");
    };
    image.onerror = () => reject(new Error("the drawing could not be read back"));
    image.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml;charset=utf-8" }));
  });
}

export default function (component) {
  const { data, parentElement } = component;
  const say = parentElement.querySelector(".said");
  for (const button of parentElement.querySelectorAll("button")) {
    const format = button.dataset.format;
    button.setAttribute("aria-label", `Save “${data.title}” as ${format.toUpperCase()}`);
    button.onclick = async () => {
      say.textContent = "";
      const found = figure(data.target);
      if (!found) {
        say.textContent = "The figure is not drawn yet; try again in a moment.";
        return;
      }
      try {
        const svg = new Blob([found.text], { type: "image/svg+xml;charset=utf-8" });
        save(format === "svg" ? svg : await asPng(found, 3), `${data.name}.${format}`);
      } catch (error) {
        say.textContent = `Could not save the figure: ${error.message}.`;
      }
    };
  }
}
"""

_EXPORT_CSS = """
.row { display: flex; gap: .35rem; align-items: center; font: 13px var(--st-font); color: var(--st-text-color); }
button {
  font: inherit; color: inherit; background: transparent; cursor: pointer; padding: .1rem .55rem;
  border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius);
}
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }
.quiet { opacity: .75; }
"""

_drawing = st.components.v2.component(
    "laboratory_drawing",
    html='<div class="drawing"></div>',
    css=(
        ".drawing { overflow-x: auto; }"
        ".drawing svg { display: block; max-width: none; min-width: 860px; width: 100%; height: auto; }"
    ),
    js=_DRAWING_JS,
    isolate_styles=False,
)

_export = st.components.v2.component(
    "laboratory_export",
    html=(
        '<div class="row"><span class="quiet">Save figure</span><button data-format="png">PNG</button>'
        '<button data-format="svg">SVG</button><span class="said" role="status"></span></div>'
    ),
    css=_EXPORT_CSS,
    js=_EXPORT_JS,
)


def clickable_drawing(
    svg: str, stages: Sequence[str], selected: str | None, *, key: str, on_pick: Callable[[], None]
) -> str | None:
    """Show an SVG whose elements with ``data-stage`` are buttons; returns the stage picked just now, or None.

    Arrow keys move between stages, Enter and Space pick.  `svg` must be our own: it goes into the page as it is.
    """
    result: Any = _drawing(
        key=key,
        data={"svg": svg, "stages": list(stages), "selected": selected},
        on_picked_change=on_pick,
    )
    picked = result.picked
    return str(picked) if picked else None


def save_figure(target: str, title: str, name: str) -> None:
    """Buttons that save the figure inside the element with key `target` as PNG (three times its size) and SVG."""
    _export(key=f"save_{target}", data={"target": target, "title": title, "name": name})

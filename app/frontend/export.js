const PROPERTIES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray",
  "stroke-linejoin", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "visibility", "display", "image-rendering"];

// A copy that looks the same anywhere: what CSS and the theme decide becomes attributes of the elements.
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const from = [svg, ...svg.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  from.forEach((element, i) => {
    if (!(element instanceof SVGElement) || element.tagName === "style") return;
    const style = getComputedStyle(element);
    for (const name of PROPERTIES) to[i].style.setProperty(name, style.getPropertyValue(name));
    // The page's font is not in the file: keep every line as long as it is here, so that nothing is cut or overlaps.
    if (element instanceof SVGTextContentElement && !element.querySelector("tspan") && element.textContent.trim()) {
      to[i].setAttribute("textLength", element.getComputedTextLength().toFixed(1));
      to[i].setAttribute("lengthAdjust", "spacingAndGlyphs");
    }
  });
  copy.querySelectorAll("style, .hoverlayer, .modebar").forEach((element) => element.remove());
  copy.querySelectorAll("[tabindex]").forEach((element) => element.removeAttribute("tabindex"));
  return copy;
}

function figure(target) {
  const root = document.querySelector(".st-key-" + target);
  const plotly = root && [...root.querySelectorAll(".main-svg")];
  const drawings = plotly && plotly.length ? plotly : root && [...root.querySelectorAll(".drawing svg")];
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

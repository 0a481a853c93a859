// Pictures in an SVG, each under a rectangle with data-rows and data-columns: a click picks a cell, arrow keys move it.
export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const host = parentElement.querySelector(".drawing");
  const had = host.contains(document.activeElement) ? document.activeElement.dataset.area : null;
  host.innerHTML = data.svg;
  host.style.setProperty("--least", `${data.least}px`);
  const areas = [...host.querySelectorAll("[data-area]")];
  let cell = data.selected, waiting = null;
  const number = (element, name) => Number(element.getAttribute(name));
  const show = () => {
    for (const area of areas) {
      const marks = host.querySelectorAll(`[data-mark="${area.dataset.area}"]`);
      const width = number(area, "width") / area.dataset.columns, height = number(area, "height") / area.dataset.rows;
      for (const mark of marks) {
        mark.setAttribute("x", number(area, "x") + cell[1] * width);
        mark.setAttribute("y", number(area, "y") + cell[0] * height);
        mark.setAttribute("width", width);
        mark.setAttribute("height", height);
      }
      area.setAttribute("aria-valuetext", `row ${cell[0]}, column ${cell[1]}`);
    }
  };
  // A key held down would ask for every cell on its way: the last one within a tenth of a second is meant.
  const pick = (row, column, area, wait) => {
    const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);
    cell = [clamp(row, area.dataset.rows), clamp(column, area.dataset.columns)];
    show();
    clearTimeout(waiting);
    waiting = setTimeout(() => setTriggerValue("picked", `${cell[0]},${cell[1]}`), wait);
  };
  show();
  if (had) host.querySelector(`[data-area="${had}"]`)?.focus({ preventScroll: true });
  const under = (event, area) => {
    const box = area.getBoundingClientRect();
    const part = (at, start, length, count) => Math.min(Math.max(Math.floor(((at - start) / length) * count), 0), count - 1);
    return [
      part(event.clientY, box.top, box.height, area.dataset.rows),
      part(event.clientX, box.left, box.width, area.dataset.columns),
    ];
  };
  host.onclick = (event) => {
    const area = event.target.closest("[data-area]");
    if (!area) return;
    pick(...under(event, area), area, 0);
    area.focus({ preventScroll: true });
  };
  // The number under the pointer; a screen reader is told the picked one by the area itself.
  const reading = parentElement.querySelector(".reading");
  host.onpointermove = (event) => {
    const area = event.target.closest("[data-area]");
    if (!area) return host.onpointerleave();
    const [row, column] = under(event, area);
    const value = data.values[area.dataset.area]?.[row]?.[column];
    reading.textContent = `${area.dataset.area}, row ${row}, column ${column}: ${value}`;
  };
  host.onpointerleave = () => { reading.textContent = "\u00a0"; };
  host.onkeydown = (event) => {
    const area = event.target.closest("[data-area]");
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!area || !step) return;
    pick(cell[0] + step[0], cell[1] + step[1], area, 100);
    event.preventDefault();
  };
}

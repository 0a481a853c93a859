export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const host = parentElement.querySelector(".drawing");
  const had = host.contains(document.activeElement) ? document.activeElement.dataset.item : null;
  host.innerHTML = data.svg;
  host.style.setProperty("--least", `${data.least}px`);
  const byName = new Map([...host.querySelectorAll("[data-item]")].map((g) => [g.dataset.item, g]));
  const items = data.items.map((name) => byName.get(name)).filter(Boolean);
  const select = (chosen) => {
    for (const g of items) {
      const on = g === chosen;
      g.classList.toggle("selected", on);
      g.setAttribute("aria-pressed", String(on));
      g.tabIndex = on ? 0 : -1;
    }
  };
  select(byName.get(data.selected));
  if (!byName.has(data.selected) && items.length) items[0].tabIndex = 0;
  const shown = byName.get(data.selected);
  if (shown && host.scrollWidth > host.clientWidth) {
    const box = shown.getBoundingClientRect(), view = host.getBoundingClientRect();
    if (box.left < view.left || box.right > view.right) host.scrollLeft += box.left + box.width / 2 - view.left - view.width / 2;
  }
  if (had && byName.has(had)) byName.get(had).focus({ preventScroll: true });
  const pick = (g) => {
    select(g);
    setTriggerValue("picked", g.dataset.item);
  };
  // In a sheet, up and down lead to the next row, to the item nearest to the same column.
  const beyond = (g, step) => {
    const row = Number(g.dataset.row) + step;
    const there = items.filter((other) => Number(other.dataset.row) === row);
    const distance = (other) => Math.abs(other.dataset.column - g.dataset.column);
    return there.sort((a, b) => distance(a) - distance(b))[0] ?? g;
  };
  host.onclick = (event) => {
    const g = event.target.closest("[data-item]");
    if (g) pick(g);
  };
  host.onkeydown = (event) => {
    const g = event.target.closest("[data-item]");
    if (!g) return;
    const at = (index) => items[Math.min(Math.max(index, 0), items.length - 1)];
    const index = items.indexOf(g);
    const moves = {
      ArrowRight: () => at(index + 1),
      ArrowLeft: () => at(index - 1),
      Home: () => items[0],
      End: () => items.at(-1),
      ...("row" in g.dataset && { ArrowDown: () => beyond(g, 1), ArrowUp: () => beyond(g, -1) }),
    };
    if (event.key in moves) {
      const next = moves[event.key]();
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

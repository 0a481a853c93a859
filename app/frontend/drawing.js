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
  const shown = byName.get(data.selected);
  if (shown && host.scrollWidth > host.clientWidth) {
    const box = shown.getBoundingClientRect(), view = host.getBoundingClientRect();
    if (box.left < view.left || box.right > view.right) host.scrollLeft += box.left + box.width / 2 - view.left - view.width / 2;
  }
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

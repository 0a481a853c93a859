// A chart that is redrawn in place: Streamlit's own makes a new element for every new point, which flickers and forgets
// what the reader has zoomed into.  Plotly itself is put on the page by another element, once.
const WAIT_MS = 30;

function drawn(host, text) {
  const figure = JSON.parse(text);
  const style = getComputedStyle(host);
  const layout = {
    ...figure.layout,
    // In place of Plotly's own look, which paints a ground; room for whatever ticks there are.
    template: { layout: { xaxis: { automargin: true }, yaxis: { automargin: true } } },
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: style.fontFamily, color: style.color, size: 12, ...figure.layout.font },
  };
  host.style.height = `${layout.height || 450}px`;
  return window.Plotly.react(host, figure.data, layout, { displayModeBar: false, responsive: true });
}

export default function (component) {
  const { data, parentElement } = component;
  const host = parentElement.querySelector(".live-chart");
  host.setAttribute("aria-label", data.alt);
  if (host.drawn === data.figure) return;
  host.wanted = data.figure;
  const draw = () => {
    if (!host.isConnected || host.wanted !== data.figure) return; // gone, or a newer one has come
    if (!window.Plotly) {
      setTimeout(draw, WAIT_MS);
      return;
    }
    host.drawn = data.figure;
    drawn(host, data.figure);
  };
  draw();
}

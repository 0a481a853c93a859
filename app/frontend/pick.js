// Tells the page which cell of a heat map was clicked: Plotly knows, but Streamlit passes on selections only, and heat
// maps have none.  The chart may be drawn after this, and anew at any time: the listener is put on again and again.
export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const picked = (event) => {
    const point = event.points.find((one) => one.data.type === "heatmap");
    if (point) setTriggerValue("picked", [point.y, point.x].map(Math.round));
  };
  const listen = () => {
    const chart = document.querySelector(`.st-key-${data.target} .js-plotly-plot`);
    if (!chart || !chart.on) return;
    if (chart.picked) chart.removeListener("plotly_click", chart.picked);
    chart.picked = picked;
    chart.on("plotly_click", picked);
  };
  clearInterval(parentElement.listening);
  listen();
  parentElement.listening = setInterval(listen, 400);
  return () => clearInterval(parentElement.listening);
}

// One entry in the browser's history for a page: Streamlit adds one for every word that a page writes into its address,
// so that Back would have to be pressed for each.  What a page says of itself takes the place of what it said before.
const REST = 300; // ms after which a page that has been drawn is at rest and not about to lead elsewhere

export default function () {
  if (window.laboratoryHistory) return; // the window outlives the pages
  window.laboratoryHistory = true;
  const push = history.pushState.bind(history);
  let said = location.href; // by this entry when the page was last at rest
  let timer = null;
  const note = () => {
    said = location.href;
  };
  history.pushState = (state, unused, url) => {
    if (new URL(url ?? location.href, location.href).pathname === location.pathname) {
      history.replaceState(state, unused, url);
      return;
    }
    // The page that follows may have written into this one's address: its first words come before its name.
    history.replaceState(history.state, "", said);
    push(state, unused, url);
    note();
  };
  window.addEventListener("popstate", note);
  const app = document.querySelector("[data-testid=stApp]");
  const watch = () => {
    clearTimeout(timer);
    if (app?.dataset.testScriptState === "notRunning") timer = setTimeout(note, REST);
  };
  if (app) new MutationObserver(watch).observe(app, { attributeFilter: ["data-test-script-state"] });
  watch();
}

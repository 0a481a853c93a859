// Back leaves a page, as readers expect. Streamlit adds an entry to the browser's history for each choice that a page
// writes into its address, a dozen for one click on a link; here choices within a page change the page's own entry.
export default function () {
  if (window.laboratoryHistory) return
  window.laboratoryHistory = true
  const push = history.pushState.bind(history)
  history.pushState = (state, title, url) => {
    const within = url != null && new URL(url, location.href).pathname === location.pathname
    return within ? history.replaceState(state, title, url) : push(state, title, url)
  }
}

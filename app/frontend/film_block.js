// Some frames of a film, as bytes: kept for the film's player, which is another element of the page.
// Streamlit sends a block again only where it has changed, so a film that grows costs its last block alone.
const films = (globalThis.laboratoryFilms ??= new Map());

export default function (component) {
  const { data, parentElement } = component;
  const host = parentElement.querySelector(".film-block");
  const length = new DataView(data.buffer, data.byteOffset, 4).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + length)));
  if (host.digest !== about.digest) {
    forget(host);
    if (!films.has(about.film)) films.set(about.film, { frames: new Map(), readers: new Set() });
    const film = films.get(about.film);
    const all = data.subarray(4 + length), size = all.length / about.steps.length;
    about.steps.forEach((step, index) => {
      film.frames.set(step, { owner: host, tiles: all.subarray(index * size, (index + 1) * size) });
    });
    host.digest = about.digest;
    host.film = about.film;
    host.steps = about.steps;
    for (const tell of film.readers) tell();
  }
  // Also called where the element stays: only one that has left the page lets go of its frames.
  return () => setTimeout(() => host.isConnected || forget(host));
}

function forget(host) {
  const film = films.get(host.film);
  for (const step of host.steps ?? []) if (film?.frames.get(step)?.owner === host) film.frames.delete(step);
  if (film && !film.frames.size && !film.readers.size) films.delete(host.film);
  host.digest = host.film = host.steps = undefined;
}

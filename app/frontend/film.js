// A film of kernels: one frame at a time, a slider, play and pause.  Nothing here asks the server while it plays.
const films = (globalThis.laboratoryFilms ??= new Map());
const players = new WeakMap();
const LARGEST_TILE = 132; // CSS pixels; a few small tiles are not blown up beyond it

export default function (component) {
  const host = component.parentElement.querySelector(".film");
  if (!players.has(host)) players.set(host, new Player(host));
  players.get(host).update(component.data, component.setTriggerValue);
  return () => setTimeout(() => host.isConnected || players.get(host).close());
}

class Player {
  constructor(host) {
    this.find = (name) => host.querySelector(`.film-${name}`);
    this.host = host;
    this.steps = [];
    this.index = -1;
    this.playing = false;
    this.tell = () => this.show();
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.find("speed").value = calm ? "2" : "10";
    this.find("play").onclick = () => this.play(!this.playing);
    this.find("time").oninput = (event) => { this.index = Number(event.target.value); this.play(false); };
    this.find("size").onchange = () => this.fit();
    host.onkeydown = (event) => this.key(event);
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(this.find("pictures"));
  }

  // What the server says now.  The place, the size, the speed and whether it plays are the reader's and stay.
  update(data, setTriggerValue) {
    this.pick = (item) => setTriggerValue("picked", String(item));
    const newest = this.index === this.steps.length - 1 && !(data.from_start && !this.steps.length);
    const here = this.steps[this.index];
    if (data.film !== this.film) {
      this.leave();
      this.film = data.film;
      if (!films.has(data.film)) films.set(data.film, { frames: new Map(), readers: new Set() });
      films.get(data.film).readers.add(this.tell);
    }
    this.data = data;
    this.steps = data.steps;
    if (JSON.stringify([data.groups, data.pickable]) !== this.built) this.build();
    const last = this.steps.length - 1;
    const before = this.steps.findLastIndex((step) => step <= here);
    this.index = newest && !this.playing ? last : Math.max(before, Math.min(0, last));
    this.find("time").max = Math.max(last, 0);
    this.find("time").disabled = this.find("play").disabled = last < 1;
    this.mark();
    this.show();
  }

  build() {
    const { groups, pickable } = this.data;
    this.built = JSON.stringify([groups, pickable]);
    const place = this.find("pictures");
    place.replaceChildren();
    this.canvases = groups.map((group) => {
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      const canvas = document.createElement("canvas"), mark = document.createElement("div"), frame = document.createElement("div");
      caption.textContent = group.label;
      caption.className = `film-tower${group.tower}`;
      [canvas.width, canvas.height] = [group.width, group.height];
      canvas.setAttribute("role", "img");
      mark.className = "film-mark";
      frame.className = "film-frame";
      frame.append(canvas, mark);
      figure.append(caption, frame);
      place.append(figure);
      if (pickable) this.pickable(canvas, group);
      const context = canvas.getContext("2d");
      return { canvas, mark, group, context, image: context.createImageData(group.width, group.height) };
    });
    this.drawn = null;
    this.fit();
  }

  pickable(canvas, group) {
    const { tile } = this.data;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "sheet of kernels");
    const under = (event) => {
      const box = canvas.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * group.width, y = ((event.clientY - box.top) / box.height) * group.height;
      return group.places.findIndex(([, left, top]) => x >= left && x < left + tile[1] && y >= top && y < top + tile[0]);
    };
    canvas.style.cursor = "pointer";
    canvas.onpointermove = (event) => {
      const at = under(event);
      canvas.title = at < 0 ? "" : `kernel ${group.places[at][0]}`;
    };
    canvas.onclick = (event) => {
      const at = under(event);
      if (at >= 0) this.choose(group.places[at][0]);
    };
    canvas.onkeydown = (event) => {
      const { places, columns } = group;
      const now = Math.max(places.findIndex(([item]) => item === this.cursor), 0);
      const moves = { ArrowRight: now + 1, ArrowLeft: now - 1, ArrowDown: now + columns, ArrowUp: now - columns, Home: 0, End: places.length - 1 };
      if (event.key in moves) {
        const next = places[moves[event.key]];
        if (next) this.cursor = next[0];
        this.mark();
      } else if (event.key === "Enter") this.choose(places[now][0]);
      else return;
      event.preventDefault();
    };
    canvas.onfocus = () => {
      const here = group.places.some(([item]) => item === this.data.selected);
      this.cursor = here ? this.data.selected : group.places[0][0];
      this.mark();
    };
    canvas.onblur = () => { this.cursor = null; this.mark(); };
  }

  choose(item) {
    this.data.selected = this.cursor = item;
    this.mark();
    this.pick(item);
  }

  // A frame around the kernel that is chosen, or the one that the arrow keys have reached.
  mark() {
    const { tile, selected } = this.data;
    for (const { canvas, mark, group } of this.canvases) {
      const focused = document.activeElement === canvas ? this.cursor : null;
      const place = group.places.find(([item]) => item === (focused ?? selected));
      mark.hidden = !place;
      if (focused != null) canvas.setAttribute("aria-label", `kernel ${focused}; Enter shows it over time`);
      if (!place) continue;
      const percent = (value, whole) => `${(100 * value) / whole}%`;
      mark.style.left = percent(place[1], group.width);
      mark.style.top = percent(place[2], group.height);
      mark.style.width = percent(tile[1], group.width);
      mark.style.height = percent(tile[0], group.height);
    }
  }

  // Every weight is a whole number of the screen's pixels, so that all look alike.
  fit() {
    if (!this.canvases?.length) return;
    const dots = devicePixelRatio || 1, room = this.find("pictures").clientWidth;
    const wide = Math.max(...this.canvases.map(({ group }) => group.width));
    const most = LARGEST_TILE / Math.max(...this.data.tile);
    const unit = Math.max(Math.floor(dots * Math.min(room / wide, most)), 1) / dots;
    const scale = unit * Number(this.find("size").value);
    for (const { canvas, group } of this.canvases) {
      canvas.style.width = `${group.width * scale}px`;
      canvas.style.height = `${group.height * scale}px`;
    }
  }

  show() {
    const step = this.steps[this.index], slider = this.find("time"), where = this.find("where");
    const text = this.steps.length ? this.data.labels[this.index] : "no moment yet";
    if (Number(slider.value) !== this.index) slider.value = this.index;
    slider.setAttribute("aria-valuetext", text);
    // While it plays a screen reader would have to read ten steps a second.
    where.setAttribute("aria-live", this.playing ? "off" : "polite");
    if (where.textContent !== text) where.textContent = text;
    const frame = films.get(this.film).frames.get(step);
    // A frame that is not there is still on its way, and its block will tell; until then the last one stays.
    if (!frame || frame === this.drawn) return;
    this.drawn = frame;
    for (const { canvas, group, context, image } of this.canvases) {
      this.paint(frame.tiles, group, image);
      context.putImageData(image, 0, 0);
      if (document.activeElement !== canvas) canvas.setAttribute("aria-label", `${group.label}, ${text}`);
    }
    this.host.dataset.step = step;
  }

  // Tiles, red, green and blue of each weight, into their places in a tower's picture; what lies between stays clear.
  paint(tiles, group, image) {
    const [height, width] = this.data.tile, to = image.data;
    for (const [item, left, top] of group.places) {
      let at = item * height * width * 3;
      for (let row = 0; row < height; row++) {
        let there = ((top + row) * group.width + left) * 4;
        for (let column = 0; column < width; column++) {
          to[there++] = tiles[at++];
          to[there++] = tiles[at++];
          to[there++] = tiles[at++];
          to[there++] = 255;
        }
      }
    }
  }

  play(on) {
    const changed = on !== this.playing;
    this.playing = on;
    const button = this.find("play");
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
    if (!changed || !on) return this.show();
    if (this.index >= this.steps.length - 1) this.index = 0;
    let next = performance.now();
    const turn = (now) => {
      if (!this.playing || !this.host.isConnected) return;
      if (now >= next) {
        const last = this.steps.length - 1;
        if (this.index >= last && !this.find("loop").checked) return this.play(false);
        this.index = this.index >= last ? 0 : this.index + 1;
        this.show();
        next = Math.max(next, now - 200) + 1000 / Number(this.find("speed").value);
      }
      requestAnimationFrame(turn);
    };
    this.show();
    requestAnimationFrame(turn);
  }

  key(event) {
    const { tagName, type } = event.target;
    if (event.key !== " " || tagName === "BUTTON" || tagName === "SELECT" || type === "checkbox") return;
    if (!this.find("play").disabled) this.play(!this.playing);
    event.preventDefault();
  }

  leave() {
    const film = films.get(this.film);
    film?.readers.delete(this.tell);
    if (film && !film.frames.size && !film.readers.size) films.delete(this.film);
  }

  close() {
    this.playing = false;
    this.watcher.disconnect();
    this.leave();
    players.delete(this.host);
  }
}

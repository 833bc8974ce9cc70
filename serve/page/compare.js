// Before and after: a slider over the whole image, and two panes that zoom and move as one.
"use strict";

class Closeup {
  constructor({ panes, level, zoomIn, zoomOut, toRegion, toAll }) {
    Object.assign(this, { panes, level, box: null, width: 0, height: 0, scale: 1, centre: [0, 0], touches: new Map() });
    zoomIn.onclick = () => this.zoom(1.5);
    zoomOut.onclick = () => this.zoom(1 / 1.5);
    toRegion.onclick = () => this.frame(this.box);
    toAll.onclick = () => this.frame([0, 0, this.width, this.height]);
    for (const pane of panes) {
      pane.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(-e.deltaY / 300), this.under(e)); }, { passive: false });
      pane.addEventListener("pointerdown", (e) => { pane.setPointerCapture(e.pointerId); this.touches.set(e.pointerId, e); });
      pane.addEventListener("pointermove", (e) => this.drag(e));
      for (const name of ["pointerup", "pointercancel"]) pane.addEventListener(name, (e) => this.touches.delete(e.pointerId));
      pane.addEventListener("dblclick", (e) => this.zoom(2, this.under(e)));
      pane.addEventListener("keydown", (e) => this.key(e));
    }
    new ResizeObserver(() => this.apply()).observe(panes[0]);
  }

  // `box`: what was refined, image pixels; the view opens on it with some room round it.
  open(width, height, box) {
    const room = Math.max(8, 0.35 * Math.max(box[2] - box[0], box[3] - box[1]));
    Object.assign(this, { width, height, fresh: true });
    this.box = [Math.max(0, box[0] - room), Math.max(0, box[1] - room), Math.min(width, box[2] + room), Math.min(height, box[3] + room)];
  }

  shown() { if (this.fresh) { this.fresh = false; this.frame(this.box); } else this.apply(); }

  frame([x1, y1, x2, y2]) {
    const { clientWidth, clientHeight } = this.panes[0];
    this.centre = [(x1 + x2) / 2, (y1 + y2) / 2];
    this.scale = Math.min(clientWidth / (x2 - x1), clientHeight / (y2 - y1));
    this.apply();
  }

  zoom(factor, around = this.centre) {
    const scale = Math.min(32, Math.max(0.05, this.scale * factor)), k = this.scale / scale;
    this.centre = this.centre.map((c, i) => around[i] + (c - around[i]) * k);
    this.scale = scale;
    this.apply();
  }

  under(event) {
    const frame = event.currentTarget.getBoundingClientRect();
    return [this.centre[0] + (event.clientX - frame.left - frame.width / 2) / this.scale, this.centre[1] + (event.clientY - frame.top - frame.height / 2) / this.scale];
  }

  drag(event) {
    const last = this.touches.get(event.pointerId);
    if (!last) return;
    const other = [...this.touches].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const far = (e) => Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY) || 1;
      this.zoom(far(event) / far(last));
    } else this.shift(last.clientX - event.clientX, last.clientY - event.clientY);
    this.touches.set(event.pointerId, event);
  }

  shift(dx, dy) {
    this.centre = [this.centre[0] + dx / this.scale, this.centre[1] + dy / this.scale];
    this.apply();
  }

  key(event) {
    const moves = { ArrowLeft: [-40, 0], ArrowRight: [40, 0], ArrowUp: [0, -40], ArrowDown: [0, 40] };
    if (moves[event.key]) this.shift(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.frame(this.box);
    else return;
    event.preventDefault();
  }

  apply() {
    if (!this.width) return;
    const [x, y] = this.centre = [Math.min(this.width, Math.max(0, this.centre[0])), Math.min(this.height, Math.max(0, this.centre[1]))];
    for (const pane of this.panes) {
      const image = pane.firstElementChild;
      image.style.width = `${this.width}px`;
      image.style.transform = `translate(${pane.clientWidth / 2 - x * this.scale}px, ${pane.clientHeight / 2 - y * this.scale}px) scale(${this.scale})`;
      image.classList.toggle("sharp", this.scale >= 3);
    }
    this.level.textContent = `${Math.round(this.scale * 100)} %`;
  }
}

// The largest box of the image's aspect inside `room`; small images grow up to eight times.
function fit(frame, room, width, height) {
  const style = getComputedStyle(room), phone = matchMedia("(max-width: 899px)").matches;
  const high = phone ? Math.round(innerHeight * 0.58) : room.clientHeight - Number.parseFloat(style.paddingBlock || 0) * 2;
  const k = Math.min(room.clientWidth / width, high / height, 8);
  Object.assign(frame.style, { width: `${Math.max(1, Math.floor(width * k))}px`, height: `${Math.max(1, Math.floor(height * k))}px` });
}

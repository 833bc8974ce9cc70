// Two panes, before and after, that zoom and move as one.

const LEAST = 0.05;
const MOST = 32;
const SHARP = 6; // from this scale on pixels are shown as squares

export class Closeup {
  constructor({ panes, level, zoomIn, zoomOut, toRegion, toAll }) {
    Object.assign(this, { panes, level, box: null, size: null, scale: 1, centre: [0, 0], touches: new Map() });
    zoomIn.onclick = () => this.zoom(1.5);
    zoomOut.onclick = () => this.zoom(1 / 1.5);
    toRegion.onclick = () => this.frame(this.box);
    toAll.onclick = () => this.frame([0, 0, ...this.size]);
    for (const pane of panes) this.listen(pane);
    new ResizeObserver(() => this.apply()).observe(panes[0]);
  }

  listen(pane) {
    const wheel = (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), this.under(event));
    };
    pane.addEventListener("wheel", wheel, { passive: false });
    pane.addEventListener("pointerdown", (event) => {
      pane.setPointerCapture(event.pointerId);
      this.touches.set(event.pointerId, event);
    });
    pane.addEventListener("pointermove", (event) => this.drag(event));
    pane.addEventListener("pointerup", (event) => this.touches.delete(event.pointerId));
    pane.addEventListener("pointercancel", (event) => this.touches.delete(event.pointerId));
    pane.addEventListener("dblclick", (event) => this.zoom(2, this.under(event)));
    pane.addEventListener("keydown", (event) => this.key(event));
  }

  // `box`: what was refined, image pixels; the first look is at it with some room round it.
  open(size, [x1, y1, x2, y2]) {
    const room = Math.max(8, 0.35 * Math.max(x2 - x1, y2 - y1));
    const box = [
      Math.max(0, x1 - room),
      Math.max(0, y1 - room),
      Math.min(size[0], x2 + room),
      Math.min(size[1], y2 + room),
    ];
    Object.assign(this, { size, box, fresh: true });
  }

  shown() {
    if (this.fresh) this.frame(this.box);
    this.fresh = false;
  }

  frame([x1, y1, x2, y2]) {
    const { clientWidth, clientHeight } = this.panes[0];
    this.centre = [(x1 + x2) / 2, (y1 + y2) / 2];
    this.scale = Math.min(clientWidth / (x2 - x1), clientHeight / (y2 - y1));
    this.apply();
  }

  zoom(factor, fixed = this.centre) {
    const scale = Math.min(MOST, Math.max(LEAST, this.scale * factor));
    const k = this.scale / scale;
    this.centre = this.centre.map((c, i) => fixed[i] + (c - fixed[i]) * k);
    this.scale = scale;
    this.apply();
  }

  // The image's point under a pointer.
  under(event) {
    const { left, top, width, height } = event.currentTarget.getBoundingClientRect();
    const [x, y] = [event.clientX - left - width / 2, event.clientY - top - height / 2];
    return [this.centre[0] + x / this.scale, this.centre[1] + y / this.scale];
  }

  // One finger moves, two zoom.
  drag(event) {
    const last = this.touches.get(event.pointerId);
    if (!last) return;
    const other = [...this.touches.values()].find((touch) => touch.pointerId !== event.pointerId);
    if (other) {
      const far = (touch) => Math.hypot(touch.clientX - other.clientX, touch.clientY - other.clientY) || 1;
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
    if (!this.size) return;
    const { clientWidth, clientHeight } = this.panes[0];
    this.centre = [clientWidth, clientHeight].map((side, i) => held(this.centre[i], side / this.scale, this.size[i]));
    const [x, y] = this.centre;
    for (const { firstElementChild: image } of this.panes) {
      const moved = `${clientWidth / 2 - x * this.scale}px, ${clientHeight / 2 - y * this.scale}px`;
      Object.assign(image.style, { width: `${this.size[0]}px`, transform: `translate(${moved}) scale(${this.scale})` });
      image.classList.toggle("sharp", this.scale >= SHARP);
    }
    this.level.textContent = `${Math.round(this.scale * 100)} %`;
  }
}

// The centre of a window of `seen` pixels over a side of `size`: inside it, or in the middle where all of it is seen.
function held(centre, seen, size) {
  return seen >= size ? size / 2 : Math.min(size - seen / 2, Math.max(seen / 2, centre));
}

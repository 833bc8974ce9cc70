// The region: strokes and boxes on a canvas of the image's own size, by mouse, pen, touch or keyboard.
import { between, components, merged } from "./boxes.js";

const MARK = "#ff5a1f";
const GRID = 512; // longest side of the small copy on which what is marked is measured
const GAP = 6; // pixels of that copy between marks that count as one

export class Region {
  // `changed()` is called after every stroke; `say(text)` speaks to screen readers.
  constructor({ canvas, cursor, rubber, changed, say }) {
    Object.assign(this, { canvas, cursor, rubber, changed, say });
    Object.assign(this, {
      tool: "brush",
      size: 40,
      done: [],
      undone: [],
      boxes: [],
      stroke: null,
      at: null,
      keyed: false,
    });
    canvas.addEventListener("pointerdown", (e) => this.press(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.finish(e));
    canvas.addEventListener("pointercancel", () => this.abandon());
    canvas.addEventListener("pointerleave", () => {
      if (!this.stroke) this.hideCursor();
    });
    canvas.addEventListener("keydown", (e) => this.key(e));
    canvas.addEventListener("focus", () => {
      if (canvas.matches(":focus-visible")) this.show(true);
    });
    canvas.addEventListener("blur", () => {
      this.abandon();
      this.hideCursor();
    });
  }

  open(width, height) {
    Object.assign(this.canvas, { width, height });
    Object.assign(this, { done: [], undone: [], stroke: null, at: [width / 2, height / 2] });
    this.pen = this.canvas.getContext("2d");
    this.setTool(this.tool);
    this.changed();
  }

  get scale() {
    return this.canvas.clientWidth / this.canvas.width || 1;
  }

  setTool(tool) {
    this.abandon();
    this.tool = tool;
    this.canvas.classList.toggle("brushing", tool !== "box");
  }

  // Drawing. A mark is {tool, size, points} with points in image pixels; a box has two points.
  draw(mark) {
    if (mark.tool === "clear") {
      this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
      return;
    }
    const { pen } = this,
      [first, ...rest] = mark.points;
    pen.globalCompositeOperation = mark.tool === "eraser" ? "destination-out" : "source-over";
    pen.fillStyle = pen.strokeStyle = MARK;
    if (mark.tool === "box") {
      const [x1, y1, x2, y2] = between(...mark.points, this.canvas);
      pen.fillRect(x1, y1, x2 - x1, y2 - y1);
      return;
    }
    Object.assign(pen, { lineWidth: mark.size, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    pen.moveTo(...first);
    for (const point of rest.length ? rest : [first]) pen.lineTo(...point);
    pen.stroke();
  }

  redraw() {
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.done.forEach((mark) => this.draw(mark));
    this.changed();
  }

  add(mark) {
    this.done.push(mark);
    this.undone = [];
    this.redraw();
  }

  addBox(x1, y1, x2, y2) {
    this.add({
      tool: "box",
      size: 0,
      points: [
        [x1, y1],
        [x2, y2],
      ],
    });
  }
  undo() {
    if (this.done.length) {
      this.undone.push(this.done.pop());
      this.redraw();
      this.say("Undone");
    }
  }
  redo() {
    if (this.undone.length) {
      this.done.push(this.undone.pop());
      this.redraw();
      this.say("Redone");
    }
  }
  clear() {
    if (this.done.length) {
      this.add({ tool: "clear", size: 0, points: [] });
      this.say("Region cleared");
    }
  }

  // Pointer
  place(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - frame.left) * this.canvas.width) / frame.width,
      ((event.clientY - frame.top) * this.canvas.height) / frame.height,
    ];
  }

  press(event) {
    if (event.button || this.stroke) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    this.at = this.place(event);
    this.begin();
    this.show(false);
  }

  move(event) {
    if (this.stroke && !this.keyed && event.pointerId !== this.pointer) return;
    const points = event.getCoalescedEvents?.() ?? [];
    for (const part of points.length ? points : [event]) {
      this.at = this.place(part);
      if (this.stroke && !this.keyed) this.extend();
    }
    this.show(false);
  }

  begin() {
    this.stroke = { tool: this.tool, size: this.size / this.scale, points: [[...this.at]] };
    this.extend();
  }

  extend() {
    const { points, tool } = this.stroke;
    if (tool === "box") points[1] = [...this.at];
    else points.push([...this.at]);
    if (tool === "box") this.stretch();
    else this.draw({ ...this.stroke, points: points.slice(-2) });
  }

  finish(event) {
    if (!this.stroke || this.keyed || event.pointerId !== this.pointer) return;
    this.commit();
  }

  commit() {
    const mark = this.stroke;
    Object.assign(this, { stroke: null, keyed: false });
    this.rubber.hidden = true;
    const [x1, y1, x2, y2] = mark.tool === "box" ? between(...mark.points, this.canvas) : [0, 0, 1, 1];
    if (x2 > x1 && y2 > y1) this.add(mark);
  }

  abandon() {
    if (!this.stroke) return;
    Object.assign(this, { stroke: null, keyed: false });
    this.rubber.hidden = true;
    this.redraw();
  }

  // Keyboard
  key(event) {
    const step = event.shiftKey ? 40 : 8;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) this.go(...moves[event.key]);
    else if (event.key === " " || event.key === "Enter") this.toggle();
    else if (event.key === "Escape" && this.stroke) {
      this.abandon();
      this.show(true);
      this.say("Stopped");
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  go(dx, dy) {
    const { width, height } = this.canvas,
      [x, y] = this.at;
    this.at = [Math.min(width, Math.max(0, x + dx / this.scale)), Math.min(height, Math.max(0, y + dy / this.scale))];
    if (this.stroke) this.extend();
    this.show(true);
  }

  toggle() {
    if (this.stroke) {
      this.commit();
      this.say(this.tool === "box" ? "Box added" : "Brush lifted");
    } else {
      this.begin();
      this.keyed = true;
      this.say(this.tool === "box" ? "First corner" : "Brush down");
    }
    this.show(true);
  }

  // What is seen beside the marks
  hideCursor() {
    this.cursor.hidden = true;
  }

  show(cross) {
    const box = this.tool === "box";
    this.cursor.hidden = box && !cross;
    this.cursor.classList.toggle("cross", box);
    this.cursor.classList.toggle("down", Boolean(this.stroke) && cross);
    const [x, y] = this.at.map((v) => v * this.scale);
    Object.assign(this.cursor.style, {
      left: `${x}px`,
      top: `${y}px`,
      width: `${this.size}px`,
      height: `${this.size}px`,
    });
  }

  stretch() {
    const [x1, y1, x2, y2] = between(...this.stroke.points, this.canvas).map((v) => v * this.scale);
    Object.assign(this.rubber.style, {
      left: `${x1}px`,
      top: `${y1}px`,
      width: `${x2 - x1}px`,
      height: `${y2 - y1}px`,
    });
    this.rubber.hidden = false;
  }

  // What is marked: {share, boxes}; boxes in image pixels round marks that do not touch.
  measure() {
    const { width, height } = this.canvas,
      k = Math.min(1, GRID / Math.max(width, height));
    const small = new OffscreenCanvas(Math.max(1, Math.round(width * k)), Math.max(1, Math.round(height * k)));
    const pen = small.getContext("2d", { willReadFrequently: true });
    pen.drawImage(this.canvas, 0, 0, small.width, small.height);
    const { data } = pen.getImageData(0, 0, small.width, small.height);
    const on = Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 3] >= 64);
    const fx = width / small.width,
      fy = height / small.height;
    this.boxes = merged(components(on, small.width), GAP).map(([x1, y1, x2, y2]) => [
      Math.max(0, Math.floor((x1 - 1) * fx)),
      Math.max(0, Math.floor((y1 - 1) * fy)),
      Math.min(width, Math.ceil((x2 + 1) * fx)),
      Math.min(height, Math.ceil((y2 + 1) * fy)),
    ]);
    return { share: on.reduce((a, b) => a + b, 0) / on.length, boxes: this.boxes };
  }

  // One PNG of the image's size a box: white = edit.
  masks() {
    return Promise.all(
      this.boxes.map(([x1, y1, x2, y2]) => {
        const sheet = new OffscreenCanvas(this.canvas.width, this.canvas.height),
          pen = sheet.getContext("2d");
        const part = [x1, y1, x2 - x1, y2 - y1];
        pen.drawImage(this.canvas, ...part, ...part);
        pen.globalCompositeOperation = "source-in";
        pen.fillStyle = "#fff";
        pen.fillRect(0, 0, sheet.width, sheet.height);
        pen.globalCompositeOperation = "destination-over";
        pen.fillStyle = "#000";
        pen.fillRect(0, 0, sheet.width, sheet.height);
        return sheet.convertToBlob({ type: "image/png" });
      }),
    );
  }
}

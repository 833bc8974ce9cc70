// The region: strokes and boxes on a canvas of the image's own size, by mouse, pen, touch or keyboard.
"use strict";

const MARK = "#ff5a1f";
const GRID = 512; // side of the small copy on which what is marked is measured

class Region {
  // `changed()` is called after every stroke; `say(text)` speaks to screen readers.
  constructor({ canvas, cursor, rubber, changed, say }) {
    Object.assign(this, { canvas, cursor, rubber, changed, say });
    Object.assign(this, { tool: "brush", size: 40, done: [], undone: [], stroke: null, at: null, keyed: false });
    canvas.addEventListener("pointerdown", (e) => this.press(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.finish(e));
    canvas.addEventListener("pointercancel", () => this.abandon());
    canvas.addEventListener("pointerleave", () => { if (!this.stroke) this.cursor.hidden = true; });
    canvas.addEventListener("keydown", (e) => this.key(e));
    canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) this.show(true); });
    canvas.addEventListener("blur", () => { this.abandon(); this.cursor.hidden = true; });
  }

  open(width, height) {
    Object.assign(this.canvas, { width, height });
    Object.assign(this, { done: [], undone: [], stroke: null, at: [width / 2, height / 2] });
    this.pen = this.canvas.getContext("2d");
    this.setTool(this.tool);
    this.changed();
  }

  get scale() { return this.canvas.clientWidth / this.canvas.width || 1; }

  setTool(tool) {
    this.abandon();
    this.tool = tool;
    this.canvas.classList.toggle("brushing", tool !== "box");
  }

  // Drawing. A mark is {tool, size, points} with points in image pixels; a box has two points.
  draw(mark) {
    if (mark.tool === "clear") { this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height); return; }
    const { pen } = this, [first, ...rest] = mark.points;
    pen.globalCompositeOperation = mark.tool === "eraser" ? "destination-out" : "source-over";
    pen.fillStyle = pen.strokeStyle = MARK;
    if (mark.tool === "box") {
      const [x1, y1, x2, y2] = corners(mark.points, this.canvas);
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

  addBox(x1, y1, x2, y2) { this.add({ tool: "box", size: 0, points: [[x1, y1], [x2, y2]] }); }
  undo() { if (this.done.length) { this.undone.push(this.done.pop()); this.redraw(); this.say("Undone"); } }
  redo() { if (this.undone.length) { this.done.push(this.undone.pop()); this.redraw(); this.say("Redone"); } }
  clear() { if (this.done.length) { this.add({ tool: "clear", size: 0, points: [] }); this.say("Region cleared"); } }

  // Pointer
  place(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [(event.clientX - frame.left) * this.canvas.width / frame.width, (event.clientY - frame.top) * this.canvas.height / frame.height];
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
    for (const part of points.length ? points : [event]) { this.at = this.place(part); if (this.stroke && !this.keyed) this.extend(); }
    this.show(false);
  }

  begin() {
    this.stroke = { tool: this.tool, size: this.size / this.scale, points: [[...this.at]] };
    this.extend();
  }

  extend() {
    const { points, tool } = this.stroke;
    if (tool === "box") points[1] = [...this.at]; else points.push([...this.at]);
    if (tool === "box") this.stretch(); else this.draw({ ...this.stroke, points: points.slice(-2) });
  }

  finish(event) {
    if (!this.stroke || this.keyed || event.pointerId !== this.pointer) return;
    this.commit();
  }

  commit() {
    const mark = this.stroke;
    Object.assign(this, { stroke: null, keyed: false });
    this.rubber.hidden = true;
    const [x1, y1, x2, y2] = mark.tool === "box" ? corners(mark.points, this.canvas) : [0, 0, 1, 1];
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
    else if (event.key === "Escape" && this.stroke) { this.abandon(); this.show(true); this.say("Stopped"); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  go(dx, dy) {
    const { width, height } = this.canvas, [x, y] = this.at;
    this.at = [Math.min(width, Math.max(0, x + dx / this.scale)), Math.min(height, Math.max(0, y + dy / this.scale))];
    if (this.stroke) this.extend();
    this.show(true);
  }

  toggle() {
    if (this.stroke) { this.commit(); this.say(this.tool === "box" ? "Box added" : "Brush lifted"); }
    else { this.begin(); this.keyed = true; this.say(this.tool === "box" ? "First corner" : "Brush down"); }
    this.show(true);
  }

  // What is seen beside the marks
  show(cross) {
    const box = this.tool === "box";
    this.cursor.hidden = box && !cross;
    this.cursor.classList.toggle("cross", box);
    this.cursor.classList.toggle("down", Boolean(this.stroke) && cross);
    const [x, y] = this.at.map((v) => v * this.scale);
    Object.assign(this.cursor.style, { left: `${x}px`, top: `${y}px`, width: `${this.size}px`, height: `${this.size}px` });
  }

  stretch() {
    const [x1, y1, x2, y2] = corners(this.stroke.points, this.canvas).map((v) => v * this.scale);
    Object.assign(this.rubber.style, { left: `${x1}px`, top: `${y1}px`, width: `${x2 - x1}px`, height: `${y2 - y1}px` });
    this.rubber.hidden = false;
  }

  // What is marked: {share, boxes}; boxes in image pixels round marks that do not touch, at most 16.
  measure() {
    const { width, height } = this.canvas, k = Math.min(1, GRID / Math.max(width, height));
    const small = new OffscreenCanvas(Math.max(1, Math.round(width * k)), Math.max(1, Math.round(height * k)));
    const pen = small.getContext("2d", { willReadFrequently: true });
    pen.drawImage(this.canvas, 0, 0, small.width, small.height);
    const { data } = pen.getImageData(0, 0, small.width, small.height);
    const on = Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 3] >= 64);
    const fx = width / small.width, fy = height / small.height;
    const boxes = merged(components(on, small.width)).map(([x1, y1, x2, y2]) => [
      Math.max(0, Math.floor((x1 - 1) * fx)), Math.max(0, Math.floor((y1 - 1) * fy)),
      Math.min(width, Math.ceil((x2 + 1) * fx)), Math.min(height, Math.ceil((y2 + 1) * fy)),
    ]);
    return { share: on.reduce((a, b) => a + b, 0) / on.length, boxes };
  }

  // One PNG of the image's size a box: white = edit.
  masks(boxes) {
    return Promise.all(boxes.map(([x1, y1, x2, y2]) => {
      const sheet = new OffscreenCanvas(this.canvas.width, this.canvas.height), pen = sheet.getContext("2d");
      const part = [x1, y1, x2 - x1, y2 - y1];
      pen.drawImage(this.canvas, ...part, ...part);
      pen.globalCompositeOperation = "source-in";
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, sheet.width, sheet.height);
      pen.globalCompositeOperation = "destination-over";
      pen.fillStyle = "#000";
      pen.fillRect(0, 0, sheet.width, sheet.height);
      return sheet.convertToBlob({ type: "image/png" });
    }));
  }
}

function corners([[ax, ay], [bx, by]], { width, height }) {
  const x = [ax, bx].map((v) => Math.min(width, Math.max(0, Math.round(v)))).sort((a, b) => a - b);
  const y = [ay, by].map((v) => Math.min(height, Math.max(0, Math.round(v)))).sort((a, b) => a - b);
  return [x[0], y[0], x[1], y[1]];
}

// Tight boxes of the 8-connected parts of `on`, a row-major grid of 0 and 1.
function components(on, width) {
  const left = on.slice(), boxes = [];
  for (let start = 0; start < left.length; start += 1) {
    if (!left[start]) continue;
    const box = [width, Infinity, 0, 0], stack = [start];
    left[start] = 0;
    while (stack.length) {
      const i = stack.pop(), x = i % width, y = (i - x) / width;
      box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y); box[2] = Math.max(box[2], x + 1); box[3] = Math.max(box[3], y + 1);
      for (let dy = -1; dy <= 1; dy += 1) for (let dx = -1; dx <= 1; dx += 1) {
        const nx = x + dx, j = i + dy * width + dx;
        if (nx >= 0 && nx < width && left[j]) { left[j] = 0; stack.push(j); }
      }
    }
    boxes.push(box);
  }
  return boxes;
}

// Boxes that overlap or nearly touch become one; past 16, all become one.
function merged(boxes, gap = 6) {
  const out = [];
  for (let box of boxes) {
    for (let i = 0; i < out.length; i += 1) {
      const other = out[i];
      if (box[0] < other[2] + gap && other[0] < box[2] + gap && box[1] < other[3] + gap && other[1] < box[3] + gap) {
        box = around([box, other]);
        out.splice(i, 1);
        i = -1;
      }
    }
    out.push(box);
  }
  return out.length > 16 ? [around(out)] : out;
}

function around(boxes) {
  const side = (i, pick) => pick(...boxes.map((b) => b[i]));
  return [side(0, Math.min), side(1, Math.min), side(2, Math.max), side(3, Math.max)];
}

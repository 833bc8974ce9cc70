// Boxes [x1, y1, x2, y2], half-open, and where marks lie. Arithmetic only; nothing here touches the document.

export const MOST_BOXES = 16;

// The box between two points, whole pixels, inside width x height.
export function between([ax, ay], [bx, by], { width, height }) {
  const inside = (v, most) => Math.min(most, Math.max(0, Math.round(v)));
  const [x1, x2] = [inside(ax, width), inside(bx, width)].sort((a, b) => a - b);
  const [y1, y2] = [inside(ay, height), inside(by, height)].sort((a, b) => a - b);
  return [x1, y1, x2, y2];
}

export function around(boxes) {
  const side = (i, pick) => pick(...boxes.map((box) => box[i]));
  return [side(0, Math.min), side(1, Math.min), side(2, Math.max), side(3, Math.max)];
}

// Tight boxes of the 8-connected parts of `on`, a row-major grid of 0 and 1.
export function components(on, width) {
  const left = on.slice();
  const boxes = [];
  for (let start = 0; start < left.length; start += 1) {
    if (!left[start]) continue;
    const box = [width, Infinity, 0, 0];
    const stack = [start];
    left[start] = 0;
    while (stack.length) {
      const i = stack.pop();
      const x = i % width;
      const y = (i - x) / width;
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
      for (const j of neighbours(x, y, width)) {
        if (left[j]) {
          left[j] = 0;
          stack.push(j);
        }
      }
    }
    boxes.push(box);
  }
  return boxes;
}

function* neighbours(x, y, width) {
  for (let ny = y - 1; ny <= y + 1; ny += 1) {
    for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx += 1) yield ny * width + nx;
  }
}

// Boxes that overlap or lie closer than `gap` become one; where too many are left, all become one.
export function merged(boxes, gap) {
  const near = (a, b) => a[0] < b[2] + gap && b[0] < a[2] + gap && a[1] < b[3] + gap && b[1] < a[3] + gap;
  const out = [];
  for (let box of boxes) {
    for (let i = out.findIndex((other) => near(box, other)); i >= 0; i = out.findIndex((other) => near(box, other))) {
      box = around([box, ...out.splice(i, 1)]);
    }
    out.push(box);
  }
  return out.length > MOST_BOXES ? [around(out)] : out;
}

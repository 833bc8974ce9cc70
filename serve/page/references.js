// Up to eight reference images, each with what it shows.
"use strict";

const KINDS = ["detail", "subject", "background", "style", "lighting", "pose"];
const MOST_REFERENCES = 8;

class References {
  constructor({ list, count, adder, changed }) {
    Object.assign(this, { list, count, adder, changed, items: [] });
    this.show();
  }

  add(files) {
    const room = MOST_REFERENCES - this.items.length;
    for (const file of files.slice(0, room)) this.items.push({ file, kind: "detail", url: URL.createObjectURL(file) });
    this.show();
    if (files.length > room) throw new ApiError("Not all references were added.", { problems: [{ field: "reference", got: `${files.length - room} too many`, allowed: `${MOST_REFERENCES} references`, hint: "Remove one to make room." }] });
  }

  remove(item) {
    URL.revokeObjectURL(item.url);
    this.items = this.items.filter((i) => i !== item);
    this.show();
    (this.list.querySelector("button") ?? this.adder).focus();
  }

  show() {
    this.list.replaceChildren(...this.items.map((item, i) => this.row(item, i)));
    this.count.textContent = this.items.length ? `${this.items.length} of ${MOST_REFERENCES}` : "none, up to 8";
    this.adder.disabled = this.items.length >= MOST_REFERENCES;
    this.changed?.();
  }

  row(item, i) {
    const row = document.createElement("li"), image = new Image(), name = document.createElement("span");
    const body = document.createElement("div"), kind = document.createElement("select"), remove = document.createElement("button");
    Object.assign(image, { src: item.url, alt: "" });
    Object.assign(name, { className: "name", textContent: `${i + 1} · ${item.file.name}` });
    kind.append(...KINDS.map((k) => new Option(k, k, false, k === item.kind)));
    kind.setAttribute("aria-label", `Reference ${i + 1} shows`);
    kind.onchange = () => { item.kind = kind.value; };
    Object.assign(remove, { type: "button", className: "quiet icon", title: "Remove" });
    remove.setAttribute("aria-label", `Remove reference ${i + 1}, ${item.file.name}`);
    remove.append(icon("close"));
    remove.onclick = () => this.remove(item);
    body.append(name, kind);
    row.append(image, body, remove);
    return row;
  }
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg"), use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

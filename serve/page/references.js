// Up to eight reference images, each with what it shows.
import { element, icon } from "./dom.js";
import { opened } from "./images.js";
import { fault } from "./wire.js";

const KINDS = ["detail", "subject", "background", "style", "lighting", "pose"];
const MOST = 8;

export class References {
  constructor({ list, count, adder }) {
    Object.assign(this, { list, count, adder, items: [] });
    this.show();
  }

  async add(files) {
    for (const file of files) {
      if (this.items.length >= MOST) {
        throw fault("Not all references were added.", "reference", "one more", `${MOST}`, "Remove one to make room.");
      }
      this.items.push({ ...(await opened(file, "reference")), kind: "detail" });
      this.show();
    }
  }

  remove(item) {
    URL.revokeObjectURL(item.url);
    this.items = this.items.filter((other) => other !== item);
    this.show();
    (this.list.querySelector("button") ?? this.adder).focus();
  }

  show() {
    this.list.replaceChildren(...this.items.map((item, i) => this.row(item, i + 1)));
    this.count.textContent = this.items.length ? `${this.items.length} of ${MOST}` : `none, up to ${MOST}`;
    this.adder.disabled = this.items.length >= MOST;
  }

  row(item, number) {
    const image = Object.assign(new Image(), { src: item.url, alt: "" });
    const kind = element("select");
    kind.append(...KINDS.map((name) => new Option(name, name, false, name === item.kind)));
    kind.setAttribute("aria-label", `Reference ${number} shows`);
    kind.onchange = () => {
      item.kind = kind.value;
    };
    const remove = Object.assign(element("button", "", "quiet icon"), { type: "button", title: "Remove" });
    remove.setAttribute("aria-label", `Remove reference ${number}, ${item.file.name}`);
    remove.append(icon("close"));
    remove.onclick = () => this.remove(item);
    const body = element("div");
    body.append(element("span", `${number} · ${item.file.name}`, "name"), kind);
    const row = element("li");
    row.append(image, body, remove);
    return row;
  }
}

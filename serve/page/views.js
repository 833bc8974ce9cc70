// The three views of an image: the region on it, before and after with a slider, both close up.
import { $, phone, press } from "./dom.js";
import { Closeup } from "./closeup.js";

const NAMES = ["edit", "compare", "closeup"];
const LARGEST = 8; // small images grow up to this many times

export class Views {
  constructor({ moved }) {
    Object.assign(this, { moved, size: null, view: "edit", buttons: [...$("views").children] });
    this.closeup = new Closeup({
      panes: [...$("closeup").querySelectorAll(".pane")],
      level: $("zoom-level"),
      zoomIn: $("zoom-in"),
      zoomOut: $("zoom-out"),
      toRegion: $("zoom-region"),
      toAll: $("zoom-all"),
    });
    for (const button of this.buttons) button.onclick = () => this.show(button.dataset.view);
    $("slider").oninput = () => this.cut(Number($("slider").value));
    addEventListener("resize", () => this.layout());
  }

  // A new image of this width and height, without a result.
  open(size) {
    this.size = size;
    $("views").hidden = false;
    this.allow(["edit"]);
    this.show("edit");
  }

  // `box`: what was refined, image pixels.
  compare(before, after, box) {
    $("before").src = $("near-before").src = before;
    $("after").src = $("near-after").src = after;
    this.closeup.open(this.size, box);
    this.cut(($("slider").value = 50));
    this.allow(NAMES);
    this.show("compare");
  }

  allow(names) {
    for (const button of this.buttons) button.disabled = !names.includes(button.dataset.view);
  }

  show(view) {
    this.view = view;
    for (const name of NAMES) $(name).hidden = name !== view;
    press(this.buttons, (button) => button.dataset.view === view);
    $("stage").dataset.view = view;
    this.layout();
    if (view === "closeup") this.closeup.shown();
  }

  layout() {
    if (!this.size) return;
    if (this.view === "edit") this.fit($("fit"), $("edit"));
    if (this.view === "compare") this.fit($("compare-fit"), $("compare"));
    this.moved();
  }

  // The largest box of the image's aspect inside `room`.
  fit(frame, room) {
    const [width, height] = this.size;
    const high = phone.matches ? Math.round(innerHeight * 0.58) : room.clientHeight;
    const k = Math.min(room.clientWidth / width, high / height, LARGEST);
    const pixels = (side) => `${Math.max(1, Math.floor(side * k))}px`;
    Object.assign(frame.style, { width: pixels(width), height: pixels(height) });
  }

  cut(percent) {
    $("compare-fit").style.setProperty("--cut", `${percent}%`);
    const words = `${Math.round(percent)} % before, ${Math.round(100 - percent)} % after`;
    $("slider").setAttribute("aria-valuetext", words);
  }
}

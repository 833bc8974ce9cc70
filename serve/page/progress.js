// What is seen of a call while it runs: a bar, the step, and the policy's present idea drawn over the image.
import { $, say } from "./dom.js";

let spoken = 0; // fraction at which screen readers were last told

export function begin() {
  spoken = 0;
  $("running").hidden = false;
  $("preview").hidden = true;
  $("progress").removeAttribute("value");
  $("running-title").textContent = "Sending";
  $("running-step").textContent = "";
  $("cancel").focus({ preventScroll: true });
  $("stage").scrollIntoView({ block: "nearest" });
  say("Refining");
}

export function end() {
  $("running").hidden = true;
  $("preview").hidden = true;
}

// One server-sent event; `size`: the image's width and height.
export function tell(name, data, size) {
  if (name === "accepted") $("running-title").textContent = "Refining";
  if (name !== "progress") return;
  const where = data.regions > 1 ? `region ${data.region + 1} of ${data.regions}, ` : "";
  $("progress").value = data.fraction;
  $("running-step").textContent = `${where}step ${data.step} of ${data.steps}`;
  if (data.fraction - spoken >= 0.25) {
    spoken = data.fraction;
    say(`${Math.round(spoken * 100)} percent`);
  }
  if (data.preview) draw(data.preview, size);
}

function draw({ b64, mime, crop: [x1, y1, x2, y2] }, [width, height]) {
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  const [left, top] = [percent(x1, width), percent(y1, height)];
  Object.assign($("preview").style, { left, top, width: percent(x2 - x1, width), height: percent(y2 - y1, height) });
  $("preview").src = `data:${mime};base64,${b64}`;
  $("preview").hidden = false;
}

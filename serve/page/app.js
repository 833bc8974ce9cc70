// The page's state and its wiring: one image, one call at a time, one result to look at.
import { askToken, loadPolicies, offers } from "./access.js";
import { attempt, unsay } from "./alert.js";
import { around } from "./boxes.js";
import { $, all, press, say } from "./dom.js";
import { onFiles, onKeys } from "./gestures.js";
import { opened } from "./images.js";
import * as progress from "./progress.js";
import { References } from "./references.js";
import { Region } from "./region.js";
import { drawSeed, formOf, summarise } from "./request.js";
import { Result } from "./result.js";
import { Views } from "./views.js";
import { fault, refine as sent, token } from "./wire.js";

const MOST_TEXT = 2000;
const state = { image: null, running: null, result: null, feedback: false };
const region = new Region({
  canvas: $("paint"),
  cursor: $("cursor"),
  rubber: $("rubber"),
  say,
  changed: regionChanged,
});
const references = new References({ list: $("references"), count: $("references-count"), adder: $("reference-add") });
const views = new Views({ moved: () => region.hideCursor() });

async function openImage(file) {
  if (state.running) return;
  const image = await opened(file, "image");
  if (state.image) URL.revokeObjectURL(state.image.url);
  state.image = image;
  forget();
  unsay();
  $("source").src = image.url;
  $("drop").hidden = true;
  for (const [id, most] of Object.entries({ x: image.width, w: image.width, y: image.height, h: image.height })) {
    $(`box-${id}`).max = most;
  }
  views.open([image.width, image.height]);
  region.open(image.width, image.height);
  say(`${file.name} opened, ${image.width} by ${image.height} pixels. Mark the region to refine.`);
}

function forget() {
  state.result?.close();
  state.result = null;
}

function regionChanged() {
  const { share, boxes } = region.measure();
  const parts = boxes.length > 1 ? `${boxes.length} parts, ` : "";
  const percent = share < 0.01 ? "under 1" : Math.round(share * 100);
  $("region-facts").textContent = share ? `${parts}${percent} % of the image` : "nothing marked";
  $("undo").disabled = !region.done.length;
  $("redo").disabled = !region.undone.length;
  $("clear").disabled = !share;
  ready();
}

// Whether a call can be made, and what is missing.
function ready() {
  const busy = Boolean(state.running);
  const why = !state.image ? "Choose an image first." : region.boxes.length ? "" : "Mark the region to refine.";
  $("refine").disabled = busy || Boolean(why);
  $("refine").textContent = busy ? "Refining …" : state.result ? "Refine again" : "Refine";
  $("why").textContent = busy ? "" : why;
  $("box-add").disabled = !state.image || busy;
}

async function refine() {
  if ($("refine").disabled) return;
  unsay();
  const { image } = state;
  const size = [image.width, image.height];
  const began = performance.now();
  setBusy(new AbortController());
  try {
    const form = await formOf({ image, region, references });
    const tell = (name, data) => progress.tell(name, data, size);
    const reply = await sent(form, { signal: state.running.signal, tell });
    show(reply, (performance.now() - began) / 1000);
  } finally {
    setBusy(null);
  }
}

// `running`: the controller of a call that begins, or null when it has ended.
function setBusy(running) {
  state.running = running;
  $("stage").classList.toggle("busy", Boolean(running));
  region.abandon();
  region.hideCursor();
  if (running) {
    views.allow([]);
    views.show("edit");
    progress.begin();
  } else {
    views.allow(state.result ? ["edit", "compare", "closeup"] : ["edit"]);
    progress.end();
  }
  ready();
}

function show(reply, seconds) {
  forget();
  const { image, feedback } = state;
  state.result = new Result(reply, { name: image.file.name, seconds, feedback });
  views.compare(image.url, state.result.url, around(state.result.boxes));
  if (!offers(reply.model)) attempt(connect); // a version that was promoted since the list was read
  say("Refined. Compare before and after with the slider.");
  $("scroll").scrollTop = 0;
  $("slider").focus({ preventScroll: true });
}

async function goOn() {
  await openImage(state.result.file);
  $("paint").focus({ preventScroll: true });
}

function addBox() {
  const [x, y, w, h] = ["x", "y", "w", "h"].map((id) => Math.round(Number($(`box-${id}`).value)));
  const { width, height } = state.image;
  if (!(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= width && y + h <= height)) {
    const hint = "Left and top count from 0; width and height from 1.";
    throw fault("This box does not fit.", "box", `${x}, ${y}, ${w} × ${h}`, `inside ${width} × ${height}`, hint);
  }
  region.addBox(x, y, x + w, y + h);
  say("Box added");
}

function setSize(value) {
  $("size").value = value;
  region.size = 4 + (Number($("size").value) / 100) ** 1.6 * 156;
}

function pick(tool) {
  region.setTool(tool);
  press(all("[data-tool]"), (button) => button.dataset.tool === tool);
}

async function connect() {
  state.feedback = await loadPolicies();
}

async function useToken(event) {
  event.preventDefault();
  token.set($("token").value.trim());
  await connect();
  unsay();
  askToken(false);
  $("token").value = "";
  say("Token accepted");
  $(state.image ? "refine" : "choose").focus();
}

function count() {
  const { length } = $("instruction").value;
  $("instruction-count").textContent = length > MOST_TEXT * 0.8 ? `${length} of ${MOST_TEXT}` : "";
}

// A button that opens the chooser of a file input beside it.
function chooser(button, input, action) {
  $(button).onclick = () => $(input).click();
  $(input).onchange = () => {
    const files = [...$(input).files];
    $(input).value = "";
    attempt(() => action(files));
  };
}

function taken(files, event) {
  const asReference = state.image && event.target.closest?.(".panel");
  attempt(() => (asReference ? references.add(files) : openImage(files[0])));
}

chooser("choose", "file", (files) => openImage(files[0]));
chooser("reference-add", "reference-file", (files) => references.add(files));
onFiles(taken);
onKeys(
  {
    "mod+enter": () => attempt(refine),
    escape: () => state.running?.abort(),
    "mod+z": () => region.undo(),
    "mod+shift+z": () => region.redo(),
    "mod+y": () => region.redo(),
    b: () => pick("brush"),
    e: () => pick("eraser"),
    r: () => pick("box"),
    "[": () => setSize(Number($("size").value) - 5),
    "]": () => setSize(Number($("size").value) + 5),
    delete: () => region.clear(),
    backspace: () => region.clear(),
  },
  { open: () => state.image && !state.running && views.view === "edit" },
);
$("form").onsubmit = (event) => {
  event.preventDefault();
  attempt(refine);
};
$("token-form").onsubmit = (event) => attempt(() => useToken(event));
$("token-open").onclick = () => askToken($("token-form").hidden);
$("cancel").onclick = () => state.running?.abort();
$("undo").onclick = () => region.undo();
$("redo").onclick = () => region.redo();
$("clear").onclick = () => region.clear();
$("size").oninput = () => setSize($("size").value);
$("box-add").onclick = () => attempt(addBox);
$("continue").onclick = () => attempt(goOn);
$("seed-new").onclick = drawSeed;
$("instruction").oninput = count;
for (const button of all("[data-tool]")) button.onclick = () => pick(button.dataset.tool);
for (const button of all("[data-verdict]")) {
  button.onclick = () => attempt(() => state.result.judge(button.dataset.verdict));
}
for (const id of ["seed", "steps", "margin", "margin-frame"]) $(id).addEventListener("input", summarise);

setSize(35);
summarise();
attempt(connect);

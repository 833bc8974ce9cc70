// The page's state and its wiring: one image, one call at a time, one result to look at.
"use strict";

const $ = (id) => document.getElementById(id);
const LIMIT = { bytes: 20 << 20, pixels: 16.7e6, side: 8192, least: 16, aspect: 16, body: 32 << 20, text: 2000 };
const TYPES = ["image/png", "image/jpeg", "image/webp"];
const HOLDERS = { image: "choose", mask: "paint", box: "paint", regions: "paint", instruction: "instruction", seed: "seed", steps: "steps", margin: "margin", model: "policy", reference: "reference-add", references: "reference-add", Authorization: "token" };
const state = { image: null, running: null, result: null, marked: { share: 0, boxes: [] } };

const say = (text) => { $("live").textContent = text; };
const region = new Region({ canvas: $("paint"), cursor: $("cursor"), rubber: $("rubber"), say, changed: () => regionChanged() });
const references = new References({ list: $("references"), count: $("references-count"), adder: $("reference-add") });
const closeup = new Closeup({ panes: [...document.querySelectorAll(".pane")], level: $("zoom-level"), zoomIn: $("zoom-in"), zoomOut: $("zoom-out"), toRegion: $("zoom-region"), toAll: $("zoom-all") });

// Images
function fault(field, got, allowed, hint) { return new ApiError("This file cannot be used.", { problems: [{ field, got, allowed, hint }] }); }

async function opened(file, field) {
  if (!TYPES.includes(file.type)) throw fault(field, file.type || file.name, "PNG, JPEG or WebP", "Save the image as PNG and choose it again.");
  if (file.size > LIMIT.bytes) throw fault(field, `${(file.size / 2 ** 20).toFixed(1)} MB`, "at most 20 MB", "Save it smaller, or as WebP.");
  const url = URL.createObjectURL(file), image = new Image();
  image.src = url;
  try { await image.decode(); } catch { URL.revokeObjectURL(url); throw fault(field, "a file that does not open", "a whole image", "The file may be damaged or cut off."); }
  const { naturalWidth: width, naturalHeight: height } = image, got = `${width} × ${height}`;
  const wide = Math.max(width, height), narrow = Math.min(width, height);
  const wrong = wide > LIMIT.side || narrow < LIMIT.least || width * height > LIMIT.pixels || wide > narrow * LIMIT.aspect;
  if (wrong) { URL.revokeObjectURL(url); throw fault(field, got, "sides of 16 to 8192, at most 16.7 megapixels, no longer than 16:1", "Scale or crop the image first."); }
  return { file, url, width, height };
}

async function openImage(file) {
  if (state.running) return;
  const image = await opened(file, "image");
  if (state.image) URL.revokeObjectURL(state.image.url);
  state.image = image;
  forget();
  $("source").src = image.url;
  for (const [id, hidden] of [["drop", true], ["tools", false], ["views", false], ["preview", true]]) $(id).hidden = hidden;
  for (const id of ["box-x", "box-w"]) $(id).max = image.width;
  for (const id of ["box-y", "box-h"]) $(id).max = image.height;
  region.open(image.width, image.height);
  show("edit");
  say(`${file.name} opened, ${image.width} by ${image.height} pixels. Mark the region to refine.`);
}

async function addReferences(files) {
  for (const file of files) URL.revokeObjectURL((await opened(file, "reference")).url);
  references.add(files);
}

// Views
function show(view) {
  state.view = view;
  for (const id of ["edit", "compare", "closeup"]) $(id).hidden = id !== view;
  for (const button of $("views").children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
  $("tools").hidden = view !== "edit" || Boolean(state.running);
  layout();
  if (view === "closeup") closeup.shown();
}

function layout() {
  if (!state.image) return;
  const view = state.view === "compare" ? ["compare-fit", "compare"] : ["fit", "edit"];
  if (state.view === "closeup") return;
  fit($(view[0]), $(view[1]), state.image.width, state.image.height);
  region.cursor.hidden = true;
}

function cut(percent) {
  for (const node of $("compare-fit").children) node.style.setProperty("--cut", `${percent}%`);
  $("slider").setAttribute("aria-valuetext", `${Math.round(percent)} % before, ${Math.round(100 - percent)} % after`);
}

// Region and the button
function regionChanged() {
  state.marked = region.measure();
  const { share, boxes } = state.marked, parts = boxes.length > 1 ? `${boxes.length} parts, ` : "";
  const percent = share * 100 < 1 ? "under 1" : Math.round(share * 100);
  $("region-facts").textContent = share ? `${parts}${percent} % of the image` : "nothing marked";
  $("undo").disabled = !region.done.length;
  $("redo").disabled = !region.undone.length;
  $("clear").disabled = !share;
  ready();
}

function ready() {
  const busy = Boolean(state.running), why = !state.image ? "Choose an image first." : !state.marked.share ? "Mark the region to refine." : "";
  $("refine").disabled = busy || Boolean(why);
  $("refine").textContent = busy ? "Refining …" : state.result ? "Refine again" : "Refine";
  $("why").textContent = busy ? "" : why;
  $("box-add").disabled = !state.image || busy;
}

function setSize(value) {
  $("size").value = value;
  region.size = 4 + (Number($("size").value) / 100) ** 1.6 * 156;
}

function pick(tool) {
  region.setTool(tool);
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
}

function addBox() {
  const [x, y, w, h] = ["box-x", "box-y", "box-w", "box-h"].map((id) => Math.round(Number($(id).value)));
  const { width, height } = state.image, fits = x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= width && y + h <= height;
  if (!fits) throw new ApiError("This box does not fit.", { problems: [{ field: "box", got: `${x}, ${y}, ${w} × ${h}`, allowed: `inside ${width} × ${height}`, hint: "Left and top count from 0; width and height from 1." }] });
  region.addBox(x, y, x + w, y + h);
  say("Box added");
}

// The call
async function formOf() {
  const form = new FormData(), text = $("instruction").value.trim(), masks = await region.masks(state.marked.boxes);
  form.append("image", state.image.file, "image");
  masks.forEach((mask, i) => form.append("mask", mask, `mask-${i}.png`));
  for (const { file, kind } of references.items) { form.append("reference", file, "reference"); form.append("reference_kind", kind); }
  if (text) form.append("instruction", text);
  if ($("policy").value) form.append("model", $("policy").value);
  form.append("seed", $("seed").value.trim() || "0");
  if ($("steps").value) form.append("steps", $("steps").value);
  if ($("margin").value) { form.append("margin", $("margin").value); form.append("margin_frame", $("margin-frame").value); }
  const size = [...form.values()].reduce((sum, v) => sum + (v.size ?? 0), 0);
  if (size > LIMIT.body) throw new ApiError("The images together are too large.", { problems: [{ field: "image, reference", got: `${(size / 2 ** 20).toFixed(1)} MB`, allowed: "at most 32 MB", hint: "Remove a reference or choose smaller ones." }] });
  return form;
}

async function refine() {
  if ($("refine").disabled) return;
  unsay();
  for (const id of ["seed", "steps", "margin"]) {
    if (!$(id).validity.valid) { $("settings").open = true; throw invalidField($(id)); }
  }
  const boxes = state.marked.boxes, began = performance.now();
  state.running = new AbortController();
  busy(true);
  try {
    const reply = await wire.refine(await formOf(), { signal: state.running.signal, tell: (name, data) => progress(name, data) });
    finish(reply, boxes, (performance.now() - began) / 1000);
  } finally {
    state.running = null;
    busy(false);
  }
}

function invalidField(input) {
  const allowed = { seed: "a whole number from 0", steps: "1 to 100", margin: "0 to 8192" }[input.id];
  return new ApiError("A setting is out of range.", { problems: [{ field: input.id, got: input.value || "no number", allowed, hint: "" }] });
}

function busy(on) {
  $("stage").classList.toggle("busy", on);
  $("running").hidden = !on;
  $("preview").hidden = true;
  $("progress").removeAttribute("value");
  $("running-title").textContent = "Sending";
  $("running-step").textContent = "";
  for (const node of $("views").children) node.disabled = on || (node.dataset.view !== "edit" && !state.result);
  region.abandon();
  region.cursor.hidden = true;
  show(on || !state.result || state.view !== "edit" ? (on ? "edit" : state.view) : "edit");
  ready();
  if (on) { $("cancel").focus({ preventScroll: true }); $("stage").scrollIntoView({ block: "nearest" }); say("Refining"); state.spoken = 0; }
}

function progress(name, data) {
  if (name === "accepted") $("running-title").textContent = "Refining";
  if (name !== "progress") return;
  const where = data.regions > 1 ? `region ${data.region + 1} of ${data.regions}, ` : "";
  $("progress").value = data.fraction;
  $("running-step").textContent = `${where}step ${data.step} of ${data.steps}`;
  if (data.fraction - state.spoken >= 0.25) { state.spoken = data.fraction; say(`${Math.round(data.fraction * 100)} percent`); }
  if (data.preview) draft(data.preview);
}

function draft({ b64, mime, crop: [x1, y1, x2, y2] }) {
  const { width, height } = state.image, percent = (v, of) => `${(100 * v) / of}%`;
  Object.assign($("preview").style, { left: percent(x1, width), top: percent(y1, height), width: percent(x2 - x1, width), height: percent(y2 - y1, height) });
  $("preview").src = `data:${mime};base64,${b64}`;
  $("preview").hidden = false;
}

function forget() {
  if (state.result) URL.revokeObjectURL(state.result.url);
  state.result = null;
  $("result").hidden = true;
  for (const node of $("views").children) node.disabled = node.dataset.view !== "edit";
  unsay();
}

function finish(reply, boxes, seconds) {
  const blob = blobOf(reply.images[0]), url = URL.createObjectURL(blob);
  forget();
  state.result = { reply, blob, url };
  $("before").src = $("near-before").src = state.image.url;
  $("after").src = $("near-after").src = url;
  const crops = reply.regions.map((r) => r.box);
  closeup.open(state.image.width, state.image.height, around(crops.length ? crops : boxes));
  cut($("slider").value = 50);
  const kept = reply.exact ? "Outside the region every pixel is unchanged." : "Saved as JPEG, so pixels outside the region may differ slightly.";
  $("facts").textContent = `${reply.model} · seed ${reply.seed} · ${reply.steps} steps · ${seconds.toFixed(1)} s. ${kept}`;
  const name = state.image.file.name.replace(/\.[^.]*$/, "").replace(/-refined$/, "") || "image";
  Object.assign($("download"), { href: url, download: `${name}-refined.${blob.type.split("/")[1].replace("jpeg", "jpg")}` });
  $("result").hidden = false;
  show("compare");
  say("Refined. Compare before and after with the slider.");
  $("form").querySelector(".scroll").scrollTop = 0;
  $("slider").focus({ preventScroll: true });
  offerVerdict(reply.id);
}

async function offerVerdict(id) {
  $("verdict").hidden = true;
  $("verdict-title").textContent = "Better than before?";
  for (const button of document.querySelectorAll("[data-verdict]")) { button.disabled = false; button.setAttribute("aria-pressed", "false"); }
  const taken = await wire.takesFeedback(id);
  if (state.result?.reply.id === id) $("verdict").hidden = !taken;
}

async function judge(button) {
  await wire.feedback({ request_id: state.result.reply.id, verdict: button.dataset.verdict });
  for (const other of document.querySelectorAll("[data-verdict]")) other.disabled = true;
  button.setAttribute("aria-pressed", "true");
  $("verdict-title").textContent = "Thank you, noted.";
  say("Thank you, noted.");
}

function goOn() {
  const { blob } = state.result, name = $("download").download;
  return openImage(new File([blob], name, { type: blob.type })).then(() => $("paint").focus({ preventScroll: true }));
}

// Policies and the token
async function loadPolicies() {
  const picked = $("policy").value;
  try {
    const found = await wire.policies(), options = [];
    for (const policy of found) {
      const usable = policy.versions.filter((v) => ["active", "canary", "held"].includes(v.state));
      options.push(new Option(`${policy.name}, current`, policy.name, policy.default, policy.default));
      for (const v of usable.sort((a, b) => b.version - a.version)) {
        const option = new Option(`${policy.name}@${v.version} · ${v.state}`, `${policy.name}@${v.version}`);
        const from = Object.entries(v.lineage).map(([key, value]) => `${key} ${value}`).join(", ");
        option.title = `digest ${v.digest.slice(0, 12)}${from ? `, ${from}` : ""}`;
        options.push(option);
      }
    }
    $("policy").replaceChildren(...options);
    if (options.some((o) => o.value === picked)) $("policy").value = picked;
    $("policy").disabled = false;
    $("token-open").hidden = !wire.token;
    return true;
  } catch (error) { complain(error); return false; }
}

function askToken(on) {
  $("token-form").hidden = !on;
  $("token-open").hidden = false;
  $("token-open").setAttribute("aria-expanded", String(on));
  if (on) $("token").focus();
}

// Errors
function unsay() {
  $("alert").hidden = true;
  for (const node of document.querySelectorAll("[aria-invalid]")) node.removeAttribute("aria-invalid");
}

const element = (name, text, className = "") => Object.assign(document.createElement(name), { textContent: text, className });

function complain(error) {
  if (error.name === "AbortError") { say("Cancelled"); return; }
  if (!(error instanceof ApiError)) { console.error(error); error = new ApiError("Something went wrong on this page.", { problems: [{ field: "page", got: error.message, allowed: "no error", hint: "Reload the page and try again." }] }); }
  unsay();
  if (error.status === 401) askToken(true);
  const title = error.status === 401 ? (wire.token ? "This token is not accepted" : "This server asks for an access token") : sentence(error.message);
  const list = document.createElement("dl");
  for (const { field, got, allowed, hint } of error.status === 401 ? [] : error.problems) {
    list.append(element("dt", field), element("dd", `Got ${got}. Allowed: ${allowed}.${hint ? ` ${sentence(hint)}` : ""}`));
    const holder = $(HOLDERS[field.split(/[.,[]/)[0]]);
    holder?.setAttribute("aria-invalid", "true");
    if (holder?.closest("details")) holder.closest("details").open = true;
  }
  $("alert").replaceChildren(element("h3", title), list);
  if (error.status === 401) $("alert").append(element("p", "Enter it at the top of the page."));
  if (error.requestId && error.status >= 500) $("alert").append(element("p", `Request ${error.requestId}`, "small"));
  if (error.retryAfter !== null) $("alert").append(again(error.retryAfter));
  $("alert").hidden = false;
  if (matchMedia("(max-width: 899px)").matches) $("alert").scrollIntoView({ block: "center" });
  else $("form").querySelector(".scroll").scrollTop = 0;
}

function sentence(text) { return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : "."); }

// A button that opens when the server has said it may be asked again.
function again(seconds) {
  const row = element("div", "", "row"), button = element("button", "", "plain");
  let left = Math.ceil(seconds);
  button.type = "button";
  button.onclick = () => attempt(refine);
  const tick = () => {
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left > 0 && button.isConnected !== false) setTimeout(tick, 1000);
    left -= 1;
  };
  row.append(button);
  tick();
  return row;
}

async function attempt(action) {
  try { return await action(); } catch (error) { complain(error); return undefined; }
}

// Wiring
const chosen = (input) => { const files = [...input.files]; input.value = ""; return files; };
$("choose").onclick = () => $("file").click();
$("file").onchange = () => attempt(() => openImage(chosen($("file"))[0]));
$("reference-add").onclick = () => $("reference-file").click();
$("reference-file").onchange = () => attempt(() => addReferences(chosen($("reference-file"))));
$("form").onsubmit = (event) => { event.preventDefault(); attempt(refine); };
$("cancel").onclick = () => state.running?.abort();
$("undo").onclick = () => region.undo();
$("redo").onclick = () => region.redo();
$("clear").onclick = () => region.clear();
$("size").oninput = () => setSize($("size").value);
$("slider").oninput = () => cut(Number($("slider").value));
$("box-add").onclick = () => attempt(addBox);
$("continue").onclick = () => attempt(goOn);
$("seed-new").onclick = () => { $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]); summarise(); };
$("token-open").onclick = () => askToken($("token-form").hidden);
$("token-form").onsubmit = async (event) => {
  event.preventDefault();
  wire.token = $("token").value.trim();
  if (await loadPolicies()) { unsay(); askToken(false); $("token").value = ""; say("Token accepted"); $("choose").focus(); }
};
for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => pick(button.dataset.tool);
for (const button of $("views").children) button.onclick = () => show(button.dataset.view);
for (const button of document.querySelectorAll("[data-verdict]")) button.onclick = () => attempt(() => judge(button));
for (const id of ["seed", "steps", "margin", "margin-frame"]) $(id).addEventListener("input", summarise);
$("instruction").oninput = () => {
  const length = $("instruction").value.length;
  $("instruction-count").textContent = length > LIMIT.text * 0.8 ? `${length} of ${LIMIT.text}` : "";
};

function summarise() {
  const margin = $("margin").value && `margin ${$("margin").value} ${$("margin-frame").selectedOptions[0].text}`;
  $("settings-summary").textContent = [`seed ${$("seed").value || 0}`, $("steps").value && `${$("steps").value} steps`, margin].filter(Boolean).join(", ");
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=range]), textarea, select");
  if (event.key === "Escape" && state.running) { state.running.abort(); return; }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); attempt(refine); return; }
  if (typing || state.running || !state.image || state.view !== "edit" || event.altKey) return;
  const key = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey;
  if (control && key === "z") event.shiftKey ? region.redo() : region.undo();
  else if (control && key === "y") region.redo();
  else if (control) return;
  else if (key === "b") pick("brush");
  else if (key === "e") pick("eraser");
  else if (key === "r") pick("box");
  else if (key === "[") setSize(Number($("size").value) - 5);
  else if (key === "]") setSize(Number($("size").value) + 5);
  else if (key === "delete" || key === "backspace") region.clear();
  else return;
  event.preventDefault();
});

const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let depth = 0;
addEventListener("dragenter", (event) => { if (carries(event)) { depth += 1; $("veil").hidden = false; } });
addEventListener("dragleave", (event) => { if (carries(event)) { depth -= 1; $("veil").hidden = depth > 0 ? false : true; } });
addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  depth = 0;
  $("veil").hidden = true;
  const files = [...event.dataTransfer.files], asReference = state.image && event.target.closest(".panel");
  if (files.length) attempt(() => (asReference ? addReferences(files) : openImage(files[0])));
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith("image/"));
  if (file) { event.preventDefault(); attempt(() => openImage(file)); }
});
addEventListener("resize", layout);

setSize(35);
summarise();
references.changed = ready;
loadPolicies();

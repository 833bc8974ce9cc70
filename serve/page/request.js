// The form of a call: the image, one mask a part of the region, references, and what the controls say.
import { $ } from "./dom.js";
import { megabytes } from "./images.js";
import { fault } from "./wire.js";

const MOST_BYTES = 32 << 20;
const SETTINGS = { seed: "a whole number from 0", steps: "1 to 100", margin: "0 to 8192" };

export async function formOf({ image, region, references }) {
  checkSettings();
  const form = new FormData();
  const masks = await region.masks();
  form.append("image", image.file, "image");
  masks.forEach((mask, i) => form.append("mask", mask, `mask-${i}.png`));
  for (const { file, kind } of references.items) {
    form.append("reference", file, "reference");
    form.append("reference_kind", kind);
  }
  const texts = { instruction: $("instruction").value.trim(), model: $("policy").value, steps: $("steps").value };
  for (const [name, text] of Object.entries(texts)) if (text) form.append(name, text);
  form.append("seed", $("seed").value.trim() || "0");
  if ($("margin").value) {
    form.append("margin", $("margin").value);
    form.append("margin_frame", $("margin-frame").value);
  }
  checkSize(form);
  return form;
}

function checkSettings() {
  for (const [name, allowed] of Object.entries(SETTINGS)) {
    const got = $(name).value || "no number";
    if (!$(name).validity.valid) throw fault("A setting is out of range.", name, got, allowed);
  }
}

function checkSize(form) {
  const size = [...form.values()].reduce((sum, value) => sum + (value.size ?? value.length), 0);
  if (size <= MOST_BYTES) return;
  const hint = "Remove a reference or choose smaller ones.";
  throw fault("The images together are too large.", "reference", megabytes(size), "at most 32 MB", hint);
}

export function summarise() {
  const parts = [`seed ${$("seed").value || 0}`];
  if ($("steps").value) parts.push(`${$("steps").value} steps`);
  if ($("margin").value) parts.push(`margin ${$("margin").value} ${$("margin-frame").selectedOptions[0].text}`);
  $("settings-summary").textContent = parts.join(", ");
}

export function drawSeed() {
  $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
  summarise();
}

// What came back: its facts, the file to download, and the user's verdict.
import { $, all, press, say } from "./dom.js";
import { blobOf, judge } from "./wire.js";

const verdicts = all("[data-verdict]");

export class Result {
  // `reply`: a RefineReply; `feedback`: whether a verdict can be given.
  constructor(reply, { name, seconds, feedback }) {
    const blob = blobOf(reply.images[0]);
    this.id = reply.id;
    this.boxes = reply.regions.map((region) => region.box);
    this.file = new File([blob], refinedName(name, blob.type), { type: blob.type });
    this.url = URL.createObjectURL(blob);
    const { model, seed, steps, exact } = reply;
    const kept = exact
      ? "Outside the region every pixel is unchanged."
      : "Saved as JPEG, so pixels outside the region may differ slightly.";
    $("facts").textContent = `${model} · seed ${seed} · ${steps} steps · ${seconds.toFixed(1)} s. ${kept}`;
    Object.assign($("download"), { href: this.url, download: this.file.name });
    $("verdict").hidden = !feedback;
    this.ask("Better than before?", null);
    $("result").hidden = false;
  }

  close() {
    URL.revokeObjectURL(this.url);
    $("result").hidden = true;
  }

  async judge(verdict) {
    await judge(this.id, verdict);
    this.ask("Thank you, noted.", verdict);
    say("Thank you, noted.");
  }

  ask(title, given) {
    $("verdict-title").textContent = title;
    for (const button of verdicts) button.disabled = given !== null;
    press(verdicts, (button) => button.dataset.verdict === given);
  }
}

function refinedName(name, type) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/-refined$/, "") || "image";
  return `${stem}-refined.${type.split("/")[1].replace("jpeg", "jpg")}`;
}

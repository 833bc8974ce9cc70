// What reaches the whole window: keys, files that are dropped, files that are pasted.
import { $ } from "./dom.js";

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
const TYPING = "input:not([type=range]), textarea, select";

// `drop(files, event)` gets what is let go; a veil shows that it may be.
export function onFiles(drop) {
  let depth = 0;
  const turn = (to) => {
    depth = to;
    $("veil").hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => carriesFiles(event) && turn(depth + 1));
  addEventListener("dragleave", (event) => carriesFiles(event) && turn(depth - 1));
  addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    turn(0);
    drop([...event.dataTransfer.files], event);
  });
  addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    drop(files, event);
  });
}

// `actions`: key -> what it does, with "mod+" for Ctrl or Cmd and "shift+" before the key; `open()`: whether plain
// keys count. Nothing is taken from a field in which somebody types, but Ctrl+Enter.
export function onKeys(actions, { open }) {
  addEventListener("keydown", (event) => {
    const mod = event.ctrlKey || event.metaKey;
    const name = `${mod ? "mod+" : ""}${mod && event.shiftKey ? "shift+" : ""}${event.key.toLowerCase()}`;
    const anywhere = name === "mod+enter" || name === "escape";
    if (!actions[name] || event.altKey || (!anywhere && (event.target.closest?.(TYPING) || !open()))) return;
    if (name !== "escape") event.preventDefault();
    actions[name]();
  });
}

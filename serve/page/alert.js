// What went wrong, field by field, with a way out of it.
import { askToken } from "./access.js";
import { $, all, element, phone, say } from "./dom.js";
import { ApiError, fault, token } from "./wire.js";

// Field of a problem -> the control that can change it.
const HOLDERS = {
  image: "choose",
  mask: "paint",
  box: "paint",
  instruction: "instruction",
  seed: "seed",
  steps: "steps",
  margin: "margin",
  model: "policy",
  reference: "reference-add",
};

// Do something; what it throws is shown, with a button to try again where the server says when.
export async function attempt(action) {
  try {
    await action();
  } catch (error) {
    if (error.name === "AbortError") say("Cancelled");
    else complain(error instanceof ApiError ? error : unforeseen(error), action);
  }
}

export function unsay() {
  $("alert").hidden = true;
  for (const node of all("[aria-invalid]")) node.removeAttribute("aria-invalid");
}

function unforeseen(error) {
  console.error(error);
  return fault("Something went wrong on this page.", "page", error.message, "no error", "Reload the page.");
}

function complain(error, action) {
  unsay();
  const parts = error.status === 401 ? unauthorized() : explained(error);
  if (error.retryAfter !== null) parts.push(again(error.retryAfter, action));
  $("alert").replaceChildren(...parts);
  $("alert").hidden = false;
  if (phone.matches) $("alert").scrollIntoView({ block: "center" });
  else $("scroll").scrollTop = 0;
}

function unauthorized() {
  askToken(true);
  const title = token.get() ? "This token is not accepted" : "This server asks for an access token";
  return [element("h3", title), element("p", "Enter it at the top of the page.")];
}

function explained(error) {
  const list = element("dl");
  for (const { field, got, allowed, hint } of error.problems) {
    const words = `Got ${got}. Allowed: ${allowed}.${hint ? ` ${sentence(hint)}` : ""}`;
    list.append(element("dt", field), element("dd", words));
    blame($(HOLDERS[field.split(/[.,[]/)[0]]));
  }
  const parts = [element("h3", sentence(error.message)), list];
  if (error.requestId && !error.problems.length) parts.push(element("p", `Request ${error.requestId}`, "small"));
  return parts;
}

function blame(control) {
  control?.setAttribute("aria-invalid", "true");
  if (control?.closest("details")) control.closest("details").open = true;
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

// A button that opens when the server has said it may be asked again.
function again(seconds, action) {
  const row = element("div", "", "row");
  const button = Object.assign(element("button", "", "plain"), { type: "button", onclick: () => attempt(action) });
  let left = Math.ceil(seconds);
  const tick = () => {
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left > 0) setTimeout(tick, 1000);
    left -= 1;
  };
  row.append(button);
  tick();
  return row;
}

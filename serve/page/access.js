// What the server offers: its policies by name and version, and the token where it asks for one.
import { $ } from "./dom.js";
import { served, token } from "./wire.js";

const USABLE = ["active", "canary", "held"];

// Fill the list of policies. Resolves with whether the server takes feedback.
export async function loadPolicies() {
  const select = $("policy");
  const picked = select.value;
  const { policies, feedback } = await served();
  select.replaceChildren(...policies.flatMap(choices));
  if (offers(picked)) select.value = picked;
  select.disabled = false;
  $("token-open").hidden = !token.get();
  return feedback;
}

export function offers(model) {
  return [...$("policy").options].some((option) => option.value === model);
}

// The policy by its name alone, which is whatever version is current when the request comes, then pinned versions.
function choices({ name, default: chosen, versions }) {
  const usable = versions.filter((v) => USABLE.includes(v.state)).sort((a, b) => b.version - a.version);
  const pinned = usable.map(({ version, state, digest, lineage }) => {
    const option = new Option(`${name}@${version} · ${state}`, `${name}@${version}`);
    const from = Object.entries(lineage).map(([key, value]) => `${key} ${value}`);
    option.title = [`digest ${digest.slice(0, 12)}`, ...from].join(", ");
    return option;
  });
  return [new Option(`${name}, current`, name, chosen, chosen), ...pinned];
}

export function askToken(on) {
  $("token-form").hidden = !on;
  $("token-open").hidden = false;
  $("token-open").setAttribute("aria-expanded", String(on));
  if (on) $("token").focus();
}

// The API: errors, the token, one call with its server-sent events. Nothing here touches the document.

export class ApiError extends Error {
  // `problems`: [{field, got, allowed, hint}]; `retryAfter`: seconds, or null.
  constructor(message, { status = 0, problems = [], requestId = "", retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, problems, requestId, retryAfter });
  }
}

export function fault(message, field, got, allowed, hint = "") {
  return new ApiError(message, { problems: [{ field, got, allowed, hint }] });
}

const TOKEN = "burnish-token";

// The access token lives as long as the tab; an empty text forgets it.
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN)),
};

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const hint = "Check that burnish serve is still running, then try again.";
    throw fault("The server cannot be reached.", "connection", "no answer", "a running server", hint);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

// {policies: [{name, default, versions}], feedback: whether verdicts are stored}
export async function served() {
  return (await call("v1/policies")).json();
}

export async function judge(requestId, verdict) {
  const body = JSON.stringify({ request_id: requestId, verdict });
  await call("v1/feedback", { method: "POST", headers: { "content-type": "application/json" }, body });
}

// Send a form to /v1/refine; `tell(name, data)` gets each event before the last. Resolves with the reply.
export async function refine(form, { signal, tell }) {
  form.set("stream", "true");
  const response = await call("v1/refine", { method: "POST", body: form, signal });
  for await (const { name, data } of events(response.body)) {
    if (name === "done") return data;
    if (name === "error") throw refused(data, 0, null);
    tell(name, data);
  }
  const hint = "Try again; the same seed gives the same pixels.";
  throw fault("The connection ended before the image was ready.", "stream", "an early end", "a finished image", hint);
}

async function failure(response) {
  const after = Number.parseFloat(response.headers.get("retry-after"));
  const body = await response.json().catch(() => null);
  return refused(body, response.status, Number.isFinite(after) ? after : null);
}

function refused(body, status, retryAfter) {
  const entry = body?.error ?? {};
  const message = entry.message ?? `the server answered ${status}`;
  const problems = entry.problems ?? [];
  return new ApiError(message, { status, problems, requestId: entry.request_id ?? "", retryAfter });
}

async function* events(stream) {
  let entry = {};
  for await (const line of lines(stream)) {
    if (line.startsWith("event: ")) entry.name = line.slice(7);
    else if (line.startsWith("data: ")) entry.data = JSON.parse(line.slice(6));
    else if (!line && entry.name) {
      yield entry;
      entry = {};
    }
  }
}

// Lines may be megabytes long: pieces are joined once, when the end is there.
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = [];
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const [first, ...others] = part.value.split("\n");
      held.push(first);
      for (const piece of others) {
        yield held.join("");
        held = [piece];
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export function blobOf({ b64, mime }) {
  return new Blob([Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))], { type: mime });
}

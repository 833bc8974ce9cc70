// The API: errors, the token, one call with its server-sent events. Nothing here touches the document.
"use strict";

class ApiError extends Error {
  // `problems`: [{field, got, allowed, hint}]; `retryAfter`: seconds, or null.
  constructor(message, { status = 0, problems = [], requestId = "", retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, problems, requestId, retryAfter });
  }
}

const wire = {
  get token() { try { return sessionStorage.getItem("burnish-token") || ""; } catch { return wire.kept || ""; } },
  set token(text) {
    wire.kept = text;
    try { text ? sessionStorage.setItem("burnish-token", text) : sessionStorage.removeItem("burnish-token"); } catch { /* kept in memory */ }
  },

  async call(path, options = {}) {
    const headers = { ...options.headers };
    if (wire.token) headers.authorization = `Bearer ${wire.token}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The server cannot be reached.", { problems: [{ field: "connection", got: "no answer", allowed: "a running server", hint: "Check that burnish serve is still running, then try again." }] });
    }
    if (!response.ok) throw await failure(response);
    return response;
  },

  async policies() { return (await (await wire.call("v1/policies")).json()).policies; },

  // Whether feedback on this request can be stored: a body that says nothing is refused as 422 where it can.
  async takesFeedback(id) {
    try { await wire.feedback({ request_id: id }); } catch (error) { return error.status === 422; }
    return true;
  },

  async feedback(body) {
    const headers = { "content-type": "application/json" };
    await wire.call("v1/feedback", { method: "POST", headers, body: JSON.stringify(body) });
  },

  // Send a form to /v1/refine; `tell(name, data)` gets each event before the last. Resolves with the reply.
  async refine(form, { signal, tell }) {
    form.set("stream", "true");
    const response = await wire.call("v1/refine", { method: "POST", body: form, signal });
    if (!response.headers.get("content-type").startsWith("text/event-stream")) return response.json();
    for await (const { name, data } of events(response.body)) {
      if (name === "done") return data;
      if (name === "error") throw refused(data, 0, null);
      tell(name, data);
    }
    throw new ApiError("The connection ended before the image was ready.", { problems: [{ field: "stream", got: "an early end", allowed: "a finished image", hint: "Try again; the same seed gives the same pixels." }] });
  },
};

async function failure(response) {
  const after = Number.parseFloat(response.headers.get("retry-after"));
  const body = await response.json().catch(() => null);
  return refused(body, response.status, Number.isFinite(after) ? after : null);
}

function refused(body, status, retryAfter) {
  const entry = body?.error ?? {};
  const message = entry.message || `The server answered ${status || "with an error"}.`;
  return new ApiError(message, { status, problems: entry.problems ?? [], requestId: entry.request_id ?? "", retryAfter });
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const of = (key) => lines.filter((l) => l.startsWith(key)).map((l) => l.slice(key.length).trim()).join("\n");
        if (of("data:")) yield { name: of("event:") || "message", data: JSON.parse(of("data:")) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function blobOf({ b64, mime }) {
  return new Blob([Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))], { type: mime });
}

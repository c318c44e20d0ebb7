// Talks to Pipit. One function reads an endpoint; failures come as an Answer with a status, never as an exception.

// { viewers, looks_inside }; { refused } where the server does not want this page; null when nobody answered.
export async function session() {
  try {
    const response = await fetch("/demo/session.json", { cache: "no-store" });
    if (response.ok) return await response.json();
    const answer = await response.json();
    return response.status === 403 ? { refused: [answer.error, answer.hint].filter(Boolean).join(". ") } : null;
  } catch {
    return null;
  }
}

// { status, data, error }: status 0 means that nobody answered.
export async function read(token, pipe, parameters = {}, signal = undefined) {
  return send(token, `/v0/pipes/${pipe}.json?${new URLSearchParams(parameters)}`, { signal });
}

export async function send(token, url, { method = "GET", body, type, signal } = {}) {
  const headers = { Authorization: `Bearer ${token}` };
  if (type) headers["Content-Type"] = type;
  try {
    const response = await fetch(url, { method, body, headers, signal, cache: "no-store" });
    const answer = await response.json().catch(() => ({}));
    return { status: response.status, data: answer.data ?? null, error: answer.error ?? "" };
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    return { status: 0, data: null, error: "No answer" };
  }
}

// What runs for two viewers, for the admin token: { status, views, error }. An empty token: the workspace itself.
export async function lookInside(admin, pipe, parameters, tokens) {
  try {
    const response = await fetch("/demo/inspect", {
      method: "POST", cache: "no-store", headers: { Authorization: `Bearer ${admin}`, "Content-Type": "application/json" },
      body: JSON.stringify({ pipe, parameters, tokens }),
    });
    const answer = await response.json().catch(() => ({}));
    return { status: response.status, views: answer.views ?? null, error: answer.error ?? "" };
  } catch {
    return { status: 0, views: null, error: "No answer" };
  }
}

export function claims(token) {
  const bytes = Uint8Array.from(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

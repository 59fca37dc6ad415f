// Requests to the API. Addresses are relative, so that a reverse proxy may serve the console in a folder.

const STORED = "polycast-authorization";

export class ApiError extends Error {
  constructor(status, text, body = {}) {
    super(text);
    this.status = status;
    this.body = body;
  }
}

/** Credentials live as long as the tab. */
export const credentials = {
  get header() {
    return sessionStorage.getItem(STORED);
  },
  get user() {
    return sessionStorage.getItem(`${STORED}-user`) ?? "";
  },
  set(user, password, token) {
    const bytes = new TextEncoder().encode(`${user}:${password}`);
    sessionStorage.setItem(STORED, token ? `Bearer ${token}` : `Basic ${btoa(String.fromCharCode(...bytes))}`);
    sessionStorage.setItem(`${STORED}-user`, token ? "token" : user);
  },
  clear() {
    sessionStorage.removeItem(STORED);
    sessionStorage.removeItem(`${STORED}-user`);
  },
};

function headers(more) {
  const common = { Accept: "application/json", "Polycast-Console": "1", ...more };
  return credentials.header ? { ...common, Authorization: credentials.header } : common;
}

/** Make a request; throws ApiError, also if the server cannot be reached (status 0). */
export async function request(method, path, body, more = {}) {
  let response;
  try {
    response = await fetch(path, { method, body: body === undefined ? undefined : JSON.stringify(body), headers: headers(more) });
  } catch {
    throw new ApiError(0, "The server does not respond.");
  }
  if (!response.ok) {
    const found = await response.json().catch(() => ({}));
    throw new ApiError(response.status, found.error || `The server answered with status ${response.status}.`, found);
  }
  return response;
}

/** Return the JSON of a path. These requests are not logged: there are many. */
export const get = async (path) => (await request("GET", path, undefined, { "Polycast-Poll": "1" })).json();
export const getPicture = async (path) => (await request("GET", path, undefined, { "Polycast-Poll": "1" })).blob();
export const post = (path, body) => request("POST", path, body);
export const patch = (path, body) => request("PATCH", path, body);
export const remove = (path) => request("DELETE", path);

/** The name of a path in an address. */
export const encoded = (name) => name.split("/").map(encodeURIComponent).join("/");

/** Listen to events until `signal` is aborted: `onEvent(name, data)`, and `onState(isConnected)`. */
export async function listen(path, signal, onEvent, onState) {
  while (!signal.aborted) {
    try {
      const response = await fetch(path, { headers: headers({ Accept: "text/event-stream" }), signal });
      if (!response.ok) throw new Error(response.status);
      onState(true);
      await readEvents(response.body.pipeThrough(new TextDecoderStream()).getReader(), onEvent);
    } catch {
      if (signal.aborted) return;
    }
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

async function readEvents(reader, onEvent) {
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const name = /^event: (.*)$/m.exec(part);
      const data = /^data: (.*)$/m.exec(part);
      if (name && data) onEvent(name[1], JSON.parse(data[1]));
    }
  }
}

"use strict";

// Seconds between two requests, and how many values the graphs keep.
const INTERVAL = 2;
const REMEMBERED = 60;

// Display names of codecs with a different name in the API; the server's texts use the same names.
const CODECS = {
  MPEG4Audio: "AAC",
  MPEG2Audio: "MPEG audio",
  MPEG4Video: "MPEG-4 video",
  MPEG2Video: "MPEG-2 video",
  JPEG: "MJPEG",
  AC3: "AC-3",
  MPEGTS: "MPEG-TS",
};
// What the servers declare: their names by their lists in the API, and where a browser can play streams.
const SERVERS = JSON.parse(document.body.dataset.servers);
const PROTOCOLS = SERVERS.names;
const STATES = { read: "reading", publish: "publishing", idle: "idle" };

const state = { collections: [], history: new Map(), totals: new Map(), preview: null };

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function get(path) {
  const response = await fetch(path, { headers: { Accept: "application/json", "Polycast-Poll": "1" } });
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || `status ${response.status}`);
  return response.json();
}

function bitRate(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} Mbit/s`;
  if (value >= 1e3) return `${Math.round(value / 1e3)} kbit/s`;
  return `${Math.round(value)} bit/s`;
}

function age(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

// "rtspSession" as "RTSP session".
function words(type) {
  const begins = (name) => type.toLowerCase().startsWith(name.toLowerCase());
  // The next word begins with a capital letter: "rtspSession" is not one of RTSPS.
  const name = Object.values(PROTOCOLS).find((each) => begins(each) && /^([A-Z]|$)/.test(type.slice(each.length))) ?? "";
  const rest = type.slice(name.length).replace(/([A-Z])/g, " $1").toLowerCase().trim();
  return [name, rest].filter(Boolean).join(" ");
}

// The rate of a counter since the last request, in bits per second.
function rate(key, bytes, now) {
  const last = state.totals.get(key);
  state.totals.set(key, { bytes, now });
  if (!last || bytes < last.bytes || now <= last.now) return 0;
  return ((bytes - last.bytes) * 8000) / (now - last.now);
}

function remember(key, ...values) {
  const kept = state.history.get(key) || values.map(() => []);
  values.forEach((value, index) => {
    kept[index].push(value);
    if (kept[index].length > REMEMBERED) kept[index].shift();
  });
  state.history.set(key, kept);
  return kept;
}

function draw(canvas, lines) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = 140 * scale;
  canvas.height = 24 * scale;
  const context = canvas.getContext("2d");
  const top = Math.max(1, ...lines.flat());
  const style = getComputedStyle(document.documentElement);
  lines.forEach((values, index) => {
    context.beginPath();
    context.strokeStyle = style.getPropertyValue(index ? "--good" : "--accent");
    context.lineWidth = 1.5 * scale;
    values.forEach((value, place) => {
      const x = ((REMEMBERED - values.length + place) / (REMEMBERED - 1)) * canvas.width;
      const y = canvas.height - 2 - (value / top) * (canvas.height - 4);
      if (place) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.stroke();
  });
}

function fill(table, rows) {
  // On narrow screens, each cell is a line with the name of its column.
  const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  for (const cells of rows.map((made) => [...made.cells])) {
    cells.slice(0, -1).forEach((cell, index) => (cell.dataset.label = labels[index]));
  }
  const focused = document.activeElement?.title;
  table.tBodies[0].replaceChildren(...rows);
  if (focused) [...table.querySelectorAll("button")].find((found) => found.title === focused)?.focus();
  table.hidden = !rows.length;
  table.parentElement.querySelector(".none").hidden = rows.length > 0;
}

function row(cells) {
  const made = element("tr");
  for (const cell of cells) {
    if (cell instanceof Node) {
      const holder = element("td");
      holder.append(cell);
      made.append(holder);
    } else {
      made.append(element("td", cell.text, cell.className));
    }
  }
  return made;
}

const text = (value, className) => ({ text: value, className });
const number = (value) => ({ text: value, className: "number" });

function button(label, title, action) {
  const made = element("button", label);
  made.type = "button";
  made.title = title;
  made.addEventListener("click", action);
  return made;
}

function pathUrl(name) {
  return `${state.preview}/${name.split("/").map(encodeURIComponent).join("/")}/`;
}

function pathName(name, isPlayable) {
  if (!isPlayable) return text(name);
  const link = element("a", name);
  link.href = pathUrl(name);
  return link;
}

function pathState(path) {
  if (path.sourceReady) return path.online ? element("span", "ready", "pill ready") : element("span", "offline", "pill");
  return path.sourceFailure ? element("span", "failed", "pill failed") : element("span", "not ready", "pill");
}

// The publisher or source; for a source that failed, the reason, since when, and when it is retried.
function pathSource(path) {
  const failure = path.sourceFailure;
  if (failure) {
    const seconds = (moment) => Math.abs(Date.now() - Date.parse(moment)) / 1000;
    const next = failure.nextAttempt ? `, next attempt in ${Math.ceil(seconds(failure.nextAttempt))} s` : "";
    return text(`${failure.error} (for ${age(seconds(failure.since))}${next})`, "reason");
  }
  return text(path.source ? [words(path.source.type), path.source.id].filter(Boolean).join(" ") : "");
}

function pathRow(name, path, now, rates) {
  rates.incoming += rates.in = rate(`path in ${name}`, path.bytesReceived, now);
  rates.outgoing += rates.out = rate(`path out ${name}`, path.bytesSent, now);
  const graph = element("canvas");
  graph.title = "blue: in, green: out";
  graph.setAttribute("role", "img");
  graph.setAttribute("aria-label", `Bit rates of ${name}: in ${bitRate(rates.in)}, out ${bitRate(rates.out)}`);
  draw(graph, remember(name, rates.in, rates.out));
  const canPreview = state.preview && path.sourceReady;
  return row([
    pathName(name, canPreview),
    pathState(path),
    pathSource(path),
    text(path.tracks.map((codec) => CODECS[codec] ?? codec).join(", ")),
    number(path.readers.length),
    number(bitRate(rates.in)),
    number(bitRate(rates.out)),
    graph,
    text(String(path.packetsLost), path.packetsLost ? "number warn" : "number"),
    number(path.sourceReady ? age(path.uptime) : ""),
    canPreview ? button("Preview", `Preview ${name}`, () => preview(name)) : text(""),
  ]);
}

// A server that the stream of a path is sent to.
function forwardRow(forward, now) {
  const out = rate(`forward ${forward.id}`, forward.outboundBytes, now);
  const pill = { forwarding: "ready", error: "failed", idle: "" }[forward.state];
  const named = { forwarding: "sending", error: "failed", idle: "not ready" }[forward.state];
  return row([
    text(`→ ${forward.conf.dest}`, "forward"),
    element("span", named, `pill ${pill}`),
    text(forward.lastError, "reason"),
    ...["", "", ""].map(number),
    number(bitRate(out)),
    ...["", "", "", ""].map((empty) => text(empty)),
  ]);
}

// Ask before a client is disconnected: rows move, and it cannot be undone.
function confirmKick(collection, id, item) {
  const dialog = document.getElementById("confirm");
  const doing = { publish: "publishes to", read: "reads" }[item.state];
  const who = `${PROTOCOLS[collection.name] ?? collection.name} client ${item.remoteAddr ?? id}`;
  document.getElementById("confirm-text").textContent = doing ? `${who} ${doing} the path “${item.path}”.` : `${who} is idle.`;
  document.getElementById("confirm-no").onclick = () => dialog.close();
  document.getElementById("confirm-yes").onclick = async () => {
    dialog.close();
    const response = await fetch(`v1/${collection.name}/kick/${encodeURIComponent(id)}`, { method: "POST" });
    if (!response.ok && response.status !== 404) trouble(`The client could not be disconnected: status ${response.status}`);
    await refresh();
  };
  dialog.showModal();
}

function sessionRow(collection, id, item, now) {
  const key = `${collection.name} ${id}`;
  const kick = collection.canKick
    ? button("Disconnect", `Disconnect ${id}`, () => confirmKick(collection, id, item))
    : text("");
  const seconds = item.uptime ?? (Date.now() - Date.parse(item.created)) / 1000;
  return row([
    text(id),
    text(PROTOCOLS[collection.name] ?? collection.name),
    text(STATES[item.state] ?? item.state ?? ""),
    text(item.path ?? ""),
    text(item.remoteAddr ?? ""),
    text(item.user ?? ""),
    text(item.transport ?? ""),
    number(bitRate(rate(`${key} in`, item.bytesReceived ?? 0, now))),
    number(bitRate(rate(`${key} out`, item.bytesSent ?? 0, now))),
    text(String(item.packetsDropped ?? 0), item.packetsDropped ? "number warn" : "number"),
    number(item.roundTrip == null ? "" : `${Math.round(item.roundTrip * 1000)} ms`),
    number(age(seconds)),
    kick,
  ]);
}

function preview(name) {
  document.getElementById("preview-title").textContent = `Preview of ${name}`;
  document.getElementById("preview-frame").src = pathUrl(name);
  document.getElementById("preview").hidden = false;
}

function trouble(message) {
  const box = document.getElementById("trouble");
  box.textContent = message;
  box.hidden = !message;
}

async function refresh() {
  try {
    const now = Date.now();
    const [paths, status] = await Promise.all([get("v1/paths/list"), get("v1/config/status")]);
    const names = Object.keys(paths.items).sort();
    const rates = { incoming: 0, outgoing: 0 };
    const pathRows = names.flatMap((name) => [
      pathRow(name, paths.items[name], now, rates),
      ...paths.items[name].forwards.map((forward) => forwardRow(forward, now)),
    ]);
    fill(document.getElementById("paths"), pathRows);
    const rows = [];
    for (const collection of state.collections) {
      const list = await get(`v1/${collection.name}/list`).catch(() => ({ items: {} }));
      for (const [id, item] of Object.entries(list.items)) rows.push(sessionRow(collection, id, item, now));
    }
    fill(document.getElementById("sessions"), rows);
    const ready = names.filter((name) => paths.items[name].sourceReady).length;
    const show = (key, value) => (document.getElementById(key).textContent = value);
    show("summary", `${ready} of ${names.length} paths ready, ${rows.length} sessions`);
    show("total-paths", `${ready} / ${names.length}`);
    show("total-sessions", rows.length);
    show("total-in", bitRate(rates.incoming));
    show("total-out", bitRate(rates.outgoing));
    show("file", status.file ? `Configuration: ${status.file}` : "No configuration file");
    trouble(status.ok ? "" : `The last configuration change was rejected: ${status.error}`);
  } catch (error) {
    trouble(`The server does not respond: ${error.message}`);
  }
}

async function start() {
  document.getElementById("preview-close").addEventListener("click", () => {
    document.getElementById("preview").hidden = true;
    document.getElementById("preview-frame").src = "about:blank";
  });
  try {
    const api = await get("v1/openapi.json");
    if (SERVERS.preview) state.preview = `${SERVERS.preview.scheme}://${location.hostname}:${SERVERS.preview.port}`;
    state.collections = Object.keys(api.paths)
      .map((path) => /^\/v1\/([a-z]+)\/list$/.exec(path))
      .filter((match) => match && match[1] !== "paths")
      .map((match) => ({ name: match[1], canKick: `/v1/${match[1]}/kick/{id}` in api.paths }));
  } catch (error) {
    trouble(`The server does not respond: ${error.message}`);
  }
  for (;;) {
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, INTERVAL * 1000));
  }
}

start();

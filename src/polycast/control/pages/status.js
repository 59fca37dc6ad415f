"use strict";

// Seconds between two looks, and how many values the graphs keep.
const INTERVAL = 2;
const REMEMBERED = 60;

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

// The rate of a growing counter since the last look, in bits per second.
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
  table.tBodies[0].replaceChildren(...rows);
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

function pathRow(name, path, now) {
  const incoming = rate(`path in ${name}`, path.bytesReceived, now);
  const outgoing = rate(`path out ${name}`, path.bytesSent, now);
  const graph = element("canvas");
  graph.title = "blue: in, green: out";
  draw(graph, remember(name, incoming, outgoing));
  const source = path.source ? [path.source.type, path.source.id].filter(Boolean).join(" ") : "";
  const canPreview = state.preview && path.sourceReady;
  return row([
    text(name),
    text(path.sourceReady ? "ready" : "not ready", path.sourceReady ? "ready" : ""),
    text(source),
    text(path.tracks.join(", ")),
    number(path.readers.length),
    number(bitRate(incoming)),
    number(bitRate(outgoing)),
    graph,
    text(String(path.packetsLost), path.packetsLost ? "number warn" : "number"),
    number(path.sourceReady ? age(path.uptime) : ""),
    canPreview ? button("Preview", `Preview ${name}`, () => preview(name)) : text(""),
  ]);
}

function sessionRow(collection, id, item, now) {
  const key = `${collection.name} ${id}`;
  const kick = collection.canKick
    ? button("Kick", `Disconnect ${id}`, async () => {
        const response = await fetch(`v1/${collection.name}/kick/${encodeURIComponent(id)}`, { method: "POST" });
        if (!response.ok && response.status !== 404) trouble(`Kicking failed: status ${response.status}`);
        await refresh();
      })
    : text("");
  const seconds = item.uptime ?? (Date.now() - Date.parse(item.created)) / 1000;
  return row([
    text(id),
    text(collection.name),
    text(item.state ?? ""),
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
  const url = `${state.preview}/${name.split("/").map(encodeURIComponent).join("/")}/`;
  document.getElementById("preview-title").textContent = `Preview of ${name}`;
  document.getElementById("preview-frame").src = url;
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
    fill(document.getElementById("paths"), names.map((name) => pathRow(name, paths.items[name], now)));
    const rows = [];
    for (const collection of state.collections) {
      const list = await get(`v1/${collection.name}/list`).catch(() => ({ items: {} }));
      for (const [id, item] of Object.entries(list.items)) rows.push(sessionRow(collection, id, item, now));
    }
    fill(document.getElementById("sessions"), rows);
    const ready = names.filter((name) => paths.items[name].sourceReady).length;
    document.getElementById("summary").textContent =
      `${ready} of ${names.length} paths ready, ${rows.length} sessions`;
    trouble(status.ok ? "" : `The last change of the configuration was refused: ${status.error}`);
  } catch (error) {
    trouble(`The server does not answer: ${error.message}`);
  }
}

// The streaming server that a browser can play from, if it runs on a port that is known.
function previewAddress(configuration) {
  const port = Number(configuration.hlsAddress.split(":").pop());
  if (configuration.hlsDisable || !port) return null;
  return `${configuration.hlsEncryption ? "https" : "http"}://${location.hostname}:${port}`;
}

async function start() {
  document.getElementById("preview-close").addEventListener("click", () => {
    document.getElementById("preview").hidden = true;
    document.getElementById("preview-frame").src = "about:blank";
  });
  try {
    const [api, configuration] = await Promise.all([get("v1/openapi.json"), get("v1/config/get")]);
    state.preview = previewAddress(configuration);
    state.collections = Object.keys(api.paths)
      .map((path) => /^\/v1\/([a-z]+)\/list$/.exec(path))
      .filter((match) => match && match[1] !== "paths")
      .map((match) => ({ name: match[1], canKick: `/v1/${match[1]}/kick/{id}` in api.paths }));
  } catch (error) {
    trouble(`The server does not answer: ${error.message}`);
  }
  for (;;) {
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, INTERVAL * 1000));
  }
}

start();

// One stream: player, tracks, source, readers, addresses, and its last hour.

import { addressesOf, recordingsOf } from "./addresses.js";
import { encoded, get } from "./api.js";
import { causesOf } from "./causes.js";
import { chart } from "./chart.js";
import { listClients } from "./clients.js";
import { codecDetails, codecName } from "./codecs.js";
import { copy, dialog, empty } from "./dialogs.js";
import { h, icon, render } from "./dom.js";
import { bitRate, count, duration, milliseconds, number, since, size, words } from "./format.js";
import { failureOf, sourceOf, stateOf, statePill } from "./paths.js";
import { makePlayer, playerView } from "./player.js";
import { qrCode } from "./qr.js";
import { rate } from "./rates.js";
import { clientTable } from "./sessions.js";
import { picture } from "./streams.js";
import { showPicture } from "./thumbnails.js";

const HISTORY_MILLISECONDS = 10000;
const SAMPLES = 360;

export function streamPage({ root, argument: name, status }) {
  const found = { path: null, details: null, history: null, clients: [], read: 0 };
  const player = makePlayer(name, () => draw());

  const refresh = async () => {
    const address = encoded(name);
    const isHistoryOld = Date.now() - found.read > HISTORY_MILLISECONDS;
    try {
      const wanted = [get(`v1/paths/get/${address}`), get(`v3/paths/get/${address}`), isHistoryOld ? get(`v1/paths/history/${address}`) : found.history, listClients(status().servers, Date.now())];
      [found.path, found.details, found.history, found.clients] = await Promise.all(wanted);
      if (isHistoryOld) found.read = Date.now();
    } catch (error) {
      if (error.status !== 404) throw error;
      found.path = null;
    }
    if (root.isConnected) draw();
  };
  const draw = () => {
    const { path } = found;
    if (path === null) {
      render(root, head(name), empty("There is no such stream at the moment.", "It appears here when somebody publishes to it."));
      return;
    }
    const { servers } = status();
    const now = Date.now();
    const rates = { in: rate(`in ${name}`, path.bytesReceived, now), out: rate(`out ${name}`, path.bytesSent, now) };
    const causes = causesOf(path, found.history, rate(`dropped ${name}`, path.packetsDropped, now));
    const readers = found.clients.filter((client) => client.path === name && client.state === "read");
    const publisher = found.clients.find((client) => client.path === name && client.state === "publish");
    render(
      root,
      head(name, statePill(path)),
      failureOf(path) && h("p", { class: "problem", role: "status" }, failureOf(path)),
      causes.length > 0 && causesView(causes),
      h(
        "div",
        { class: "columns" },
        playerView(player, name, servers, picture(name, path, status()), !path.sourceReady),
        facts(name, path, publisher, rates, found.history, status()),
      ),
      h("section", { class: "panel" }, h("h2", {}, "Tracks"), tracks(path, found.details)),
      h("section", { class: "panel" }, h("h2", {}, "Last hour"), graphs(found.history)),
      h("section", { class: "panel" }, h("h2", {}, "Readers"), readersView(path, readers, servers, refresh)),
      h("section", { class: "panel" }, h("h2", {}, "Addresses"), addressList(addressesOf(servers, name), name)),
    );
    for (const image of root.querySelectorAll("img[data-wanted]")) if (image.dataset.path === undefined) showPicture(image, image.dataset.wanted);
  };
  return { title: name, refresh, leave: () => player.stop() };
}

const head = (name, pill) => h("div", { class: "head" }, h("p", { class: "crumbs" }, h("a", { href: "#/streams" }, "Streams")), h("h1", {}, name), pill);

const causesView = (causes) =>
  h(
    "section",
    { class: "attention", "aria-label": "What may spoil the picture" },
    h("h2", {}, icon("M12 3l10 18H2zM12 10v5M12 18v.5"), "What may spoil the picture"),
    h("ul", {}, causes.map(([title, text]) => h("li", {}, h("b", {}, title), " ", h("span", {}, text)))),
  );

function facts(name, path, publisher, rates, history, status) {
  const names = status.servers.map((server) => server.name);
  const recordings = recordingsOf(status, name);
  const rows = [
    ["State", path.sourceReady ? (path.online ? `Live for ${duration(path.uptime)}` : "A slate is shown until somebody publishes") : stateOf(path)[1]],
    ["Source", h("span", { class: "wrap" }, sourceOf(path, names))],
    publisher && ["Published by", h("span", { class: "wrap" }, [publisher.address, publisher.user, publisher.program].filter(Boolean).join(" · "))],
    path.sourceFailure && ["Last error", h("span", { class: "reason wrap" }, path.sourceFailure.error)],
    path.sourceFailure?.nextAttempt && ["Next attempt", `in ${duration(Math.ceil(Math.max(0, -since(path.sourceFailure.nextAttempt))))}`],
    ["In", path.sourceReady ? `${bitRate(rates.in)}, ${size(path.bytesReceived)} in all` : size(path.bytesReceived)],
    ["Out", `${bitRate(rates.out)}, ${size(path.bytesSent)} in all`],
    path.sourceReady && history?.longestDelivery && ["Delay here", `up to ${milliseconds(history.longestDelivery)} in the last minute`],
    ["Lost", count(path.packetsLost, "packet")],
    ["Dropped", `${count(path.packetsDropped, "packet")} for slow readers`],
    ["Configured as", h("code", {}, path.confName)],
    ...path.forwards.map((forward) => ["Forwarded to", h("span", { class: forward.state === "error" ? "reason wrap" : "wrap" }, `${forward.conf.dest} ${forward.lastError}`)]),
  ].filter(Boolean);
  return h(
    "section",
    { class: "panel facts", "aria-label": "Facts" },
    h("dl", {}, rows.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])),
    recordings && h("p", {}, h("a", { class: "button", id: "recordings", href: recordings }, "Recordings")),
  );
}

function tracks(path, details) {
  if (!path.trackDetails.length) return h("p", { class: "faint" }, "The tracks are known once the stream is live.");
  return h(
    "table",
    { class: "stacked" },
    h("thead", {}, h("tr", {}, ["Codec", "Kind", "Details"].map((column) => h("th", { scope: "col" }, column)), ["Received", "Lost"].map((column) => h("th", { scope: "col", class: "number" }, column)))),
    h(
      "tbody",
      {},
      path.trackDetails.map((track, index) =>
        h(
          "tr",
          {},
          h("th", { scope: "row", "data-label": "Codec" }, codecName(track.codec)),
          h("td", { "data-label": "Kind" }, { video: "Picture", audio: "Sound" }[track.kind] ?? "Data"),
          h("td", { "data-label": "Details", class: "wide" }, codecDetails(details?.tracks2[index]?.codecProps) || h("span", { class: "faint" }, `clock of ${number(track.clockRate)} Hz`)),
          h("td", { class: "number wide", "data-label": "Received" }, `${size(track.bytesReceived)}, ${number(track.packetsReceived)} packets`),
          h("td", { class: "number wide", "data-label": "Lost" }, h("span", { class: track.packetsLost ? "warn" : undefined }, number(track.packetsLost))),
        ),
      ),
    ),
  );
}

function graphs(history) {
  if (!history || !history.bitRate.length) return h("p", { class: "faint" }, "A value is added every ten seconds.");
  const common = { seconds: history.interval, capacity: SAMPLES };
  const one = (title, values, format, colour) => chart({ ...common, title, format, series: [{ name: title, values, colour }] });
  return h(
    "div",
    { class: "graphs" },
    chart({ ...common, title: "Bit rate", format: bitRate, series: [{ name: "in", values: history.bitRate, colour: "blue" }, { name: "out", values: history.bitRateOut, colour: "green" }] }),
    one("Pictures per second", history.frameRate, (value) => value.toFixed(1), "violet"),
    one("Between key frames", history.keyFrameInterval.map((value) => value || null), (value) => (value < 1 ? milliseconds(value) : `${value.toFixed(1)} s`), "amber"),
    one("Lost packets", history.packetsLost, (value) => number(Math.round(value)), "red"),
    one("Readers", history.readers, (value) => number(Math.round(value)), "green"),
  );
}

function readersView(path, readers, servers, refresh) {
  const protocols = new Map();
  for (const reader of readers) protocols.set(reader.protocol, [...(protocols.get(reader.protocol) ?? []), reader]);
  const names = servers.map((server) => server.name);
  const internal = path.readers.map((reader) => reader.type).filter((type) => !/(session|conn)$/i.test(type));
  const totals = [...protocols].map(([protocol, its]) => {
    const delays = its.map((reader) => reader.roundTrip).filter((value) => value !== null);
    const delay = delays.length ? `, round trip up to ${milliseconds(Math.max(...delays))}` : "";
    const dropped = its.reduce((sum, reader) => sum + reader.dropped, 0);
    return h("li", { key: protocol }, h("b", {}, `${its.length} × ${protocol}`), h("span", { class: "faint" }, `${delay}, ${count(dropped, "packet")} dropped`));
  });
  return [
    totals.length > 0 && h("ul", { class: "totals" }, totals),
    readers.length > 0 ? clientTable(readers, refresh, { hasPath: false }) : h("p", { class: "faint" }, "Nobody reads this stream at the moment."),
    internal.length > 0 && h("p", { class: "faint" }, `Also inside the server: ${internal.map((type) => words(type, names)).join(", ")}.`),
  ];
}

function addressList(addresses, name) {
  if (!addresses.length) return h("p", { class: "faint" }, "No server is enabled that streams can be read from.");
  return h(
    "ul",
    { class: "addresses" },
    addresses.map(({ name: title, url, isPage }) =>
      h(
        "li",
        { key: title },
        h("span", { class: "title" }, title),
        isPage ? h("a", { class: "url", href: url, target: "_blank", rel: "noopener" }, url) : h("code", { class: "url" }, url),
        h("button", { type: "button", class: "small", "aria-label": `Copy the address for ${title}`, onclick: () => copy(url) }, "Copy"),
        h("button", { type: "button", class: "small", "data-qr": title, "aria-label": `QR code of the address for ${title}`, onclick: () => showQr(`${name}: ${title}`, url) }, "QR code"),
      ),
    ),
  );
}

function showQr(title, url) {
  const modules = qrCode(url);
  dialog(title, (close) => [
    modules ? qrPicture(modules, url) : h("p", {}, "The address is too long for a QR code."),
    h("p", { class: "wrap" }, h("code", {}, url)),
    location.hostname === "localhost" || location.hostname.startsWith("127.") ? h("p", { class: "faint" }, "Only for this machine: open the console under the machine’s name or address to get one for others.") : null,
    h("p", { class: "buttons" }, h("button", { type: "button", class: "primary", autofocus: true, onclick: () => close() }, "Close")),
  ]);
}

function qrPicture(modules, url) {
  const outline = modules.flatMap((row, y) => row.map((isDark, x) => (isDark ? `M${x + 4} ${y + 4}h1v1h-1z` : ""))).join("");
  const edge = modules.length + 8;
  return h("svg", { class: "qr", viewBox: `0 0 ${edge} ${edge}`, role: "img", "aria-label": `QR code of ${url}`, "shape-rendering": "crispEdges" }, h("rect", { width: edge, height: edge, class: "paper" }), h("path", { d: outline, class: "ink" }));
}

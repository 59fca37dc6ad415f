// What the server does and needs, and what needs attention.

import { get } from "./api.js";
import { chart } from "./chart.js";
import { h, icon, render } from "./dom.js";
import { bitRate, count, duration, milliseconds, number, since, size } from "./format.js";
import { failureOf, linkTo } from "./paths.js";
import { rate } from "./rates.js";

const HISTORY_MILLISECONDS = 10000;
const SAMPLES = 360;
const LOW_DISK = 0.05;
const HIGH_LAG_SECONDS = 0.2;
// The start itself takes longer than that.
const STARTED_SECONDS = 70;

export function overviewPage({ root, status }) {
  const found = { paths: {}, configuration: null, history: null, read: 0 };
  const refresh = async () => {
    const isHistoryOld = Date.now() - found.read > HISTORY_MILLISECONDS;
    const [paths, configuration, history] = await Promise.all([get("v1/paths/list"), get("v1/config/status"), isHistoryOld ? get("v1/server/history") : found.history]);
    Object.assign(found, { paths: paths.items, configuration, history });
    if (isHistoryOld) found.read = Date.now();
    if (root.isConnected) draw();
  };
  const draw = () => {
    const server = status();
    const now = Date.now();
    const totals = { live: 0, readers: 0, in: 0, out: 0 };
    for (const [name, path] of Object.entries(found.paths)) {
      totals.live += path.sourceReady ? 1 : 0;
      totals.readers += path.readers.filter((reader) => reader.id).length;
      totals.in += rate(`in ${name}`, path.bytesReceived, now);
      totals.out += rate(`out ${name}`, path.bytesSent, now);
    }
    const busy = rate("cpu", server.cpu, now);
    const cpu = busy === null ? null : busy / 8; // the counter is in seconds, not in bytes
    const known = (value) => (cpu === null ? null : value);
    const disk = server.disks.toSorted((a, b) => a.free / a.total - b.free / b.total)[0];
    render(
      root,
      h("div", { class: "head" }, h("h1", {}, "Overview"), h("p", { class: "faint" }, `Polycast ${server.version}, running for ${duration(server.uptime)}`)),
      attention(found, server),
      h(
        "ul",
        { class: "tiles" },
        tile("Streams live", h("a", { href: "#/streams" }, `${totals.live}`), `of ${Object.keys(found.paths).length}`, "live"),
        tile("Readers", h("a", { href: "#/sessions" }, number(totals.readers)), "connected", "read"),
        tile("In", bitRate(known(totals.in)), "from publishers", "blue"),
        tile("Out", bitRate(known(totals.out)), "to readers", "green"),
        tile("CPU", cpu === null ? "–" : `${(cpu * 100).toFixed(cpu < 0.1 ? 1 : 0)} %`, "of one core", "violet"),
        tile("Memory", server.memory === null ? "–" : size(server.memory), "resident", "amber"),
        tile("Loop lag", milliseconds(server.loopLag), `up to ${milliseconds(server.loopLagMaximum)} in a minute`, isLagging(server) ? "red" : "green"),
        disk && tile("Disk", `${size(disk.free)} free`, `for ${disk.purpose}, ${Math.round((1 - disk.free / disk.total) * 100)} % used`, disk.free / disk.total < LOW_DISK ? "red" : "blue"),
      ),
      h("section", { class: "panel" }, h("h2", {}, "Last hour"), graphs(found.history)),
      h(
        "div",
        { class: "columns even" },
        h("section", { class: "panel" }, h("h2", {}, "Server"), about(server, found.configuration)),
        h("section", { class: "panel" }, h("h2", {}, "Protocols"), protocols(server)),
      ),
      server.disks.length > 1 && h("section", { class: "panel" }, h("h2", {}, "Disks"), disks(server.disks)),
    );
  };
  return { title: "Overview", refresh };
}

const isLagging = (server) => server.uptime > STARTED_SECONDS && server.loopLagMaximum > HIGH_LAG_SECONDS;

const tile = (title, value, note, colour) => h("li", { class: `tile ${colour}` }, h("span", { class: "name" }, title), h("strong", {}, value), h("span", { class: "faint" }, note));

/** What somebody should look at: settings that were refused, sources that fail, full disks, a loop that lags. */
function attention({ paths, configuration }, server) {
  const problems = [];
  if (!configuration.ok) problems.push(["The last change of the configuration was refused.", configuration.error]);
  for (const [name, path] of Object.entries(paths)) if (path.sourceFailure) problems.push([h("a", { href: linkTo(name) }, name), failureOf(path)]);
  for (const disk of server.disks) if (disk.free / disk.total < LOW_DISK) problems.push([`The disk for ${disk.purpose} is nearly full.`, `${size(disk.free)} are free in ${disk.folder}.`]);
  if (isLagging(server)) problems.push(["The event loop lags.", `Up to ${milliseconds(server.loopLagMaximum)} in the last minute: the processor has too much to do.`]);
  if (!problems.length) return null;
  const shown = problems.slice(0, 10);
  return h(
    "section",
    { class: "attention", "aria-label": "Needs attention" },
    h("h2", {}, icon("M12 3l10 18H2zM12 10v5M12 18v.5"), count(problems.length, "thing needs", "things need"), " attention"),
    h("ul", {}, shown.map(([title, text]) => h("li", {}, h("b", {}, title), " ", h("span", {}, text)))),
    problems.length > shown.length && h("p", {}, `${problems.length - shown.length} more.`),
  );
}

function graphs(history) {
  if (!history || !history.cpu.length) return h("p", { class: "faint" }, "A value is added every ten seconds.");
  const common = { seconds: history.interval, capacity: SAMPLES };
  return h(
    "div",
    { class: "graphs" },
    chart({ ...common, title: "Traffic", format: bitRate, series: [{ name: "in", values: history.bitRate, colour: "blue" }, { name: "out", values: history.bitRateOut, colour: "green" }] }),
    chart({ ...common, title: "CPU", format: (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`, series: [{ name: "CPU", values: history.cpu, colour: "violet" }] }),
    chart({ ...common, title: "Loop lag", format: milliseconds, series: [{ name: "longest lag", values: history.loopLag, colour: "amber" }] }),
  );
}

function about(server, configuration) {
  const changed = { start: "at the start", file: "from the file", api: "through the API", signal: "by a signal", program: "by the program" }[configuration.source];
  const rows = [
    ["Version", `Polycast ${server.version}`],
    ["Configuration", configuration.file ? h("code", { class: "wrap" }, configuration.file) : "no file: defaults and environment variables"],
    ["Dialect", server.dialect],
    ["Last change", configuration.ok ? `${changed}, ${duration(since(configuration.time))} ago` : h("span", { class: "reason" }, `refused: ${configuration.error}`)],
    ["Changes here", configuration.persist ? "are written into the file" : "last until the server stops (apiPersist is off)"],
    ["Python", `${server.python} on ${server.system}`],
  ];
  return h("dl", {}, rows.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
}

function protocols({ servers }) {
  return h(
    "ul",
    { class: "protocols" },
    servers.map((each) => h("li", { class: each.isRunning ? "on" : "off", key: each.name }, h("b", {}, each.name), h("span", {}, each.isRunning ? (each.address ? `${each.address.scheme}, port ${each.address.port}` : "on") : "off"))),
  );
}

function disks(items) {
  return h(
    "ul",
    { class: "disks" },
    items.map((disk) => h("li", { key: `${disk.purpose} ${disk.folder}` }, h("code", {}, disk.folder), h("meter", { min: 0, max: disk.total, value: disk.total - disk.free, high: disk.total * (1 - LOW_DISK), "aria-label": `Used of the disk for ${disk.purpose}` }), h("span", { class: "faint" }, `${size(disk.free)} of ${size(disk.total)} free, for ${disk.purpose}`))),
  );
}

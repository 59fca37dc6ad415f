// All streams, as cards or as a table.

import { get } from "./api.js";
import { sparkline } from "./chart.js";
import { empty } from "./dialogs.js";
import { h, icon, render } from "./dom.js";
import { bitRate, count, duration } from "./format.js";
import { codecsOf, failureOf, linkTo, sourceOf, stateOf, statePill } from "./paths.js";
import { rate, remembered } from "./rates.js";
import { showPicture } from "./thumbnails.js";

const PAGE_SIZE = 60;
const FILTERS = [["", "All"], ["live", "Live"], ["failed", "Failed"], ["waiting", "Waiting"]];
const STORED = "polycast-view";

export function streamsPage({ root, status }) {
  const view = { search: "", state: "", limit: PAGE_SIZE, isTable: localStorage.getItem(STORED) === "table" };
  let paths = {};
  let now = Date.now();

  const measure = () => {
    now = Date.now();
    for (const [name, path] of Object.entries(paths)) {
      path.rateIn = rate(`in ${name}`, path.bytesReceived, now);
      path.rateOut = rate(`out ${name}`, path.bytesSent, now);
      path.series = [
        { name: "in", colour: "blue", values: remembered(`in ${name}`, path.rateIn) },
        { name: "out", colour: "green", values: remembered(`out ${name}`, path.rateOut) },
      ];
    }
  };
  const draw = () => {
    const names = Object.keys(paths).sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const found = names.filter((name) => isFound(name, paths[name], view));
    const serverNames = (status()?.servers ?? []).map((server) => server.name);
    const made = found.slice(0, view.limit).map((name) => [name, paths[name]]);
    render(
      root,
      h("div", { class: "head" }, h("h1", {}, "Streams"), h("p", { class: "faint", role: "status" }, summary(names, found, paths))),
      toolbar(view, draw),
      !names.length && empty("There are no streams yet.", "A stream appears here when somebody publishes to this server, or when a path with a source is added to the configuration."),
      names.length > 0 && !found.length && empty("No stream matches."),
      found.length > 0 && (view.isTable ? table(made, serverNames) : h("ul", { class: "cards" }, made.map(([name, path]) => card(name, path, status())))),
      found.length > view.limit && h("p", { class: "more" }, h("button", { type: "button", onclick: () => ((view.limit += PAGE_SIZE), draw()) }, `Show more (${found.length - view.limit} left)`)),
    );
    for (const image of root.querySelectorAll("img[data-wanted]")) if (image.dataset.path === undefined) showPicture(image, image.dataset.wanted);
  };
  return {
    title: "Streams",
    async refresh() {
      paths = (await get("v1/paths/list")).items;
      measure();
      if (root.isConnected) draw();
    },
  };
}

function isFound(name, path, { search, state }) {
  const text = `${name} ${path.tracks.join(" ")} ${path.conf.source}`.toLowerCase();
  return (!state || stateOf(path)[0] === state) && search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function summary(names, found, paths) {
  const live = names.filter((name) => paths[name].sourceReady).length;
  const matching = found.length === names.length ? "" : `, ${found.length} shown`;
  return `${live} of ${count(names.length, "stream")} live${matching}`;
}

function toolbar(view, draw) {
  const change = (values) => {
    Object.assign(view, values, { limit: PAGE_SIZE });
    draw();
  };
  const show = (isTable) => {
    localStorage.setItem(STORED, isTable ? "table" : "cards");
    change({ isTable });
  };
  return h(
    "div",
    { class: "toolbar" },
    h("input", { type: "search", "aria-label": "Search streams", placeholder: "Search", value: view.search, oninput: (event) => change({ search: event.target.value }) }),
    h("div", { class: "switch", role: "group", "aria-label": "State" }, FILTERS.map(([state, text]) => h("button", { type: "button", "aria-pressed": String(view.state === state), onclick: () => change({ state }) }, text))),
    h(
      "div",
      { class: "switch", role: "group", "aria-label": "View" },
      h("button", { type: "button", "aria-pressed": String(!view.isTable), onclick: () => show(false) }, "Cards"),
      h("button", { type: "button", "aria-pressed": String(view.isTable), onclick: () => show(true) }, "Table"),
    ),
  );
}

/** The picture of a stream, or a placeholder. */
export function picture(name, path, status) {
  const isShown = path.sourceReady && status?.hasThumbnails;
  return h(
    "div",
    { class: "picture", key: `${name} ${Boolean(isShown)}` },
    icon(path.sourceReady ? "M3 6h12v12H3zM15 10l6-3v10l-6-3z" : "M3 6h12v12H3zM15 10l6-3v10l-6-3zM2 3l20 18"),
    isShown && h("img", { alt: "", "data-wanted": name, opaque: true, width: 480, height: 270 }),
  );
}

// Readers inside the server have no id.
const clientsOf = (path) => path.readers.filter((reader) => reader.id).length;

function card(name, path, status) {
  const failure = failureOf(path);
  return h(
    "li",
    { class: `card ${stateOf(path)[0]}`, key: name },
    picture(name, path, status),
    h("div", { class: "over" }, statePill(path), clientsOf(path) > 0 && h("span", { class: "pill watched" }, count(clientsOf(path), "reader"))),
    h(
      "div",
      { class: "text" },
      h("h2", {}, h("a", { href: linkTo(name) }, name)),
      failure ? h("p", { class: "reason" }, failure) : h("p", { class: "faint" }, [codecsOf(path), path.sourceReady ? duration(path.uptime) : sourceOf(path, (status?.servers ?? []).map((server) => server.name))].filter(Boolean).join(" · ")),
      path.sourceReady &&
        h("div", { class: "traffic" }, sparkline(path.series, `Bit rates of ${name}: in ${bitRate(path.rateIn)}, out ${bitRate(path.rateOut)}`), h("span", { class: "blue" }, `↓ ${bitRate(path.rateIn)}`), h("span", { class: "green" }, `↑ ${bitRate(path.rateOut)}`)),
      path.forwards.map((forward) => h("p", { class: forward.state === "error" ? "reason" : "faint", key: forward.id }, `→ ${forward.conf.dest} ${forward.state === "error" ? forward.lastError : ""}`)),
    ),
  );
}

function table(paths, serverNames) {
  const columns = ["Stream", "State", "Source", "Tracks", "Readers", "In", "Out", "Lost", "Since"];
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Streams" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, columns.map((column, index) => h("th", { scope: "col", class: index > 3 ? "number" : undefined }, column)))),
      h(
        "tbody",
        {},
        paths.map(([name, path]) =>
          h(
            "tr",
            { key: name },
            h("th", { scope: "row" }, h("a", { href: linkTo(name) }, name)),
            h("td", {}, statePill(path)),
            h("td", { class: path.sourceFailure ? "reason" : undefined }, failureOf(path) || sourceOf(path, serverNames)),
            h("td", {}, codecsOf(path)),
            h("td", { class: "number" }, clientsOf(path)),
            h("td", { class: "number" }, bitRate(path.rateIn)),
            h("td", { class: "number" }, bitRate(path.rateOut)),
            h("td", { class: path.packetsLost ? "number warn" : "number" }, path.packetsLost),
            h("td", { class: "number" }, path.sourceReady ? duration(path.uptime) : ""),
          ),
        ),
      ),
    ),
  );
}

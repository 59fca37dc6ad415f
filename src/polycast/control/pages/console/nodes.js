// The machines of a cluster, and the processes of this server.

import { get, post } from "./api.js";
import { confirm, empty, notify } from "./dialogs.js";
import { h, render } from "./dom.js";
import { bitRate, count, milliseconds, number, size } from "./format.js";
import { linkTo } from "./paths.js";
import { rate } from "./rates.js";

const SHOWN_PATHS = 200;

export function nodesPage({ root, status }) {
  return {
    title: "Nodes",
    async refresh() {
      const { nodes, workers } = status();
      const now = Date.now();
      const paths = nodes.length ? await get(`v3/nodes/paths?itemsPerPage=${SHOWN_PATHS}`) : { items: [], itemCount: 0 };
      const parts = [nodes.length && count(nodes.length, "server"), workers.length && count(workers.length, "worker process", "worker processes")];
      render(
        root,
        h("div", { class: "head" }, h("h1", {}, "Nodes"), h("p", { class: "faint" }, parts.filter(Boolean).join(", "))),
        !nodes.length && !workers.length && empty("This server is alone, and one process."),
        nodes.length > 0 && h("section", { class: "panel" }, h("h2", {}, "Servers of the cluster"), nodeTable(nodes, this)),
        paths.items.length > 0 && h("section", { class: "panel" }, h("h2", {}, "Published paths"), pathTable(paths)),
        workers.length > 0 && h("section", { class: "panel" }, h("h2", {}, "Workers of this server"), workerTable(workers, now)),
      );
    },
  };
}

/** Drain a server after confirmation, or let it accept publishers again. */
async function drain(node, page) {
  const wish = node.isDraining ? "resume" : "drain";
  const text = "It accepts no new publishers, and its sources move to other servers. Connected clients stay. You can undo this.";
  if (!node.isDraining && !(await confirm(`Drain the server “${node.name}”?`, text, "Drain"))) return;
  try {
    await post(`v3/nodes/${wish}/${encodeURIComponent(node.name)}`);
    notify(node.isDraining ? `${node.name} accepts publishers again.` : `${node.name} is draining.`);
  } catch (error) {
    notify(`${node.name}: the request failed: ${error.message}`, true);
  }
  await page.refresh();
}

/** A table; `columns` are names with functions that make the cells of a row. */
function table(rows, key, columns) {
  return h(
    "table",
    { class: "stacked" },
    h("thead", {}, h("tr", {}, Object.keys(columns).map((column, index) => h("th", { scope: "col", class: index ? "number" : undefined }, column)))),
    h("tbody", {}, rows.map((row) => h("tr", { key: key(row) }, Object.entries(columns).map(([column, cell], index) => h(index ? "td" : "th", { scope: index ? undefined : "row", class: index ? "number" : undefined, "data-label": column }, cell(row)))))),
  );
}

function nodeTable(nodes, page) {
  return table(nodes, (node) => node.name, {
    Server: (node) => [node.name, node.isSelf && h("span", { class: "pill read" }, "this one"), node.isDraining && h("span", { class: "pill offline" }, "draining")],
    Address: (node) => h("code", { class: "wrap" }, node.address),
    CPU: (node) => `${(node.cpu * 100).toFixed(1)} %`,
    In: (node) => bitRate(node.bitRate),
    Publishers: (node) => number(node.publishers),
    Readers: (node) => number(node.readers),
    "New streams": (node) =>
      h(
        "button",
        { type: "button", class: "small", "aria-label": `${node.isDraining ? "Accept again on" : "Drain"} ${node.name}`, onclick: () => drain(node, page) },
        node.isDraining ? "Accept again" : "Drain…",
      ),
  });
}

function pathTable({ items, itemCount }) {
  return [
    table(items, (item) => item.name, {
      Stream: (item) => h("a", { class: "wrap", href: linkTo(item.name) }, item.name),
      Server: (item) => item.node,
    }),
    itemCount > items.length && h("p", { class: "faint" }, `and ${number(itemCount - items.length)} more`),
  ];
}

function workerTable(workers, now) {
  return table(workers, (worker) => worker.number, {
    Worker: (worker) => `Worker ${worker.number}`,
    Process: (worker) => String(worker.pid),
    CPU: (worker) => {
      const busy = rate(`worker ${worker.number}`, worker.cpu, now);
      return busy === null ? "–" : `${((busy / 8) * 100).toFixed(1)} %`;
    },
    Memory: (worker) => size(worker.memory),
    "Loop lag": (worker) => milliseconds(worker.loopLag),
    "Longest lag": (worker) => milliseconds(worker.loopLagMaximum),
  });
}

// The machines of a cluster, and the processes of this server.

import { empty } from "./dialogs.js";
import { h, render } from "./dom.js";
import { bitRate, count, milliseconds, number, size } from "./format.js";
import { rate } from "./rates.js";

export function nodesPage({ root, status }) {
  return {
    title: "Nodes",
    async refresh() {
      const { nodes, workers } = status();
      const now = Date.now();
      const parts = [nodes.length && count(nodes.length, "server"), workers.length && count(workers.length, "worker process", "worker processes")];
      render(
        root,
        h("div", { class: "head" }, h("h1", {}, "Nodes"), h("p", { class: "faint" }, parts.filter(Boolean).join(", "))),
        !nodes.length && !workers.length && empty("This server is alone, and one process."),
        nodes.length > 0 && h("section", { class: "panel" }, h("h2", {}, "Servers of the cluster"), nodeTable(nodes)),
        workers.length > 0 && h("section", { class: "panel" }, h("h2", {}, "Workers of this server"), workerTable(workers, now)),
      );
    },
  };
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

function nodeTable(nodes) {
  return table(nodes, (node) => node.name, {
    Server: (node) => [node.name, node.isSelf && h("span", { class: "pill read" }, "this one"), node.isDraining && h("span", { class: "pill offline" }, "draining")],
    Address: (node) => h("code", { class: "wrap" }, node.address),
    CPU: (node) => `${(node.cpu * 100).toFixed(1)} %`,
    In: (node) => bitRate(node.bitRate),
    Publishers: (node) => number(node.publishers),
    Readers: (node) => number(node.readers),
  });
}

function workerTable(workers, now) {
  return table(workers, (worker) => worker.number, {
    Worker: (worker) => `Worker ${worker.number}`,
    Process: (worker) => String(worker.pid),
    CPU: (worker) => `${((rate(`worker ${worker.number}`, worker.cpu, now) / 8) * 100).toFixed(1)} %`,
    Memory: (worker) => size(worker.memory),
    "Loop lag": (worker) => milliseconds(worker.loopLag),
    "Longest lag": (worker) => milliseconds(worker.loopLagMaximum),
  });
}

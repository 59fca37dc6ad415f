// The processes that a server consists of.

import { empty } from "./dialogs.js";
import { h, render } from "./dom.js";
import { count, milliseconds, size } from "./format.js";
import { rate } from "./rates.js";

export function nodesPage({ root, status }) {
  return {
    title: "Nodes",
    async refresh() {
      const { workers } = status();
      const now = Date.now();
      render(
        root,
        h("div", { class: "head" }, h("h1", {}, "Nodes"), h("p", { class: "faint" }, count(workers.length, "worker process", "worker processes"))),
        !workers.length && empty("The server is one process."),
        workers.length > 0 && table(workers, now),
      );
    },
  };
}

function table(workers, now) {
  const columns = ["Worker", "Process", "CPU", "Memory", "Loop lag", "Longest lag"];
  return h(
    "table",
    { class: "stacked" },
    h("thead", {}, h("tr", {}, columns.map((column, index) => h("th", { scope: "col", class: index ? "number" : undefined }, column)))),
    h(
      "tbody",
      {},
      workers.map((worker) =>
        h(
          "tr",
          { key: worker.number },
          h("th", { scope: "row", "data-label": "Worker" }, `Worker ${worker.number}`),
          h("td", { class: "number", "data-label": "Process" }, worker.pid),
          h("td", { class: "number", "data-label": "CPU" }, `${((rate(`worker ${worker.number}`, worker.cpu, now) / 8) * 100).toFixed(1)} %`),
          h("td", { class: "number", "data-label": "Memory" }, size(worker.memory)),
          h("td", { class: "number", "data-label": "Loop lag" }, milliseconds(worker.loopLag)),
          h("td", { class: "number", "data-label": "Longest lag" }, milliseconds(worker.loopLagMaximum)),
        ),
      ),
    ),
  );
}

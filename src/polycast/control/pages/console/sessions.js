// The connected clients.

import { kick, listClients, STATES } from "./clients.js";
import { empty } from "./dialogs.js";
import { h, render } from "./dom.js";
import { bitRate, count, duration, milliseconds, since } from "./format.js";
import { linkTo } from "./paths.js";

const FILTERS = [["", "All"], ["publish", "Publishing"], ["read", "Reading"], ["idle", "Idle"]];
const SHOWN = 300;

export function sessionsPage({ root, status }) {
  const view = { search: "", state: "", protocol: "" };
  let clients = [];

  const refresh = async () => {
    clients = await listClients(status().servers, Date.now());
    clients.sort((a, b) => a.path.localeCompare(b.path) || a.state.localeCompare(b.state) || a.created.localeCompare(b.created));
    if (root.isConnected) draw();
  };
  const draw = () => {
    const found = clients.filter((client) => isFound(client, view));
    const protocols = [...new Set(clients.map((client) => client.protocol))].sort();
    render(
      root,
      h("div", { class: "head" }, h("h1", {}, "Sessions"), h("p", { class: "faint", role: "status" }, `${count(clients.length, "client")}${found.length === clients.length ? "" : `, ${found.length} shown`}`)),
      toolbar(view, protocols, draw),
      !clients.length && empty("Nobody is connected.", "Publishers and readers of all protocols appear here."),
      clients.length > 0 && !found.length && empty("No client matches."),
      found.length > 0 && clientTable(found.slice(0, SHOWN), refresh),
      found.length > SHOWN && h("p", { class: "faint" }, `${found.length - SHOWN} more: search for them.`),
    );
  };
  return { title: "Sessions", refresh };
}

function isFound(client, { search, state, protocol }) {
  const text = `${client.id} ${client.path} ${client.address} ${client.user} ${client.program}`.toLowerCase();
  return (!state || client.state === state) && (!protocol || client.protocol === protocol) && search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function toolbar(view, protocols, draw) {
  const change = (values) => {
    Object.assign(view, values);
    draw();
  };
  return h(
    "div",
    { class: "toolbar" },
    h("input", { type: "search", "aria-label": "Search sessions", placeholder: "Path, address, user, program", value: view.search, oninput: (event) => change({ search: event.target.value }) }),
    h("div", { class: "switch", role: "group", "aria-label": "State" }, FILTERS.map(([state, text]) => h("button", { type: "button", "aria-pressed": String(view.state === state), onclick: () => change({ state }) }, text))),
    h("select", { "aria-label": "Protocol", value: view.protocol, onchange: (event) => change({ protocol: event.target.value }) }, h("option", { value: "" }, "All protocols"), protocols.map((name) => h("option", { value: name }, name))),
  );
}

/** The table of clients; on a phone, each is a card. `refresh` is called after one was disconnected. */
export function clientTable(clients, refresh, { hasPath = true } = {}) {
  const columns = ["Client", "Protocol", "State", hasPath && "Path", "In", "Out", "Dropped", "Lost", "Round trip", "Connected"].filter(Boolean);
  const cell = (label, ...content) => h("td", { "data-label": label, class: ["In", "Out", "Dropped", "Lost", "Round trip", "Connected"].includes(label) ? "number" : undefined }, ...content);
  return h(
    "table",
    { class: "clients stacked" },
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: ["Client", "Protocol", "State", "Path"].includes(column) ? undefined : "number" }, column)), h("th", { scope: "col" }, h("span", { class: "unseen" }, "Actions")))),
    h(
      "tbody",
      {},
      clients.map((client) =>
        h(
          "tr",
          { key: client.key },
          h("th", { scope: "row", "data-label": "Client" }, h("span", { class: "address" }, client.address || client.id), h("span", { class: "faint" }, [client.user, client.program].filter(Boolean).join(" · "))),
          cell("Protocol", h("span", {}, client.protocol, client.transport && h("span", { class: "faint" }, ` ${client.transport}`))),
          cell("State", h("span", { class: `pill ${client.state === "publish" ? "live" : client.state === "read" ? "read" : "waiting"}` }, STATES[client.state] ?? client.state)),
          hasPath && cell("Path", client.path && h("a", { href: linkTo(client.path) }, client.path)),
          cell("In", bitRate(client.rateIn)),
          cell("Out", bitRate(client.rateOut)),
          cell("Dropped", h("span", { class: client.dropped ? "warn" : undefined }, client.dropped)),
          cell("Lost", h("span", { class: client.lost ? "warn" : undefined }, client.lost)),
          cell("Round trip", client.roundTrip === null ? "–" : milliseconds(client.roundTrip)),
          cell("Connected", duration(since(client.created))),
          h("td", { class: "actions" }, client.kick && h("button", { type: "button", class: "small", "data-kick": client.id, "aria-label": `Disconnect ${client.protocol} client ${client.address || client.id}`, onclick: async () => (await kick(client)) && refresh() }, "Disconnect")),
        ),
      ),
    ),
  );
}


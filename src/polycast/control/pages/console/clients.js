// Those who are connected, over all protocols.

import { get, post } from "./api.js";
import { confirm, notify } from "./dialogs.js";
import { rate } from "./rates.js";

/** Return all sessions, and viewers that have none: `[{ id, protocol, collection, item, canKick, ... }]`. */
export async function listClients(servers, now) {
  const lists = servers.filter((server) => server.isRunning).map(async (server) => (server.viewers ? viewersOf(server, now) : sessionsOf(server, now)));
  return (await Promise.all(lists)).flat();
}

async function sessionsOf(server, now) {
  const found = await get(`v1/${server.collection}/list`).catch(ifGone);
  return Object.entries(found.items)
    .filter(([, item]) => item.state !== undefined)
    .map(([id, item]) => describe(server, id, `v1/${server.collection}/kick/${encodeURIComponent(id)}`, item, now));
}

async function viewersOf(server, now) {
  const [sessions, viewers] = await Promise.all([sessionsOf(server, now), get(`v3/${server.viewers}/list?itemsPerPage=1000`).catch(ifGone)]);
  const items = Array.isArray(viewers.items) ? viewers.items : [];
  const described = items.map((item) => describe(server, item.id, `v3/${server.viewers}/kick/${item.id}`, { ...item, state: "read", bytesSent: item.outboundBytes }, now));
  return [...sessions, ...described];
}

// A server that was stopped meanwhile has no list any more.
function ifGone(error) {
  if (error.status === 404) return { items: {} };
  throw error;
}

function describe(server, id, kick, item, now) {
  return {
    key: `${server.collection} ${id}`,
    id,
    kick: server.canKick || kick.startsWith("v3") ? kick : null,
    protocol: server.name,
    state: item.state,
    path: item.path ?? "",
    address: item.remoteAddr ?? "",
    user: item.user ?? "",
    program: item.userAgent ?? "",
    transport: item.transport ?? "",
    created: item.created,
    dropped: item.packetsDropped ?? 0,
    lost: item.packetsLost ?? 0,
    roundTrip: item.roundTrip ?? null,
    rateIn: rate(`${server.collection} ${id} in`, item.bytesReceived ?? 0, now),
    rateOut: rate(`${server.collection} ${id} out`, item.bytesSent ?? 0, now),
  };
}

export const STATES = { read: "Reading", publish: "Publishing", idle: "Idle" };

/** Disconnect a client, after a question: rows move, and it cannot be undone. Returns whether it was done. */
export async function kick(client) {
  const doing = { publish: "publishes to", read: "reads" }[client.state];
  const who = `${client.protocol} client ${client.address || client.id}`;
  const text = doing ? `${who} ${doing} the path “${client.path}”.` : `${who} is idle.`;
  if (!(await confirm("Disconnect this client?", text, "Disconnect"))) return false;
  try {
    await post(client.kick);
    notify(`${who} was disconnected.`);
  } catch (error) {
    if (error.status !== 404) notify(`The client could not be disconnected: ${error.message}`, true);
  }
  return true;
}

// The addresses under which a stream can be read.

import { encoded } from "./api.js";

/** `[{ name, url, isPage }]`, for the servers that run; `servers` as the API lists them. */
export function addressesOf(servers, name) {
  const found = [];
  for (const server of servers) {
    if (!server.isRunning || !server.address) continue;
    const { scheme, port, isPage } = server.address;
    const root = `${scheme}://${location.hostname}:${port}`;
    if (scheme === "srt") {
      found.push({ name: server.name, url: `${root}?streamid=read:${name}`, isPage });
    } else if (isPage) {
      found.push({ name: `${server.name} in a browser`, url: `${root}/${encoded(name)}/`, isPage });
      if (server.name === "HLS") found.push({ name: "HLS in a player", url: `${root}/${encoded(name)}/index.m3u8`, isPage: false });
      if (server.name === "WebRTC") found.push({ name: "WebRTC in a player (WHEP)", url: `${root}/${encoded(name)}/whep`, isPage: false });
    } else {
      found.push({ name: server.name, url: `${root}/${encoded(name)}`, isPage });
    }
  }
  return found;
}

/** The page of a server that plays a stream; null if it does not run. */
export function pageOf(servers, serverName, name) {
  const server = servers.find((each) => each.name === serverName && each.isRunning && each.address?.isPage);
  return server ? `${server.address.scheme}://${location.hostname}:${server.address.port}/${encoded(name)}/` : null;
}

/** The page with the recordings of a path; null if the playback server does not run. */
export function recordingsOf(status, name) {
  if (status.playbackPort === null) return null;
  return `${status.playbackScheme}://${location.hostname}:${status.playbackPort}/?path=${encodeURIComponent(name)}`;
}

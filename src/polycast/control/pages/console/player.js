// Plays a stream in a frame: over WebRTC, and over HLS where that does not work.

import { pageOf } from "./addresses.js";
import { h, icon } from "./dom.js";

// How long a browser may take to connect over WebRTC.
const PATIENCE_MILLISECONDS = 8000;

/** The player of a stream; `picture` is what is shown until it plays. `draw` is called when it has changed. */
export function makePlayer(name, draw) {
  const state = { protocol: null, note: "", frame: null, timer: null };

  const stop = () => {
    clearTimeout(state.timer);
    Object.assign(state, { protocol: null, frame: null, note: "" });
  };
  const play = (servers, protocol, note = "") => {
    stop();
    const page = pageOf(servers, protocol, name);
    if (page === null) return;
    const src = protocol === "WebRTC" ? `${page}?controls=true&muted=true` : page;
    const frame = h("iframe", { src, title: `${name} over ${protocol}`, allow: "autoplay; fullscreen; picture-in-picture", opaque: true, key: `${protocol} ${Date.now()}` });
    Object.assign(state, { protocol, note, frame });
    if (protocol === "WebRTC" && pageOf(servers, "HLS", name) !== null) {
      state.timer = setTimeout(() => fallBack(servers, "it did not connect in time"), PATIENCE_MILLISECONDS);
    }
    draw();
  };
  const fallBack = (servers, reason) => {
    clearTimeout(state.timer);
    if (state.protocol === "WebRTC" && pageOf(servers, "HLS", name) !== null) play(servers, "HLS", `WebRTC: ${reason}. Played over HLS instead.`);
  };
  // The page in the frame tells what happens to it.
  const onMessage = (servers) => (event) => {
    if (!state.frame || event.source !== state.frame.contentWindow || !event.data?.polycast) return;
    if (event.data.polycast === "playing" || event.data.polycast === "login") clearTimeout(state.timer);
    if (event.data.polycast === "failed") fallBack(servers, String(event.data.text).replace(/\.$/, ""));
  };
  let listener = null;
  return {
    state,
    play(servers, protocol) {
      removeEventListener("message", listener);
      listener = onMessage(servers);
      addEventListener("message", listener);
      play(servers, protocol);
    },
    stop() {
      removeEventListener("message", listener);
      stop();
      draw();
    },
  };
}

/** What the player looks like now. */
export function playerView(player, name, servers, poster, isStopped) {
  const { protocol, frame, note } = player.state;
  const protocols = ["WebRTC", "HLS"].filter((each) => pageOf(servers, each, name) !== null);
  return h(
    "section",
    { class: "player", "aria-label": "Player" },
    h(
      "div",
      { class: "screen", key: frame ? "frame" : "poster" },
      frame ?? [
        poster,
        protocols.length > 0 && h("button", { type: "button", class: "watch", id: "watch", onclick: () => player.play(servers, protocols[0]) }, icon("M8 5v14l11-7z"), isStopped ? "Start and watch" : "Watch"),
      ],
    ),
    h(
      "div",
      { class: "bar" },
      protocols.length > 1 && h("div", { class: "switch", role: "group", "aria-label": "Played over" }, protocols.map((each) => h("button", { type: "button", "aria-pressed": String(protocol === each), onclick: () => player.play(servers, each) }, each))),
      frame && h("button", { type: "button", class: "small", onclick: () => player.stop() }, "Stop"),
      frame && h("a", { class: "quiet", href: pageOf(servers, protocol, name), target: "_blank", rel: "noopener" }, "Open in a tab"),
      !protocols.length && h("p", { class: "faint" }, "No server with a page for browsers is enabled: hls or webrtc."),
      note && h("p", { class: "note", role: "status" }, note),
    ),
  );
}


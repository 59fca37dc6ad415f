"use strict";

/**
 * Publishes a MediaStream over WebRTC (WHIP). Load this file in a page of your own, then:
 *
 *   const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
 *   const publisher = new WebRTCPublisher({
 *     url: "https://server:8889/mystream/whip",
 *     stream,
 *     onConnected: () => console.log("live"),
 *     onError: (text) => console.log(text),
 *   });
 *   ...
 *   publisher.close();
 *
 * Further options: user and pass, or token; videoCodec ("h264", "vp8", "vp9", "av1", "h265") and audioCodec ("opus",
 * "g722", "pcmu", "pcma"), the browser's choice by default; videoBitrate and audioBitrate in kbit/s; audioVoice for
 * speech instead of music; onState like in the reader. It retries after errors until closed.
 */
class WebRTCPublisher {
  static RETRY_MILLISECONDS = 2000;
  static DISCONNECTED_MILLISECONDS = 5000;
  /** The server ends a session that is not connected ten seconds after its answer; browsers may go on for a minute. */
  static CONNECT_MILLISECONDS = 12000;

  constructor(options) {
    this.options = options;
    this.connection = null;
    this.session = null;
    this.timer = null;
    this.isClosed = false;
    this.#start();
  }

  /** Ends the session; nothing happens afterwards. The media stream is not stopped: it belongs to the caller. */
  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.timer);
    this.#leave();
    this.#tell("closed");
  }

  /** The result of RTCPeerConnection.getStats; null while there is no connection. */
  async statistics() {
    return this.connection === null ? null : this.connection.getStats();
  }

  async #start() {
    this.#tell("connecting");
    try {
      await this.#connect();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #connect() {
    const { stream, videoCodec, audioCodec } = this.options;
    const iceServers = WebRTCPublisher.iceServers(await this.#request("OPTIONS"));
    const connection = new RTCPeerConnection({ iceServers, sdpSemantics: "unified-plan" });
    this.connection = connection;
    connection.onconnectionstatechange = () => this.#onConnectionState(connection);
    for (const track of stream.getTracks()) {
      const transceiver = connection.addTransceiver(track, { direction: "sendonly", streams: [stream] });
      WebRTCPublisher.preferCodec(transceiver, track.kind, track.kind === "video" ? videoCodec : audioCodec);
    }
    const offer = await connection.createOffer();
    await connection.setLocalDescription(offer);
    const response = await this.#request("POST", offer.sdp);
    if (this.isClosed || this.connection !== connection) return;
    const location = response.headers.get("location");
    this.session = location === null ? null : new URL(location, response.url).href;
    this.timer = setTimeout(() => this.#fail(new Error("the server cannot be reached over WebRTC")), WebRTCPublisher.CONNECT_MILLISECONDS);
    await connection.setRemoteDescription({ type: "answer", sdp: this.#limitAudio(await response.text()) });
    await this.#limitVideo(connection);
  }

  async #limitVideo(connection) {
    const bitRate = Number(this.options.videoBitrate);
    for (const sender of connection.getSenders()) {
      if (sender.track?.kind !== "video" || !bitRate) continue;
      const parameters = sender.getParameters();
      for (const encoding of parameters.encodings ?? []) encoding.maxBitrate = bitRate * 1000;
      await sender.setParameters(parameters).catch(() => {});
    }
  }

  #limitAudio(sdp) {
    const { audioBitrate, audioVoice } = this.options;
    const number = sdp.match(/a=rtpmap:(\d+) opus\/48000\/2/i)?.[1];
    if (number === undefined) return sdp;
    const limit = Number(audioBitrate) ? `;maxaveragebitrate=${Number(audioBitrate) * 1000}` : "";
    return sdp.replace(new RegExp(`(a=fmtp:${number} .*)`), (line) =>
      (audioVoice ? line.replace(/;(sprop-)?stereo=1/g, "") : line) + limit);
  }

  #onConnectionState(connection) {
    if (this.isClosed || this.connection !== connection || connection.connectionState === "connecting") return;
    clearTimeout(this.timer);
    switch (connection.connectionState) {
      case "connected":
        this.#tell("running");
        this.options.onConnected?.();
        break;
      case "disconnected":
        this.timer = setTimeout(() => this.#fail(new Error("the connection was lost")), WebRTCPublisher.DISCONNECTED_MILLISECONDS);
        break;
      case "failed":
      case "closed":
        this.#fail(new Error("the server cannot be reached over WebRTC"));
        break;
    }
  }

  async #request(method, body) {
    const { url, user, pass, token } = this.options;
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/sdp";
    if (token) headers.Authorization = `Bearer ${token}`;
    else if (user) headers.Authorization = `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${user}:${pass ?? ""}`)))}`;
    let response;
    try {
      response = await fetch(url, { method, headers, body });
    } catch {
      throw new Error("the server does not answer");
    }
    if (response.ok) return response;
    let text = `the server answered with status ${response.status}`;
    try {
      text = (await response.json()).error;
    } catch {
      // Not from this server, but from a proxy.
    }
    const error = new Error(text);
    error.status = response.status;
    throw error;
  }

  #fail(error) {
    if (this.isClosed) return;
    clearTimeout(this.timer);
    this.#leave();
    this.options.onError?.(error.message, error.status);
    this.#tell("waiting");
    this.timer = setTimeout(() => this.#start(), WebRTCPublisher.RETRY_MILLISECONDS);
  }

  #leave() {
    const { connection, session } = this;
    this.connection = this.session = null;
    connection?.close();
    if (session !== null) fetch(session, { method: "DELETE", keepalive: true }).catch(() => {});
  }

  #tell(state) {
    this.options.onState?.(state);
  }

  /** The codecs that this browser can send, as {value, label}, without error correction formats. */
  static codecs(kind) {
    const names = new Set();
    for (const { mimeType } of RTCRtpSender.getCapabilities(kind)?.codecs ?? []) {
      const name = mimeType.split("/")[1];
      if (!/^(rtx|red|ulpfec|flexfec.*|telephone-event|cn)$/i.test(name)) names.add(name);
    }
    return [...names].map((name) => ({ value: name.toLowerCase(), label: name }));
  }

  static preferCodec(transceiver, kind, wanted) {
    if (!wanted || transceiver.setCodecPreferences === undefined) return;
    const all = RTCRtpSender.getCapabilities(kind).codecs;
    const isWanted = (codec) => codec.mimeType.toLowerCase() === `${kind}/${wanted}`;
    transceiver.setCodecPreferences([...all.filter(isWanted), ...all.filter((codec) => !isWanted(codec))]);
  }

  /** The STUN and TURN servers in the Link headers of a response. */
  static iceServers(response) {
    // Text in quotes may contain commas, semicolons and angle brackets.
    const value = /"(?:[^"\\]|\\.)*"|[^",;\s]*/.source;
    const links = (response.headers.get("link") ?? "").matchAll(new RegExp(`<([^>]*)>((?:\\s*;\\s*[\\w-]+=(?:${value}))*)`, "g"));
    return [...links].flatMap(([, url, text]) => {
      const parameters = {};
      for (const [, name, quoted] of text.matchAll(new RegExp(`;\\s*([\\w-]+)=(${value})`, "g"))) {
        parameters[name.toLowerCase()] = quoted.startsWith('"') ? JSON.parse(quoted) : quoted;
      }
      const { rel, username, credential } = parameters;
      if (rel !== "ice-server") return [];
      return [username === undefined ? { urls: [url] } : { urls: [url], username, credential }];
    });
  }
}

window.WebRTCPublisher = WebRTCPublisher;
// The name used by pages written for MediaMTX.
window.MediaMTXWebRTCPublisher = WebRTCPublisher;

"use strict";

/**
 * Watches a stream over WebRTC (WHEP). Load this file in a page of your own, then:
 *
 *   const reader = new WebRTCReader({
 *     url: "http://server:8889/mystream/whep",
 *     onTrack: (event) => { video.srcObject = event.streams[0]; },
 *     onError: (text) => console.log(text),
 *   });
 *   ...
 *   reader.close();
 *
 * Further options: user and pass, or token, for streams that need credentials; onState, called with "connecting",
 * "running", "waiting" (for the next attempt) or "closed"; onNotice, called with what the viewer should know, such as why
 * there is no sound; onDataChannel. It retries after errors until closed.
 */
class WebRTCReader {
  static RETRY_MILLISECONDS = 2000;
  static DISCONNECTED_MILLISECONDS = 5000;
  /** The server ends a session that is not connected ten seconds after its answer; browsers may go on for a minute. */
  static CONNECT_MILLISECONDS = 12000;

  constructor(options) {
    this.options = options;
    this.connection = null;
    this.session = null;
    this.timer = null;
    this.stream = null;
    this.isClosed = false;
    this.#start();
  }

  /** Ends the session; nothing happens afterwards. */
  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.timer);
    this.#leave();
    this.#tell("closed");
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
    const iceServers = WebRTCReader.iceServers(await this.#request("OPTIONS"));
    const connection = new RTCPeerConnection({ iceServers, sdpSemantics: "unified-plan" });
    this.connection = connection;
    this.stream = new MediaStream();
    connection.addTransceiver("video", { direction: "recvonly" });
    connection.addTransceiver("audio", { direction: "recvonly" });
    connection.ontrack = (event) => this.#onTrack(event);
    connection.ondatachannel = (event) => this.options.onDataChannel?.(event);
    connection.onconnectionstatechange = () => this.#onConnectionState(connection);

    const offer = await connection.createOffer();
    offer.sdp = WebRTCReader.withStereo(offer.sdp);
    await connection.setLocalDescription(offer);
    const response = await this.#request("POST", offer.sdp);
    if (this.isClosed || this.connection !== connection) return;
    const location = response.headers.get("location");
    this.session = location === null ? null : new URL(location, response.url).href;
    this.timer = setTimeout(() => this.#fail(new Error("the server cannot be reached over WebRTC")), WebRTCReader.CONNECT_MILLISECONDS);
    await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
    const notices = WebRTCReader.notices(response);
    if (notices.length > 0) this.options.onNotice?.(notices);
  }

  #onTrack(event) {
    // A short buffer; the browser still increases it if the network requires that.
    if ("jitterBufferTarget" in event.receiver) event.receiver.jitterBufferTarget = 0;
    this.stream.addTrack(event.track);
    this.options.onTrack?.({ track: event.track, streams: [this.stream], receiver: event.receiver });
  }

  #onConnectionState(connection) {
    if (this.isClosed || this.connection !== connection || connection.connectionState === "connecting") return;
    clearTimeout(this.timer);
    switch (connection.connectionState) {
      case "connected":
        this.#tell("running");
        break;
      case "disconnected":
        // It may recover if the network was only down briefly.
        this.timer = setTimeout(() => this.#fail(new Error("the connection was lost")), WebRTCReader.DISCONNECTED_MILLISECONDS);
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
    const error = new Error(await WebRTCReader.reason(response));
    error.status = response.status;
    throw error;
  }

  #fail(error) {
    if (this.isClosed) return;
    clearTimeout(this.timer);
    this.#leave();
    this.options.onError?.(error.message, error.status);
    this.#tell("waiting");
    this.timer = setTimeout(() => this.#start(), WebRTCReader.RETRY_MILLISECONDS);
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

  /** The server's reason for refusing a request. */
  static async reason(response) {
    try {
      return (await response.json()).error;
    } catch {
      return `the server answered with status ${response.status}`;
    }
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

  /** What the viewer should know about the session, in sentences. */
  static notices(response) {
    const text = response.headers.get("polycast-notice");
    return text === null ? [] : text.split(/, */).map(decodeURIComponent);
  }

  /** Browsers only receive stereo audio if it is in their offer. */
  static withStereo(sdp) {
    const number = sdp.match(/a=rtpmap:(\d+) opus\/48000\/2/i)?.[1];
    if (number === undefined) return sdp;
    return sdp.replace(new RegExp(`(a=fmtp:${number} (?!.*stereo=1).*)`), "$1;stereo=1");
  }
}

window.WebRTCReader = WebRTCReader;
// The name used by pages written for MediaMTX.
window.MediaMTXWebRTCReader = WebRTCReader;

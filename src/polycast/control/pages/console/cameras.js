// Cameras in the network: finds them, and adds their streams as paths.

import { encoded, post } from "./api.js";
import { empty, notify } from "./dialogs.js";
import { h, render } from "./dom.js";
import { count } from "./format.js";
import { linkTo } from "./paths.js";

export function camerasPage({ root }) {
  const view = { isSearching: false, problem: "", cameras: null, added: new Set() };
  const search = async (event) => {
    event.preventDefault();
    const { hosts, user, password } = event.currentTarget.elements;
    Object.assign(view, { isSearching: true, problem: "" });
    draw();
    try {
      const body = { hosts: hosts.value.split(/[\s,;]+/).filter(Boolean), user: user.value, password: password.value };
      view.cameras = (await (await post("v1/cameras/find", body)).json()).items;
    } catch (error) {
      view.problem = error.message;
    }
    view.isSearching = false;
    if (root.isConnected) draw();
  };
  const add = async (event, stream) => {
    event.preventDefault();
    const { name, isOnDemand } = event.currentTarget.elements;
    const path = name.value.trim();
    try {
      await post(`v3/config/paths/add/${encoded(path)}`, { source: stream.source, sourceOnDemand: isOnDemand.checked });
      stream.path = path;
      view.added.add(stream.source);
      notify(`“${path}” was added.`);
    } catch (error) {
      notify(error.message, true);
    }
    if (root.isConnected) draw();
  };
  const draw = () =>
    render(
      root,
      h("div", { class: "head" }, h("h1", {}, "Cameras"), h("p", { class: "faint", role: "status" }, summary(view))),
      h(
        "form",
        { class: "panel fields search", onsubmit: search },
        h("label", {}, "Addresses", h("input", { name: "hosts", placeholder: "the whole network", autocomplete: "off", autocapitalize: "none", spellcheck: "false", "aria-describedby": "hosts-note" })),
        h("label", {}, "User name on the cameras", h("input", { name: "user", autocomplete: "off", autocapitalize: "none", spellcheck: "false" })),
        h("label", {}, "Password", h("input", { name: "password", type: "password", autocomplete: "off" })),
        h("p", { class: "faint", id: "hosts-note" }, "Lists the streams of ONVIF cameras. To reach cameras in other networks, enter their addresses, such as 192.0.2.10, separated by spaces."),
        view.problem && h("p", { class: "problem", role: "alert" }, view.problem),
        h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary", disabled: view.isSearching }, view.isSearching ? "Searching…" : "Search")),
      ),
      view.cameras?.length === 0 && empty("No camera has answered.", "Cameras can only be discovered in their own network, and ONVIF often has to be enabled in their settings first. Enter their addresses to contact them directly."),
      view.cameras?.length > 0 && h("ul", { class: "panel list" }, view.cameras.map((camera) => cameraRow(camera, view, add))),
    );
  draw();
  return { title: "Cameras", refresh: async () => undefined };
}

function summary({ isSearching, cameras }) {
  if (isSearching) return "Waiting for responses";
  if (!cameras) return "Find cameras in the network, and add their streams";
  return `${count(cameras.length, "camera")}, ${count(cameras.reduce((sum, camera) => sum + camera.streams.length, 0), "stream")}`;
}

function cameraRow(camera, view, add) {
  return h(
    "li",
    { key: camera.address },
    h(
      "div",
      {},
      h("b", {}, camera.name || camera.address),
      camera.name && h("span", { class: "faint" }, ` ${camera.address}`),
      camera.error && h("p", { class: "reason" }, camera.error),
      h("ul", { class: "found" }, camera.streams.map((stream) => streamRow(camera, stream, view.added.has(stream.source), add))),
    ),
  );
}

function streamRow(camera, stream, isAdded, add) {
  if (isAdded) return h("li", { key: `${stream.source} added` }, h("span", {}, stream.description), h("a", { href: linkTo(stream.path) }, `Show ${stream.path}`));
  const of = `${stream.description} of ${camera.name || camera.address}`;
  return h(
    "li",
    { key: stream.source },
    h("span", {}, stream.description),
    h(
      "form",
      { onsubmit: (event) => add(event, stream) },
      h("input", { name: "name", value: stream.path, required: true, "aria-label": `Path for ${of}`, autocapitalize: "none", spellcheck: "false" }),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "isOnDemand", checked: true }), " On demand"),
      h("button", { type: "submit", class: "small", "aria-label": `Add ${of}` }, "Add"),
    ),
  );
}

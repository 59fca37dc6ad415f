// Makes elements, and brings what a page shows up to date without touching what has not changed: focus, selected text
// and what is being typed stay.

const SVG = "http://www.w3.org/2000/svg";
const OF_SVG = new Set(["svg", "path", "line", "rect", "circle", "polyline", "polygon", "g"]);
// Attributes that are properties, as the user changes them.
const PROPERTIES = new Set(["value", "checked", "selected", "open"]);

/** Make an element. Handlers are `onclick` and so on; `key` tells elements of a list apart; `opaque`: its content and
 * attributes are somebody else's, such as those of a frame. */
export function h(name, attributes = {}, ...children) {
  const made = OF_SVG.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  made.handlers = {};
  made.live = {};
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "key" || key === "opaque") made[key] = value;
    else if (key.startsWith("on")) made[key] = made.handlers[key] = value;
    else if (PROPERTIES.has(key)) made.live[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...flat(children));
  for (const [key, value] of Object.entries(made.live)) made[key] = value;
  return made;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "");
}

/** Let an element have exactly these children. */
export function render(parent, ...children) {
  const wanted = flat(children).map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  const known = new Map();
  for (const child of parent.childNodes) if (child.key !== undefined) known.set(child.key, child);
  let place = parent.firstChild;
  for (const node of wanted) {
    const found = node.key === undefined ? (place && isAlike(place, node) ? place : null) : known.get(node.key);
    if (!found) {
      parent.insertBefore(node, place);
      continue;
    }
    if (found === place) place = place.nextSibling;
    else parent.insertBefore(found, place);
    update(found, node);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function isAlike(old, made) {
  return old.key === undefined && old.nodeName === made.nodeName && !old.opaque === !made.opaque;
}

function update(old, made) {
  if (old === made) return;
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== made.data) old.data = made.data;
    return;
  }
  if (old.opaque) return;
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const key of Object.keys(old.handlers ?? {})) if (!(key in made.handlers)) old[key] = null;
  Object.assign(old, made.handlers);
  old.handlers = made.handlers;
  render(old, ...made.childNodes);
  for (const [key, value] of Object.entries(made.live)) {
    if (old[key] !== value && !(key === "value" && document.activeElement === old)) old[key] = value;
  }
}

/** An icon: outlines in a square of 24. */
export function icon(...outlines) {
  return h("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, ...outlines.map((d) => h("path", { d })));
}

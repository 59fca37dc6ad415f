// Controls for values of the configuration.

import { h } from "./dom.js";

export const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** A value as text for people. */
export function shown(value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (value === "" || value === null || value === undefined) return "empty";
  if (Array.isArray(value)) return value.length ? value.map((each) => (typeof each === "object" ? JSON.stringify(each) : each)).join(", ") : "none";
  return String(value);
}

/** The control of a setting; `change(setting, value)` is called when the user has changed it. */
export function control(setting, value, change) {
  const common = { id: `setting-${setting.key}`, "aria-describedby": `about-${setting.key}` };
  if (setting.kind === "boolean") {
    return h("input", { ...common, type: "checkbox", checked: value === true, onchange: (event) => change(setting, event.target.checked) });
  }
  if (setting.choices.length && !setting.isList) {
    return h("select", { ...common, value: String(value), onchange: (event) => change(setting, event.target.value) }, [...new Set([...setting.choices, String(value)])].map((choice) => h("option", { value: choice }, choice || "empty")));
  }
  if (setting.isList && isOfMaps(setting, value)) return json(setting, value, common, change);
  if (setting.isList) {
    const areNumbers = setting.default.length > 0 && setting.default.every((each) => typeof each === "number");
    const parse = (text) => text.split(",").map((each) => each.trim()).filter(Boolean).map((each) => (areNumbers && !Number.isNaN(Number(each)) ? Number(each) : each));
    return h("input", { ...common, value: value.join(", "), spellcheck: "false", onchange: (event) => change(setting, parse(event.target.value)) });
  }
  const isNumber = typeof setting.default === "number";
  const read = (text) => (isNumber && text.trim() !== "" && !Number.isNaN(Number(text)) ? Number(text) : text);
  const isSecret = /(pass|passphrase|secret)$/i.test(setting.key);
  return h("input", { ...common, type: isSecret ? "password" : "text", autocomplete: "off", inputmode: isNumber ? "decimal" : undefined, value: String(value ?? ""), spellcheck: "false", onchange: (event) => change(setting, read(event.target.value)) });
}

const isOfMaps = (setting, value) => /map/.test(setting.kind) || value.some((each) => typeof each === "object");

function json(setting, value, common, change) {
  const onchange = (event) => {
    try {
      const parsed = JSON.parse(event.target.value || "[]");
      event.target.setCustomValidity(Array.isArray(parsed) ? "" : "A list is needed");
      if (Array.isArray(parsed)) change(setting, parsed);
    } catch (error) {
      event.target.setCustomValidity(error.message);
    }
    event.target.reportValidity();
  };
  return h("textarea", { ...common, rows: Math.min(8, value.length * 3 + 1), spellcheck: "false", value: value.length ? JSON.stringify(value, null, 1) : "[]", onchange });
}

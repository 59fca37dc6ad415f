// Graphs of values over time.

import { h } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 120;

/** A graph of series of values, the oldest first: `[{ name, values, colour }]`, null where there is none. `format`
 * makes texts of values, `seconds` is the time between two values, `capacity` how many the width is for. */
export function chart({ title, series, format, seconds, capacity }) {
  const all = series.flatMap((each) => each.values).filter((value) => value !== null);
  const top = niceTop(Math.max(0, ...all));
  const length = Math.max(...series.map((each) => each.values.length), 0);
  const last = series.map((each) => each.values.at(-1) ?? null);
  const readout = h("output", { class: "readout", "aria-hidden": "true" });
  const show = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const index = Math.round(((event.clientX - box.left) / box.width) * (capacity - 1)) - (capacity - length);
    const values = series.map((each) => each.values[index] ?? null);
    const text = values.every((value) => value === null) ? "" : values.map((value) => (value === null ? "–" : format(value))).join(" / ");
    event.currentTarget.parentElement.querySelector(".readout").textContent = text && `${ago((length - 1 - index) * seconds)}: ${text}`;
  };
  return h(
    "figure",
    { class: "chart", key: `chart ${title}` },
    h("figcaption", {}, h("span", { class: "name" }, title), h("span", { class: "legend" }, ...series.map((each, index) => h("span", { class: `now ${each.colour}` }, series.length > 1 ? `${each.name} ` : "", h("b", {}, last[index] === null ? "–" : format(last[index])))))),
    h(
      "div",
      { class: "plot" },
      h(
        "svg",
        {
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": summary(title, series, format, length * seconds),
          onpointermove: show, onpointerleave: (event) => (event.currentTarget.parentElement.querySelector(".readout").textContent = ""),
        },
        ...[0.25, 0.5, 0.75].map((part) => h("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
        ...series.flatMap((each) => lines(each, top, capacity)),
      ),
      h("span", { class: "top", "aria-hidden": "true" }, all.length ? format(top) : ""),
      readout,
    ),
  );
}

const ago = (seconds) => (seconds < 1 ? "now" : seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`);

function summary(title, series, format, seconds) {
  const parts = series.map((each) => {
    const values = each.values.filter((value) => value !== null);
    if (!values.length) return `${each.name}: no values`;
    return `${each.name}: now ${format(values.at(-1))}, lowest ${format(Math.min(...values))}, highest ${format(Math.max(...values))}`;
  });
  return `${title}, last ${Math.max(1, Math.round(seconds / 60))} min. ${parts.join(". ")}`;
}

/** The end of the scale: 1, 2 or 5 of a power of ten. */
function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 8, 10].map((factor) => factor * power).find((each) => each >= value * 1.05) ?? 20 * power;
}

function lines({ values, colour }, top, capacity) {
  const drawn = [];
  let run = [];
  const end = () => {
    if (run.length) {
      const points = run.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
      if (run.length > 1) drawn.push(h("polygon", { class: `area ${colour}`, points: `${run[0][0].toFixed(1)},${HEIGHT} ${points} ${run.at(-1)[0].toFixed(1)},${HEIGHT}` }));
      drawn.push(h("polyline", { class: `line ${colour}`, points: run.length > 1 ? points : `${points} ${(run[0][0] + 1).toFixed(1)},${run[0][1].toFixed(1)}` }));
    }
    run = [];
  };
  values.forEach((value, index) => {
    if (value === null) return end();
    run.push([((capacity - values.length + index) / (capacity - 1)) * WIDTH, HEIGHT - 2 - (value / top) * (HEIGHT - 6)]);
  });
  end();
  return drawn;
}

/** A small graph without scale, of one line per series. */
export function sparkline(series, label) {
  const capacity = 60;
  const top = Math.max(1, ...series.flatMap((each) => each.values));
  return h("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...series.flatMap((each) => lines(each, top * 1.05, capacity)));
}

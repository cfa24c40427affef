"use strict";
// Figures are made in Python. Here they are chosen among and fit to the screen.

const source = document.getElementById("data").textContent;
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 760px)");
const touch = matchMedia("(pointer: coarse)").matches;
const THEME = { "#fbfbfa": "--page", "#ffffff": "--card", "#1d2329": "--ink",
  "#d9dee2": "--line", "#e8ecef": "--grid" };
const element = (id) => document.getElementById(id);

for (const id of ["split", "budget", "field"])
  element(id).addEventListener("change", draw);
for (const query of [dark, narrow]) query.addEventListener("change", draw);
draw();

function draw() {
  const style = getComputedStyle(document.documentElement);
  const drawings = JSON.parse(source, (key, value) =>
    /color$/.test(key) && THEME[value]
      ? style.getPropertyValue(THEME[value]).trim() : value);
  for (const [id, choices] of Object.entries(drawings)) {
    const found = pick(choices) || "";
    if (found.data) plot(element(id), found);
    else {
      if (element(id).data) Plotly.purge(id);
      element(id).textContent = found;
    }
  }
}

function holds(when) {
  return Object.keys(when).every((id) => when[id].includes(element(id).value));
}

function pick(choices) {
  return (choices.find(([when]) => holds(when)) || [])[1];
}

function plot(chart, { data, layout }) {
  const traces = data.filter(({ meta }) => !meta || holds(meta.when));
  for (const trace of traces) {
    const { y, fields } = trace.meta || {};
    if (y) trace.y = pick(y);
    const field = element("field").value;
    if (fields) trace.marker.opacity = fields.map(
      (each) => !field || each === field ? 1 : 0.3);
    if (trace.type === "bar") fit(trace, layout, chart.clientWidth);
  }
  const named = traces.filter((trace) => trace.showlegend !== false);
  if (narrow.matches && named.length > 3) // they have a line each
    layout.height += 17 * named.length;
  layout.dragmode = touch ? false : "zoom"; // a finger scrolls the page
  if (!chart.data) chart.textContent = ""; // there may be a text instead
  Plotly.react(chart, traces, layout, {
    responsive: true, displaylogo: false,
    typesetMath: false, // of names with two dollar signs
    displayModeBar: touch ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
}

// Shorter names on a phone, and room for the text behind each bar.
function fit(trace, { xaxis, yaxis }, width) {
  const names = yaxis.ticktext.map((text) => text.match(/&\w+;|[^]/gu));
  const longest = narrow.matches ? 18 : 41;
  yaxis.ticktext = names.map((name) => name.length <= longest ? name.join("")
    : `${name.slice(0, longest - 6).join("")}\u2026${name.slice(-5).join("")}`);
  const labels = Math.min(longest, Math.max(...names.map((n) => n.length)));
  const room = Math.max(120, width - 7 * labels);
  xaxis.range = [0, Math.max(1e-9, ...trace.x.map((value, i) =>
    value / Math.max(0.2, 1 - 8 * (trace.text[i].length + 2) / room)))];
}

"use strict";
// Figures of the page, of the JSON beside it. Names come from data: they become
// text nodes in HTML, and are escaped by `plain` where Plotly reads tags.

const runs = JSON.parse(document.getElementById("data").textContent).runs;
const several = runs.length > 1;
const early = runs.every((run) => run.unfinished);
// Of all runs, each once, by what tells them apart: names may be cut.
const allFields = [...new Map(
  runs.flatMap((run) => run.features?.fields ?? [])
    .map((field) => [field.key, field.name]))];
const KINDS = new Map(Object.entries({
  dense: { color: "#7b8794", symbol: "square", label: "full table" },
  search: { color: "#0b7fc7", symbol: "circle", label: "keras-pep" },
  magnitude: { color: "#d9822b", symbol: "triangle-up", label: "magnitude" },
  uniform: { color: "#8e6bbf", symbol: "cross", label: "uniform" },
  "mixed-dimension": {
    color: "#2a9d6f", symbol: "star", label: "mixed dimensions",
  },
  paper: { color: "#c2456e", symbol: "x", label: "the paper's search" },
}));
// Told apart with a colour vision deficiency too: after Okabe and Ito.
const COLORS = [
  "#0b7fc7", "#d9822b", "#2a9d6f", "#c2456e", "#8e6bbf", "#a98a00", "#7f4f24",
  "#7b8794",
];
const NEVER = 0.5; // where a count of 0 is drawn on a logarithmic axis
const ROW = 24; // pixels of a bar

main();

function main() {
  fillChoices();
  for (const id of ["split", "budget", "field"])
    element(id).addEventListener("change", draw);
  for (const query of ["(prefers-color-scheme: dark)", "(max-width: 760px)"])
    matchMedia(query).addEventListener("change", draw);
  draw();
}

function draw() {
  drawQuality("auc", "AUC");
  drawQuality("logloss", "log-loss");
  drawSteps();
  drawEpochs();
  drawBytes();
  if (!runs.some((run) => run.features)) {
    fill("features",
      made("h2", "Which features keep how much"),
      made("p", early ? "The search is not over yet."
        : "The run has not noted which features there are: it is of an "
        + "earlier version of keras-pep.", "note"));
    return;
  }
  drawFrequency();
  drawTop();
  drawFields("field-size", (of, field, place) =>
    of.kept[place] / Math.max(1, field.features), "entries", number);
  drawFields("field-share", (of, field, place) =>
    of.kept[place] / Math.max(1, sum(of.kept)), "share of the budget", percent);
}

// Choices

function fillChoices() {
  const targets = new Set(runs.flatMap((run) => budgetsOf(run)));
  const budgets = [...targets].sort((a, b) => b - a);
  for (const budget of budgets)
    element("budget").append(new Option(number(budget), budget));
  // The smallest: there what is kept says most about what matters.
  element("budget").selectedIndex = budgets.length - 1;
  element("field").append(new Option("all fields", ""));
  for (const [place, [, name]] of allFields.entries())
    element("field").append(new Option(name, place));
}

// What the field is known by that is chosen; undefined for all.
function chosenField() {
  return allFields[element("field").value]?.[0];
}

function budgetsOf(run) {
  return (run.features?.budgets ?? []).map((budget) => budget.target);
}

// Of a run: the place of the budget that is chosen, or is closest to it, and
// that of the field, -1 for all; null if the run does not have it.
function chosen(run) {
  const wanted = Number(element("budget").value);
  const far = (target) => Math.abs(Math.log(target / wanted));
  const closest = budgetsOf(run).reduce(
    (best, target) => far(target) < far(best) ? target : best, Infinity);
  const budget = budgetsOf(run).indexOf(closest);
  if (budget < 0) return null;
  const key = chosenField();
  if (key === undefined) return { budget, field: -1 };
  const field = placeOf(key, run);
  return field < 0 ? null : { budget, field };
}

function placeOf(key, run) {
  return run.features.fields.findIndex((field) => field.key === key);
}

// Figures

function drawQuality(id, title) {
  const split = element("split").value;
  const traces = [];
  const lines = [];
  for (const [place, run] of runs.entries()) {
    const dense = run.models.find((model) => model.kind === "dense");
    const value = (model) => model.figures[split][id];
    for (const [kind, models] of grouped(run.models)) {
      const look = lookOf(kind);
      const color = several ? COLORS[place % COLORS.length] : look.color;
      const known = models.filter((model) => value(model) !== null);
      known.sort((a, b) => a.kept - b.kept);
      if (!known.length) continue;
      traces.push({
        x: known.map((model) => model.kept),
        y: known.map(value),
        mode: kind === "dense" ? "markers" : "lines+markers",
        name: plain(several ? `${run.name}: ${look.label}` : look.label),
        marker: { color, symbol: look.symbol, size: 10 },
        line: { color, width: kind === "search" ? 3 : 1.5 },
        hoverinfo: "text",
        hovertext: known.map((model) => hover([
          several ? run.name : null,
          model.name,
          `${number(model.kept)} kept, ${percent(model.sparsity)} pruned`,
          `${title} ${figure(value(model))}`
            + lessDense(model, dense, value),
          model.size,
        ])),
      });
    }
    if (dense && value(dense) !== null)
      lines.push({
        type: "line", xref: "paper", x0: 0, x1: 1,
        y0: value(dense), y1: value(dense), layer: "below",
        line: {
          color: several ? COLORS[place % COLORS.length]
            : lookOf("dense").color,
          width: 1, dash: "dash",
        },
      });
  }
  if (!traces.length) return instead(id, "No model has figures yet.");
  const [low, high] = rangeOf(traces.flatMap((trace) => trace.y));
  plot(id, traces, {
    height: 360,
    shapes: lines,
    xaxis: { title: { text: "kept embedding parameters" }, type: "log",
      ...ticksOf(traces.flatMap((trace) => trace.x)) },
    yaxis: { title: { text: `${split} ${title}` }, tickformat: ".3f",
      // Of a single value Plotly would show what is up to 1 away.
      range: low < high ? undefined : [low - 0.01, low + 0.01] },
  });
}

function lessDense(model, dense, value) {
  if (!dense || dense === model || value(dense) === null) return "";
  const difference = value(model) - value(dense);
  const sign = difference < 0 ? "\u2212" : "+";
  return ` (${sign}${Math.abs(difference).toFixed(4)} to the full table)`;
}

function drawSteps() {
  const traces = [];
  for (const [place, run] of runs.entries()) {
    for (const [stage, curve] of Object.entries(run.kept ?? {})) {
      const look = lookOf(stage);
      const color = several ? COLORS[place % COLORS.length] : look.color;
      const label = stage === "search" ? "keras-pep" : look.label;
      traces.push({
        x: curve.steps, y: curve.kept, mode: "lines",
        name: plain(several ? `${run.name}: ${label}` : label),
        line: { color, width: 2, shape: "hv" },
        hoverinfo: "text",
        hovertext: curve.steps.map((step, i) => hover([
          several ? run.name : null, label,
          `step ${number(step)}: ` + (curve.errors[i]
            ? `about ${number(curve.kept[i])} kept, estimated, `
              + `standard error ${number(curve.errors[i])}`
            : `${number(curve.kept[i])} kept`),
        ])),
      });
      const taken = run.models.filter(
        (model) => model.kind === stage && model.search_step !== null);
      if (taken.length)
        traces.push({
          x: taken.map((model) => model.search_step),
          y: taken.map((model) => model.kept),
          mode: "markers", showlegend: false,
          // Where two end in the same place, both are to be seen.
          marker: { color, symbol: "diamond",
            size: stage === "search" ? 14 : 9,
            line: { color: css("--card"), width: 1.5 } },
          hoverinfo: "text",
          hovertext: taken.map((model) => hover([
            several ? run.name : null,
            `ticket of ${number(model.target)}`,
            `step ${number(model.search_step)}: ${number(model.kept)} kept`,
          ])),
        });
    }
  }
  if (!traces.length)
    return instead("steps", early ? "The search has not got so far yet."
      : "The run has not noted what was kept at which step: it is of an "
      + "earlier version of keras-pep.");
  plot("steps", traces, {
    height: 340,
    xaxis: { title: { text: "training steps of the search" },
      tickformat: ",d", rangemode: "tozero" },
    yaxis: { title: { text: "kept embedding parameters" }, type: "log",
      ...ticksOf(traces.flatMap((trace) => trace.y)) },
  });
}

function drawEpochs() {
  const traces = [];
  const named = new Set();
  for (const [place, run] of runs.entries()) {
    for (const stage of run.stages) {
      const [, method, budget] = /^(.*?)(?:-(\d+))?$/.exec(stage.name);
      const look = lookOf(method === "budget" ? "search" : method);
      const searches = !budget && method !== "dense";
      const color = several ? COLORS[place % COLORS.length] : look.color;
      const name = several ? run.name
        : look.label + (searches ? ": search" : "");
      traces.push({
        x: stage.epochs, y: stage.auc, mode: "lines+markers",
        name: plain(name), legendgroup: name, showlegend: !named.has(name),
        line: { color, width: 1.5, dash: searches ? "dot" : "solid" },
        marker: { color, size: 5 },
        hoverinfo: "text",
        hovertext: stage.epochs.map((epoch, n) => hover([
          several ? run.name : null,
          `${stage.name}, epoch ${number(epoch)}`,
          `validation AUC ${figure(stage.auc[n])}, `
            + `log-loss ${figure(stage.logloss[n])}`,
          `training loss ${figure(stage.loss[n])}`,
          `${number(stage.kept[n])} kept`,
        ])),
      });
      named.add(name);
    }
  }
  if (!traces.length)
    return instead("epochs", early ? "No epoch is over yet."
      : "The run has not noted its epochs.");
  plot("epochs", traces, {
    height: 360,
    xaxis: { title: { text: "epoch" }, tickformat: ",d" },
    yaxis: { title: { text: "validation AUC" }, tickformat: ".3f" },
  });
}

function drawFrequency() {
  const traces = [];
  const notes = [];
  for (const [place, run] of runs.entries()) {
    const choice = chosen(run);
    if (!choice || run.features.drawn.count === null) {
      notes.push(`${several ? `${run.name} ` : "The run "}${
        run.features && run.features.drawn.count === null
          ? "has not noted how often training has each feature."
          : "has no such field, or no budget."}`);
      continue;
    }
    const { drawn, fields } = run.features;
    const of = run.features.budgets[choice.budget];
    const shown = [...drawn.field.keys()].filter(
      (i) => choice.field < 0 || drawn.field[i] === choice.field);
    const groups = new Map();
    // A colour per field, as long as there are not too many to tell apart.
    const apart = !several && fields.length <= COLORS.length;
    for (const i of shown) {
      const group = apart ? drawn.field[i] : place;
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(i);
    }
    const sizes = drawn.sizes[choice.budget];
    for (const [group, places] of groups) {
      const label = apart ? fields[group].name
        : several ? run.name : "a feature";
      traces.push({
        x: places.map((i) => drawn.count[i] || NEVER),
        y: places.map((i) => sizes[i] + scatter(i)),
        mode: "markers", name: plain(label),
        marker: { color: COLORS[group % COLORS.length], size: 6,
          opacity: 0.55 },
        hoverinfo: "text",
        hovertext: places.map((i) => hover([
          several ? run.name : null,
          `${fields[drawn.field[i]].name}: ${drawn.name[i]}`,
          `${number(drawn.count[i])} times in training`,
          `${number(sizes[i])} entries kept`,
        ])),
      });
    }
    const trend = of.trends[choice.field + 1];
    if (trend?.count.length)
      traces.push({
        x: trend.count, y: trend.size, mode: "lines+markers",
        name: plain(several ? `${run.name}: mean` : "mean of all"),
        line: { color: several ? COLORS[place % COLORS.length] : css("--ink"),
          width: 2.5 },
        marker: { size: 7, symbol: "diamond" },
        hoverinfo: "text",
        hovertext: trend.count.map((count, i) => hover([
          several ? run.name : null,
          `${number(trend.features[i])} features, about `
            + `${number(Math.round(count))} times in training each`,
          `${trend.size[i].toFixed(2)} entries kept on average`,
        ])),
      });
    notes.push(noteOf(run, of, groups));
  }
  if (traces.length)
    notes.push("Means are of all features, by powers of two of how often they "
      + "occur. Points are moved up or down by up to 0.3, so as not to hide "
      + "each other.");
  element("frequency-note").textContent = notes.join(" ");
  if (!traces.length) return instead("frequency", "");
  plot("frequency", traces, {
    height: 440,
    xaxis: { title: { text: "times a feature is in the training rows" },
      type: "log", ...ticksOf(traces.flatMap((trace) => trace.x)) },
    yaxis: { title: { text: "embedding size (entries kept)" },
      rangemode: "tozero" },
  });
}

function noteOf(run, of, groups) {
  const drawn = sum([...groups.values()].map((places) => places.length));
  const { unseen, count } = run.features;
  const field = chosenField() !== undefined;
  return (several ? `${run.name}, budget ${number(of.target)}: ` : "")
    + `${number(drawn)} ${field ? "features of the field" : `of ${
      number(count)} features`} are drawn`
    + (!field && drawn < count ? ", frequent ones more densely" : "")
    + (unseen && !field ? `, and at the left those in no training row, of which `
      + `there ${unseen > 1 ? "are" : "is"} ${number(unseen)}.` : ".");
}

function drawTop() {
  const shown = [];
  for (const [place, run] of runs.entries()) {
    const choice = chosen(run);
    if (!choice) continue;
    const { drawn, fields, budgets } = run.features;
    const { target, top } = budgets[choice.budget];
    const sizes = drawn.sizes[choice.budget];
    const title = `${run.name}, budget ${number(target)}`;
    shown.push([place, title, top[choice.field + 1].map((i) => ({
      name: choice.field < 0
        ? `${drawn.name[i]} (${fields[drawn.field[i]].name})` : drawn.name[i],
      value: sizes[i],
      text: number(sizes[i]),
      color: several ? COLORS[place % COLORS.length]
        : fields.length <= COLORS.length ? COLORS[drawn.field[i]]
          : COLORS[0],
      hover: hover([
        several ? run.name : null,
        `${fields[drawn.field[i]].name}: ${drawn.name[i]}`,
        drawn.count ? `${number(drawn.count[i])} times in training` : null,
        `${number(sizes[i])} entries kept`,
      ]),
    }))]);
  }
  const box = element("top");
  for (const chart of box.querySelectorAll(".chart")) Plotly.purge(chart);
  fill("top");
  for (const [place, title, bars] of shown) {
    if (several) box.append(made("h4", title));
    if (!bars.length) {
      box.append(made("p", "Nothing was kept of this field.", "note"));
      continue;
    }
    const chart = made("div", "", "chart");
    chart.id = `top-${place}`;
    box.append(chart);
    drawBars(chart.id, bars, "embedding size (entries kept)");
  }
}

function drawFields(id, value, title, format) {
  const bars = [];
  const field = chosenField();
  const apart = !several && allFields.length <= COLORS.length;
  for (const [key] of allFields) {
    for (const [place, run] of runs.entries()) {
      const choice = chosen(run);
      const i = choice ? placeOf(key, run) : -1;
      if (i < 0) continue;
      const of = run.features.budgets[choice.budget];
      const each = run.features.fields[i];
      const share = format(value(of, each, i));
      bars.push({
        name: several ? `${each.name}, ${run.name}` : each.name,
        value: value(of, each, i),
        text: share,
        color: COLORS[(several ? place : apart ? i : 0) % COLORS.length],
        faint: field !== undefined && field !== key,
        hover: hover([
          several ? run.name : null,
          each.name,
          `${number(of.kept[i])} entries kept: ${share}`,
          `something is left of ${number(of.left[i])} of `
            + `${number(each.features)} features`,
        ]),
      });
    }
  }
  drawBars(id, bars, title, format === percent ? ".0%" : undefined);
}

function drawBytes() {
  const bars = [];
  for (const [place, run] of runs.entries()) {
    for (const model of run.models) {
      const name = model.kind === "dense" ? "full table" : model.name;
      bars.push({
        name: several ? `${run.name}: ${name}` : name,
        value: model.bytes,
        text: model.size,
        color: several ? COLORS[place % COLORS.length]
          : lookOf(model.kind).color,
        hover: hover([
          several ? run.name : null, name, `${number(model.bytes)} bytes`,
        ]),
      });
    }
  }
  drawBars("bytes", bars, "bytes of all weights", "~s");
}

// Bars from the top down. They are known by their places: names may be the
// same, or look like numbers.
function drawBars(id, bars, title, tickformat) {
  if (!bars.length) return instead(id, "Nothing is known yet.");
  const places = bars.map((_, i) => i);
  const values = bars.map((bar) => bar.value);
  const longest = narrow() ? 18 : 40;
  plot(id, [{
    type: "bar", orientation: "h", y: places,
    x: values,
    text: bars.map((bar) => plain(bar.text)), textposition: "outside",
    textangle: 0, cliponaxis: false,
    marker: {
      color: bars.map((bar) => bar.color),
      opacity: bars.map((bar) => bar.faint ? 0.3 : 1),
    },
    hoverinfo: "text", hovertext: bars.map((bar) => bar.hover),
  }], {
    height: ROW * bars.length + 70,
    bargap: 0.25, showlegend: false,
    margin: { t: 8, r: 16, b: 44, l: 8 },
    xaxis: { title: { text: title }, tickformat,
      range: [0, endOf(bars, element(id).clientWidth)] },
    yaxis: {
      tickvals: places, autorange: "reversed", automargin: true,
      ticktext: bars.map((bar) => `${plain(cut(bar.name, longest))} `),
      showgrid: false, fixedrange: true,
    },
  });
}

// Where the axis of bars ends, so that the text behind each has room.
function endOf(bars, width) {
  const labels = Math.max(...bars.map((bar) => bar.name.length));
  const room = Math.max(120, width - 7 * Math.min(labels, narrow() ? 18 : 40));
  return Math.max(1e-9, ...bars.map((bar) =>
    bar.value / Math.max(0.2, 1 - 8 * (bar.text.length + 2) / room)));
}

// Plotly

function plot(id, traces, layout) {
  const touch = matchMedia("(pointer: coarse)").matches;
  const axis = {
    gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false,
    tickcolor: css("--line"), automargin: true,
    title: { standoff: 8, font: { size: 13 } },
  };
  // Where every name has a line of its own, the legend needs room.
  const names = traces.filter((trace) => trace.showlegend !== false).length;
  const legend = several && narrow() ? 17 * names : 0;
  const merged = (own) => ({
    ...axis, ...own, title: { ...axis.title, ...own?.title },
  });
  if (!element(id).data) fill(id); // there may be a note instead
  Plotly.react(id, traces, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 13, color: css("--ink") },
    hoverlabel: { align: "left", bgcolor: css("--page"),
      bordercolor: css("--line"), font: { color: css("--ink"), size: 13 } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0,
      font: { size: 12 } },
    showlegend: traces.length > 1,
    margin: { t: 8, r: 12, b: 48, l: 52 },
    hovermode: "closest",
    // A finger on a chart scrolls the page.
    dragmode: touch ? false : "zoom",
    ...layout,
    height: layout.height + legend,
    xaxis: merged(layout.xaxis),
    yaxis: merged(layout.yaxis),
  }, {
    responsive: true, displaylogo: false,
    typesetMath: false, // of names with two dollar signs
    displayModeBar: touch ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
}

function instead(id, text) {
  Plotly.purge(id);
  fill(id, made("p", text, "note"));
}

function rangeOf(values) {
  return values.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, -Infinity]);
}

// Of a logarithmic axis: the more of them, the fewer decades there are.
function ticksOf(values) {
  const [low, high] = rangeOf(values);
  const decades = Math.log10(high / Math.max(low, NEVER));
  const firsts = decades > (narrow() ? 1.7 : 3) ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = 0; power <= 12; power++)
    for (const first of firsts) ticks.push(first * 10 ** power);
  return { tickvals: ticks, ticktext: ticks.map(briefly) };
}

function lookOf(kind) {
  return KINDS.get(kind)
    ?? { color: COLORS[5], symbol: "circle", label: kind };
}

function grouped(models) {
  const groups = new Map();
  for (const model of models) {
    if (!groups.has(model.kind)) groups.set(model.kind, []);
    groups.get(model.kind).push(model);
  }
  return groups;
}

// Up to 0.3 up or down, always the same for the same point.
function scatter(place) {
  return ((place * 0.618034) % 1 - 0.5) * 0.6;
}

// Text

// Plotly takes `<b>` and `&lt;` in text for what they are in HTML.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;")
    .replace(/>/g, "&gt;");
}

function hover(lines) {
  return lines.filter((line) => line !== null)
    .map((line) => plain(cut(line, 60))).join("<br>");
}

function cut(text, longest) {
  const characters = [...String(text)];
  if (characters.length <= longest) return text;
  const end = Math.floor(longest / 4);
  return `${characters.slice(0, longest - end - 1).join("")}\u2026`
    + characters.slice(-end).join("");
}

function number(value) {
  return value.toLocaleString("en-US", { maximumFractionDigits: 2 });
}

function figure(value) {
  return value === null ? "\u2013" : value.toFixed(4);
}

function percent(value) {
  return `${(100 * value).toFixed(1)}%`;
}

function briefly(value) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (value >= size) return `${value / size}${unit}`;
  return String(value);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

// The document

function element(id) {
  return document.getElementById(id);
}

function fill(id, ...nodes) {
  element(id).textContent = "";
  element(id).append(...nodes);
}

function made(tag, text, name = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = name;
  return node;
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name)
    .trim();
}

function narrow() {
  return matchMedia("(max-width: 760px)").matches;
}

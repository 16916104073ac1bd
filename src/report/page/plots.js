
"use strict";
// The report's data, as src/app/report/contract.rs writes it.
const report = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const tip = document.getElementById("tip");

// ---- Elements and numbers ------------------------------------------------------------------------------------

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A number with `digits` significant digits. */
function format(value, digits = 4) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  let text;
  if (size !== 0 && (size >= 1e7 || size < 1e-3)) text = value.toExponential(Math.min(digits - 1, 2)).replace("e+", "e");
  else if (Number.isInteger(value)) text = value.toLocaleString("en-US");
  else if (size >= 1000) text = value.toLocaleString("en-US", { maximumFractionDigits: 1 });
  else text = String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}
/** A score or return as tables have them. */
const rounded = (value) => (isNumber(value) ? value.toFixed(1).replace("-", "−") : "–");
function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 90) return `${format(seconds, 3)} s`;
  if (seconds < 5400) return `${format(seconds / 60, 3)} min`;
  return `${format(seconds / 3600, 3)} h`;
}
const short = (value) => {
  const size = Math.abs(value);
  if (size >= 1e9) return `${format(value / 1e9, 3)}G`;
  if (size >= 1e6) return `${format(value / 1e6, 3)}M`;
  if (size >= 1e4) return `${format(value / 1e3, 3)}k`;
  return format(value, 3);
};

/** Round places of an axis: about `count` of them. */
function ticks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
    for (const factor of high - low < 1.5 ? [1, 2, 5] : [1]) {
      const place = power + Math.log10(factor);
      if (place >= low - 1e-9 && place <= high + 1e-9) found.push(10 ** place);
    }
  }
  return found.length > 7 ? found.filter((_, i) => i % Math.ceil(found.length / 6) === 0) : found;
}

/** 97.5 % quantile of Student's t distribution: the factor of a 95 % interval of a mean. */
function studentT(freedom) {
  const table = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
    2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042];
  return table[freedom - 1] || 1.96 + 2.4 / freedom;
}
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values) => Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2)));

// ---- Plots ---------------------------------------------------------------------------------------------------

/** A place for a drawing that is made again whenever its width changes. */
function canvas(draw) {
  const host = el("div", { class: "plot" });
  let width = 0;
  const redraw = () => {
    if (width > 0) host.replaceChildren(draw(width));
  };
  new ResizeObserver(() => {
    const now = Math.floor(host.clientWidth);
    if (now !== width) {
      width = now;
      redraw();
    }
  }).observe(host);
  return { host, redraw };
}

function showTip(event, head, rows) {
  const body = rows.map(([look, name, value]) =>
    el("tr", {}, el("td", {}, look ? swatch(look) : "", name), el("td", { class: "number" }, value)));
  tip.replaceChildren(el("div", { class: "head" }, head), el("table", {}, el("tbody", {}, body)));
  tip.hidden = false;
  const { innerWidth, innerHeight } = window;
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - 16 - box.width : event.clientX + 16;
  const top = event.clientY + 16 + box.height > innerHeight ? event.clientY - 16 - box.height : event.clientY + 16;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - box.width - 4))}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}
const hideTip = () => {
  tip.hidden = true;
};

/** How a series looks: a color, and dashes where there are more series than colors. */
const look = (index) => ({ color: `s${index % 7}`, dashes: ["", "7 4", "2 4"][Math.floor(index / 7) % 3] });
function swatch(of) {
  const line = svg("path", { d: "M0 5H22", "stroke-dasharray": of.dashes || null });
  return svg("svg", { class: `swatch ${of.color}`, viewBox: "0 0 22 10", "aria-hidden": "true" }, line);
}

/** Index of the point of `points` that is nearest to `x`; they ascend. */
function nearest(points, x) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle;
    else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? low : high;
}

let plots = 0;

/**
 * A plot of lines over one axis, with a tooltip of all of them at the cursor.
 *
 * `lines`: {name, look, points: [[x, y], ...], low, high (bands, as long as points), kind: "" | "thin" | "faint" | "reference",
 * dots, tell: (index) => text}. `cursor`: the plot follows `setCursor`, and calls `pick(x)` when it is pointed at.
 */
function plot(spec) {
  const state = { log: Boolean(spec.log), cursor: null, overlay: [], shown: null, hover: null };
  let scales = null;
  plots += 1;
  const clip = `clip-${plots}`;
  const usable = (value) => isNumber(value) && (!state.log || value > 0);

  function extent(lines, fixed) {
    let [low, high] = [Infinity, -Infinity];
    const take = (value) => {
      if (usable(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
    };
    lines.forEach((line) => line.points.forEach((point) => take(point[1])));
    (fixed || []).forEach(take);
    if (low > high) return null;
    // Bands may take as much room as the lines again; a wider one is cut.
    const room = high - low || Math.abs(high) || 1;
    const [least, most] = [low - room * 0.7, high + room * 0.7];
    for (const line of lines.filter((one) => one.low)) {
      [...line.low, ...line.high].filter(isNumber).forEach((value) => take(Math.max(least, Math.min(most, value))));
    }
    if (state.log) {
      const [a, b] = [Math.log10(low), Math.log10(high)];
      return a === b ? [a - 0.5, b + 0.5] : [a - (b - a) * 0.04, b + (b - a) * 0.04];
    }
    const margin = low === high ? Math.abs(low) * 0.1 || 0.5 : (high - low) * 0.06;
    return [low - margin, high + margin];
  }

  function path(points, x, y) {
    let text = "";
    let pen = "M";
    for (const [at, value] of points) {
      if (!usable(value) || !isNumber(at)) {
        pen = "M";
        continue;
      }
      text += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
    return text;
  }

  function drawBand(line, x, y) {
    const group = svg("g", { class: line.look.color });
    if (line.low && !line.dots) {
      const there = line.points.map((point, i) => [point[0], line.low[i], line.high[i]]).filter((p) => usable(p[1]) && usable(p[2]));
      const edge = [...there.map((p) => [p[0], p[2]]), ...there.reverse().map((p) => [p[0], p[1]])];
      if (edge.length > 2) group.append(svg("path", { class: "band", d: `${path(edge, x, y)}Z`, "clip-path": `url(#${clip})` }));
    }
    return group;
  }

  function drawLine(line, x, y) {
    const parts = [];
    if (line.join !== false) {
      const d = path(line.points, x, y);
      if (d) parts.push(svg("path", { class: `line ${line.kind || ""}`, d, "stroke-dasharray": line.look.dashes || null }));
    }
    const places = line.points.filter(([, value]) => usable(value));
    if (line.dots || (places.length === 1 && line.kind !== "faint")) {
      line.points.forEach(([at, value], i) => {
        if (!usable(value)) return;
        if (line.low) {
          parts.push(svg("path", { class: "whisker", "clip-path": `url(#${clip})`, d: `M${x(at)} ${y(Math.max(line.low[i], scales.bottom))}V${y(line.high[i])}` }));
        }
        parts.push(svg("circle", { class: "dot", cx: x(at).toFixed(1), cy: y(value).toFixed(1), r: 4 }));
      });
    }
    return svg("g", { class: line.look.color }, parts);
  }

  const area = canvas((width) => {
    const lines = spec.lines;
    const height = spec.height || 220;
    const yRange = extent([...lines, ...state.overlay], spec.yInclude);
    if (!yRange) {
      scales = null;
      const text = state.log ? "No value above 0: nothing for a logarithmic axis." : "No number to draw.";
      return svg("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text },
        svg("text", { x: 8, y: 24 }, text));
    }
    const xs = lines.flatMap((line) => line.points.map((point) => point[0]));
    let [left, right] = spec.xRange || [Math.min(...xs), Math.max(...xs)];
    if (left === right) [left, right] = [left - (Math.abs(left) * 0.1 || 1), right + (Math.abs(right) * 0.1 || 1)];
    const yTicks = state.log ? logTicks(...yRange) : ticks(...yRange, height < 150 ? 3 : 5);
    const texts = yTicks.map((value) => short(value));
    const margin = { left: Math.max(spec.left || 0, 12 + 6.4 * Math.max(...texts.map((text) => text.length), 2)), right: 10, top: 8, bottom: spec.xLabel ? 38 : 22 };
    const unit = (value) => (state.log ? Math.log10(value) : value);
    const x = (value) => margin.left + ((value - left) / (right - left)) * (width - margin.left - margin.right);
    const y = (value) => height - margin.bottom - ((unit(value) - yRange[0]) / (yRange[1] - yRange[0])) * (height - margin.top - margin.bottom);
    scales = { x, y, left, right, margin, width, height, bottom: state.log ? 10 ** yRange[0] : yRange[0] };

    const root = svg("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", "aria-label": spec.label });
    yTicks.forEach((value, i) => {
      root.append(svg("line", { class: "grid-line", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }),
        svg("text", { x: margin.left - 6, y: y(value) + 4, "text-anchor": "end" }, texts[i]));
    });
    const room = width - margin.left - margin.right;
    const xTicks = ticks(left, right, Math.max(2, spec.xTick ? room / 34 : Math.min(7, room / 75)));
    for (const value of spec.xTick ? xTicks.filter((place) => spec.xTick(place)) : xTicks) {
      root.append(svg("line", { class: "axis-line", x1: x(value), x2: x(value), y1: height - margin.bottom, y2: height - margin.bottom + 4 }),
        svg("text", { x: x(value), y: height - margin.bottom + 16, "text-anchor": "middle" }, spec.xTick ? spec.xTick(value) : short(value)));
    }
    root.append(svg("line", { class: "axis-line", x1: margin.left, x2: width - margin.right, y1: height - margin.bottom, y2: height - margin.bottom }));
    root.append(svg("clipPath", { id: clip }, svg("rect", { x: margin.left, y: margin.top, width: room, height: height - margin.top - margin.bottom })));
    if (spec.xLabel) root.append(svg("text", { x: margin.left + room / 2, y: height - 4, "text-anchor": "middle" }, spec.xLabel));
    if (spec.diagonal) {
      const [from, to] = [Math.max(left, yRange[0]), Math.min(right, yRange[1])];
      if (from < to) root.append(svg("line", { class: "diagonal", x1: x(from), y1: y(from), x2: x(to), y2: y(to) }));
    }
    lines.forEach((line) => root.append(drawBand(line, x, y)));
    lines.forEach((line) => root.append(drawLine(line, x, y)));
    state.shown = svg("g", { class: "overlay" });
    state.hover = svg("g", { class: "hover" });
    root.append(state.shown, state.hover);
    listen(root);
    drawCursor();
    return root;
  });

  function drawCursor() {
    if (!scales) return;
    const { x, y, margin, height, left, right } = scales;
    state.shown.replaceChildren(...state.overlay.map((line) => drawLine(line, x, y)));
    if (!isNumber(state.cursor)) return;
    const at = x(Math.max(left, Math.min(right, state.cursor)));
    state.shown.append(svg("line", { class: "cursor", x1: at, x2: at, y1: margin.top, y2: height - margin.bottom }));
    for (const line of spec.lines.filter((one) => one.kind !== "reference")) {
      const [px, py] = line.points[nearest(line.points, state.cursor)] || [];
      if (usable(py)) state.shown.append(svg("g", { class: line.look.color }, svg("circle", { class: "dot", cx: x(px), cy: y(py), r: 4 })));
    }
  }

  /** Values of all lines at the place of theirs that is nearest to `value`. */
  function tell(value, event) {
    const { x, y, margin, height } = scales;
    const candidates = spec.lines.filter((line) => line.kind !== "faint" && line.points.length);
    let at = null;
    for (const line of candidates) {
      const place = line.points[nearest(line.points, value)][0];
      if (at === null || Math.abs(place - value) < Math.abs(at - value)) at = place;
    }
    if (at === null) return null;
    state.hover.replaceChildren(svg("line", { class: "cursor", x1: x(at), x2: x(at), y1: margin.top, y2: height - margin.bottom }));
    const rows = [];
    for (const line of candidates) {
      const index = nearest(line.points, at);
      const [px, py] = line.points[index];
      const slack = (scales.right - scales.left) * 0.04;
      if (!isNumber(py) || Math.abs(px - at) > slack) continue;
      if (usable(py)) state.hover.append(svg("g", { class: line.look.color }, svg("circle", { class: "dot", cx: x(px), cy: y(py), r: 4 })));
      rows.push([line.look, line.name, line.tell ? line.tell(index) : format(py)]);
    }
    const head = spec.xTell ? spec.xTell(at) : `${spec.xLabel || "x"}: ${format(at, 6)}`;
    showTip(event, head, rows.length > 24 ? [...rows.slice(0, 24), [null, `and ${rows.length - 24} more`, ""]] : rows);
    return at;
  }

  function listen(root) {
    const place = (event) => {
      const box = root.getBoundingClientRect();
      const share = (event.clientX - box.left - scales.margin.left) / (scales.width - scales.margin.left - scales.margin.right);
      return scales.left + Math.max(0, Math.min(1, share)) * (scales.right - scales.left);
    };
    let focus = null;
    root.addEventListener("pointermove", (event) => {
      tell(place(event), event);
      if (spec.pick && event.buttons) spec.pick(place(event));
    });
    root.addEventListener("pointerdown", (event) => {
      tell(place(event), event);
      if (spec.pick) spec.pick(place(event));
    });
    const leave = () => {
      state.hover.replaceChildren();
      hideTip();
    };
    root.addEventListener("pointerleave", leave);
    root.addEventListener("blur", leave);
    root.addEventListener("keydown", (event) => {
      if (spec.pick || !["ArrowLeft", "ArrowRight", "Escape"].includes(event.key)) return;
      event.preventDefault();
      if (event.key === "Escape") return leave();
      const places = [...new Set(spec.lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
      const now = focus === null ? (event.key === "ArrowLeft" ? places.length : -1) : places.indexOf(focus);
      focus = places[Math.max(0, Math.min(places.length - 1, now + (event.key === "ArrowLeft" ? -1 : 1)))];
      const box = root.getBoundingClientRect();
      tell(focus, { clientX: box.left + scales.x(focus), clientY: box.top + 20 });
    });
  }

  return {
    host: area.host,
    setLog(log) {
      state.log = log;
      area.redraw();
    },
    setCursor(value) {
      state.cursor = value;
      drawCursor();
    },
    /** Further lines, on axes that hold them if they are `fitted` before. */
    setOverlay(lines) {
      state.overlay = lines;
      drawCursor();
    },
    redraw: area.redraw,
  };
}

/** A plot with a caption above it; with a switch for a logarithmic axis if asked for. */
function figure(caption, chart, options = {}) {
  const head = el("figcaption", {}, el("span", {}, caption, options.unit ? el("span", { class: "unit" }, ` ${options.unit}`) : ""));
  if (options.log) {
    const button = el("button", { type: "button", class: "small", "aria-pressed": "false", "aria-label": `Logarithmic axis of ${caption}` }, "log");
    const set = (on) => {
      button.setAttribute("aria-pressed", String(on));
      chart.setLog(on);
    };
    button.addEventListener("click", () => set(button.getAttribute("aria-pressed") !== "true"));
    options.log.push(set);
    head.append(button);
  }
  return el("figure", {}, head, chart.host);
}

function legend(entries) {
  return el("ul", { class: "legend" }, entries.map(([of, name]) => el("li", {}, swatch(of), name)));
}

function histogram(hist, label) {
  const total = hist.counts.reduce((sum, count) => sum + count, 0);
  const most = Math.max(...hist.counts, 1);
  return canvas((width) => {
    const counts = ticks(0, most, 2).filter((count) => Number.isInteger(count));
    const texts = counts.map((count) => short(count));
    const left = 12 + 6.4 * Math.max(...texts.map((text) => text.length), 1);
    const [height, right, bottom, top] = [126, 10, 22, 8];
    const y = (count) => height - bottom - (count / most) * (height - bottom - top);
    const room = width - left - right;
    const bar = room / hist.counts.length;
    const edge = (i) => hist.low + ((hist.high - hist.low) * i) / hist.counts.length;
    const root = svg("svg", { class: "chart s0", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Histogram of ${label}: ${total} values from ${format(hist.low)} to ${format(hist.high)}` });
    counts.forEach((count, i) => root.append(svg("line", { class: "grid-line", x1: left, x2: width - right, y1: y(count), y2: y(count) }),
      svg("text", { x: left - 6, y: y(count) + 4, "text-anchor": "end" }, texts[i])));
    hist.counts.forEach((count, i) => {
      root.append(svg("rect", { class: "bar", x: left + i * bar + 0.5, width: Math.max(0.5, bar - 1), y: y(count), height: height - bottom - y(count) }));
    });
    root.append(svg("line", { class: "axis-line", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
    const places = ticks(hist.low, hist.high, Math.max(3, Math.min(6, room / 55)));
    for (const value of hist.high > hist.low ? places : [hist.low]) {
      const at = hist.high > hist.low ? left + ((value - hist.low) / (hist.high - hist.low)) * room : left + room / 2;
      const anchor = at > width - 24 ? "end" : "middle";
      root.append(svg("line", { class: "axis-line tick", x1: at, x2: at, y1: height - bottom, y2: height - bottom + 4 }),
        svg("text", { x: anchor === "end" ? width : at, y: height - 5, "text-anchor": anchor }, short(value)));
    }
    root.addEventListener("pointermove", (event) => {
      const i = Math.floor((event.clientX - root.getBoundingClientRect().left - left) / bar);
      if (i < 0 || i >= hist.counts.length) return hideTip();
      const share = `${format((100 * hist.counts[i]) / Math.max(total, 1), 3)} %`;
      showTip(event, `${label}: ${format(edge(i))} to ${format(edge(i + 1))}`, [[null, "count", format(hist.counts[i])], [null, "share", share]]);
    });
    root.addEventListener("pointerleave", hideTip);
    return root;
  });
}

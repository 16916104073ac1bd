
// ---- Page ----------------------------------------------------------------------------------------------------

const sections = [];
function section(id, title, hint) {
  const body = el("div", { class: "body" });
  const heading = el("h2", { id: `${id}-heading` }, title);
  main.append(el("section", { id, "aria-labelledby": `${id}-heading` }, heading, hint ? el("p", { class: "hint" }, coded(hint)) : null, body));
  sections.push([id, title]);
  return body;
}
/** Text whose words between backquotes are code. */
const coded = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part));
/** What is missing. */
function empty(text) {
  return el("p", { class: "empty" }, coded(text));
}

const runs = report.runs.map((run, index) => ({ ...run, index, chosen: true, matches: true }));
const isShown = (run) => run.chosen && run.matches;
/** A name that no plot or table need make room for: its middle is left out where it is long. */
function middleless(name, most = 40) {
  const letters = [...name];
  if (letters.length <= most) return name;
  const end = Math.floor((most - 1) / 2);
  return `${letters.slice(0, most - 1 - end).join("")}…${letters.slice(-end).join("")}`;
}
const series = report.series.map((one, index) => ({
  ...one, index, name: middleless(one.name), full: one.name, look: look(index), all: one.runs.map((i) => runs[i]),
}));
const ofRun = (run) => series[run.series];
const unitOf = (one) => (one.normalized ? "normalised score" : "return");
const runLabel = (run) => (ofRun(run).all.length > 1 ? `${ofRun(run).name}, seed ${run.seed}` : ofRun(run).name);
const columns = (run, normalized) => {
  const table = run.evaluations;
  return normalized ? [table.score_mean, table.score_std] : [table.return_mean, table.return_std];
};

/** Points of a series over the runs of it that are shown: update, seconds, mean, deviation, and over how many. */
function curve(one, members) {
  if (!members.length) return [];
  const points = [];
  members[0].evaluations.update.forEach((update) => {
    const rows = members.map((run) => run.evaluations.update.indexOf(update));
    if (rows.includes(-1)) return;
    const values = members.map((run, i) => columns(run, one.normalized)[0][rows[i]]);
    if (!values.every(isNumber)) return;
    const single = members.length === 1;
    points.push({
      update,
      seconds: mean(members.map((run, i) => run.evaluations.seconds[rows[i]])),
      mean: mean(values),
      deviation: single ? columns(members[0], one.normalized)[1][rows[0]] : deviation(values),
      count: single ? members[0].evaluations.episodes[rows[0]] : members.length,
      over: single ? "episodes" : "seeds",
    });
  });
  return points;
}
/** Half the width of a point's band. */
function half(point, band) {
  if (band === "deviation") return point.deviation;
  return point.count > 1 ? (studentT(point.count - 1) * point.deviation) / Math.sqrt(point.count - 1) : 0;
}
const spread = (point, band) => (point.count > 1 ? `${rounded(point.mean)} ± ${rounded(half(point, band))}` : rounded(point.mean));

/** Series that share environment and unit, and so an axis. */
function groups() {
  const found = new Map();
  for (const one of series) {
    const members = one.all.filter(isShown);
    if (!members.length || !members.some((run) => run.evaluations.update.length)) continue;
    const key = `${one.env || "environment not named"}, ${unitOf(one)}`;
    if (!found.has(key)) found.set(key, []);
    found.get(key).push({ one, members, points: curve(one, members.filter((run) => run.evaluations.update.length)) });
  }
  return found;
}

const redraws = [];
const refresh = () => redraws.forEach((redraw) => redraw());

function choice(label, options, act) {
  const select = el("select", { onchange: () => act(select.value) }, options.map(([value, text]) => el("option", { value }, text)));
  return el("label", {}, label, select);
}
function tick(label, on, act) {
  const box = el("input", { type: "checkbox", checked: on, onchange: () => act(box.checked) });
  return el("label", {}, box, label);
}

// ---- Head ----------------------------------------------------------------------------------------------------

function head() {
  document.getElementById("title").textContent = report.title;
  const environments = [...new Set(series.map((one) => one.env).filter(Boolean))];
  const algorithms = [...new Set(series.map((one) => one.algorithm))];
  const plural = (count, word, words = `${word}s`) => `${count} ${count === 1 ? word : words}`;
  const parts = [plural(runs.length, "run"), plural(series.length, "series", "series"), algorithms.join(", "), environments.join(", ")];
  document.getElementById("summary").textContent = parts.filter(Boolean).join(" · ");
  const button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const words = { auto: "Auto", light: "Light", dark: "Dark" };
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || "auto";
    const next = themes[(themes.indexOf(now) + 1) % 3];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    button.textContent = words[next];
    button.setAttribute("aria-label", `Colors: ${next === "auto" ? "as the system has them" : next}`);
  });
}

function navigation() {
  const links = sections.map(([id, title]) => el("a", { href: `#${id}` }, title));
  document.getElementById("nav").append(el("ul", {}, links.map((link) => el("li", {}, link))));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    entries.forEach((entry) => (entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id)));
    const first = sections.find(([id]) => seen.has(id));
    links.forEach((link, i) => {
      if (first && sections[i][0] === first[0]) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  }, { rootMargin: "-60px 0px -55% 0px" });
  sections.forEach(([id]) => watch.observe(document.getElementById(id)));
}

// ---- Runs ----------------------------------------------------------------------------------------------------

const last = (list) => list[list.length - 1];

/** A value of a configuration, as TOML writes it: its text without quotes, and the elements of a list beside the whole. */
function valuesOf(toml) {
  const plain = (text) => text.trim().replace(/^(["'])(.*)\1$/s, "$2");
  const list = /^\[(.*)\]$/s.exec(toml.trim());
  return [plain(toml), ...(list ? list[1].split(/,(?=(?:[^"]*"[^"]*")*[^"]*$)/).map(plain) : [])];
}
/** Whether a value is the one that is asked for: numbers by what they are, everything else by its whole text. */
function isValue(found, asked) {
  const tight = (text) => text.toLowerCase().replace(/\s+/g, "");
  const number = (text) => (/^[+-]?(\d|\.\d)[\d_.]*(e[+-]?\d+)?$/i.test(text) ? Number(text.replaceAll("_", "")) : null);
  return (number(found) !== null && number(found) === number(asked)) || tight(found) === tight(asked);
}
/** What a filter asks of a run: each word `key=value` the whole value of that key, all others are parts of its text. */
function filterOf(query) {
  // What stands between quotes or brackets may have spaces.
  const words = query.match(/(?:"[^"]*"?|\[[^\]]*\]?|[^\s"[])+/g) || [];
  return words.map((word) => {
    const plain = word.replaceAll('"', "").toLowerCase();
    const pair = /^([\w.*-]+)=(.*)$/s.exec(word);
    const known = pair && runs.some((run) => settingsOf(run, pair[1]).length);
    if (!known) return (run) => run.text.includes(plain);
    // While it is typed, the key alone.
    const asked = pair[2].replaceAll('"', "");
    return (run) => {
      const found = settingsOf(run, pair[1]);
      return asked === "" ? found.length > 0 : found.some((value) => isValue(value, asked));
    };
  });
}
/** Values of a key of a run: its name in full or its last parts, or a column of the table. */
function settingsOf(run, asked) {
  const key = asked.toLowerCase().replace(/^algorithm\.\*\./, "");
  const columns = { run: [runLabel(run), ofRun(run).full], algorithm: [run.algorithm], environment: [run.env || ""], env: [run.env || ""], data: [dataName(run)], path: [run.path] };
  const settings = Object.entries(run.config).map(([name, toml]) => [name.toLowerCase(), toml]);
  const exact = settings.filter(([name]) => name === key);
  if (Object.hasOwn(columns, key) || exact.length) return [...(columns[key] || []), ...exact.flatMap(([, toml]) => valuesOf(toml))];
  return settings.filter(([name]) => name.endsWith(`.${key}`)).flatMap(([, toml]) => valuesOf(toml));
}
function runTable() {
  const body = section("runs", "Runs", "The plots below show the rows that are ticked and match the filter: `seed=1` or `env=pendulum-v1` is a whole value of that key, other words are parts of names and settings. ± is the standard deviation over the episodes of the last evaluation; the best evaluation stands beside the last, which is the result.");
  const score = (run) => last(columns(run, ofRun(run).normalized)[0]);
  const heads = [
    { name: "Run", value: (run) => runLabel(run) },
    { name: "Algorithm", value: (run) => run.algorithm },
    { name: "Environment", value: (run) => run.env || "" },
    { name: "Data", value: (run) => dataName(run) },
    { name: "Seed", number: true, value: (run) => run.seed },
    { name: "Updates", number: true, value: (run) => run.done },
    { name: "Time", number: true, value: (run) => run.seconds },
    { name: "Last", number: true, value: score },
    { name: "Best", number: true, value: (run) => (run.best ? run.best.score : null) },
  ];
  const count = el("span", { role: "status" });
  const filter = el("input", { type: "search", placeholder: "Filter: text, or key=value", "aria-label": "Filter runs", id: "filter" });
  const rows = runs.map((run) => {
    const box = el("input", { type: "checkbox", checked: true, "aria-label": `Show ${runLabel(run)}` });
    box.addEventListener("change", () => {
      run.chosen = box.checked;
      apply();
    });
    const at = run.evaluations.update.length - 1;
    const unit = ofRun(run).normalized ? "score" : "return";
    const [means, stds] = columns(run, ofRun(run).normalized);
    const lastText = at < 0 ? "–" : `${rounded(means[at])} ± ${rounded(stds[at])}`;
    const number = (text, sub) => el("td", { class: "number" }, text, sub ? el("span", { class: "sub" }, sub) : null);
    const row = el("tr", {},
      el("td", {}, box),
      el("td", {}, swatch(ofRun(run).look), el("span", { class: "name", title: `${ofRun(run).full}: ${run.path}` }, ofRun(run).name),
        // What the columns say that a phone has no room for.
        el("span", { class: "sub narrow" }, [run.algorithm, `seed ${run.seed}`, run.env, dataName(run), `${format(run.done)} updates`, duration(run.seconds)].filter(Boolean).join(" · "))),
      el("td", {}, run.algorithm), el("td", {}, run.env || "–"), el("td", {}, dataName(run) || "–"),
      number(format(run.seed)),
      number(format(run.done), run.done < run.updates ? `${run.stopped_early ? "stopped early, " : ""}of ${format(run.updates)}` : null),
      number(duration(run.seconds)),
      number(lastText, at < 0 ? "not evaluated" : unit),
      number(run.best ? rounded(run.best.score) : "–", run.best ? `at ${format(run.best.update)}` : null));
    const settings = Object.entries(run.config).map(([key, value]) => `${key}=${value}`).join(" ");
    run.text = `${runLabel(run)} ${ofRun(run).full} ${run.path} ${run.algorithm} ${run.env} ${dataName(run)} ${settings}`.toLowerCase();
    return { run, row, box };
  });
  const tbody = el("tbody", {}, rows.map((entry) => entry.row));
  const all = el("input", { type: "checkbox", checked: true, "aria-label": "Show all runs" });
  all.addEventListener("change", () => {
    rows.filter(({ run }) => run.matches).forEach(({ run, box }) => {
      run.chosen = all.checked;
      box.checked = all.checked;
    });
    apply();
  });
  let order = null;
  const headCells = heads.map((column) => {
    const cell = el("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": "none" });
    const button = el("button", { type: "button" }, column.name);
    // The button's too, by mouse and keyboard: they come up to the cell.
    cell.addEventListener("click", () => {
      const ascending = order && order.cell === cell ? !order.ascending : !column.number;
      order = { cell, ascending };
      headCells.forEach((other) => other.setAttribute("aria-sort", other === cell ? (ascending ? "ascending" : "descending") : "none"));
      const sign = ascending ? 1 : -1;
      rows.sort((a, b) => {
        const [x, y] = [column.value(a.run), column.value(b.run)];
        if (!column.number) return sign * String(x).localeCompare(String(y), "en", { numeric: true });
        if (!isNumber(x) || !isNumber(y)) return isNumber(y) - isNumber(x);
        return sign * (x - y);
      });
      tbody.replaceChildren(...rows.map((entry) => entry.row));
    });
    cell.append(button);
    return cell;
  });
  filter.addEventListener("input", () => {
    const asked = filterOf(filter.value);
    rows.forEach(({ run, row }) => {
      run.matches = asked.every((fits) => fits(run));
      row.hidden = !run.matches;
    });
    apply();
  });
  function apply() {
    const shown = runs.filter(isShown).length;
    count.textContent = `${shown} of ${runs.length} shown`;
    rows.forEach(({ run, row }) => row.classList.toggle("off", !run.chosen));
    all.checked = runs.every((run) => run.chosen);
    refresh();
  }
  count.textContent = `${runs.length} of ${runs.length} shown`;
  body.append(el("div", { class: "controls" }, filter, count),
    el("div", { class: "scroll" }, el("table", { id: "run-table" }, el("thead", {}, el("tr", {}, el("th", {}, all), headCells)), tbody)));
}
const fileName = (path) => String(path).split(/[\\/]/).filter(Boolean).pop() || String(path);
function dataName(run) {
  return run.data ? run.data.path.map(fileName).join(" + ") : "";
}

// ---- Scores --------------------------------------------------------------------------------------------------

const noScores = "No evaluation yet: train with `evaluate.env` set and `evaluate.episodes` of 1 or more, e.g. `trajformer train CONFIG.toml --set evaluate.env=pendulum-v1`.";
const settings = { axis: "update", band: "interval", single: true };

function curves() {
  const body = section("curves", "Learning curves", "The mean of each evaluation. With several seeds the band is over seeds and single seeds are faint; of one run it is over the episodes of each evaluation. The 95 % interval is Student's t, mean ± t·s/√n, here and below. `trajformer compare` has it from bootstrap samples of the seeds instead, which is narrower where seeds are few.");
  const place = el("div", { class: "grid wide" });
  const set = (name) => (value) => {
    settings[name] = value;
    refresh();
  };
  body.append(el("div", { class: "controls" },
    choice("Over", [["update", "updates"], ["seconds", "training time"]], set("axis")),
    choice("Band", [["interval", "95 % interval of the mean (Student's t)"], ["deviation", "one standard deviation"], ["none", "none"]], set("band")),
    tick("Single seeds", true, set("single"))), place);
  redraws.push(() => {
    const found = groups();
    place.replaceChildren();
    if (!found.size) place.append(empty(runs.some(isShown) ? noScores : "No run is chosen: tick rows in the table of runs."));
    for (const [key, members] of found) {
      const byTime = settings.axis === "seconds";
      const most = Math.max(...members.flatMap(({ points }) => points.map((point) => point.seconds)), 0);
      const [scale, unit] = !byTime ? [1, "updates"] : most > 5400 ? [3600, "training time (hours)"] : most > 90 ? [60, "training time (minutes)"] : [1, "training time (seconds)"];
      const lines = [];
      for (const { one, members: of, points } of members) {
        if (settings.single && of.length > 1) {
          for (const run of of) {
            const single = curve(one, [run]).map((point) => [point[settings.axis] / scale, point.mean]);
            lines.push({ name: runLabel(run), look: one.look, kind: "faint", points: single });
          }
        }
        const banded = settings.band !== "none" && points.some((point) => point.count > 1);
        lines.push({
          name: one.name, look: one.look,
          points: points.map((point) => [point[settings.axis] / scale, point.mean]),
          low: banded ? points.map((point) => point.mean - half(point, settings.band)) : null,
          high: banded ? points.map((point) => point.mean + half(point, settings.band)) : null,
          tell: (i) => (settings.band === "none" ? rounded(points[i].mean) : `${spread(points[i], settings.band)} (${points[i].count} ${points[i].over})`),
        });
      }
      const chart = plot({ label: `Learning curves: ${key}`, lines, height: 320, xLabel: unit });
      place.append(el("figure", {}, el("figcaption", {}, el("span", {}, key)), chart.host, legend(members.map(({ one }) => [one.look, one.name]))));
    }
  });
}

function scores() {
  const body = section("scores", "Final scores", "Dot: the last evaluation, which is the result, with its interval as chosen above (95 %: Student's t, not `compare`'s bootstrap). Diamond: the best evaluation of the run or of the mean over seeds, which looks better than what one can know without the environment.");
  const place = el("div", { class: "grid wide" });
  body.append(place);
  redraws.push(() => {
    const found = groups();
    place.replaceChildren();
    if (!found.size) place.append(empty(runs.some(isShown) ? noScores : "No run is chosen: tick rows in the table of runs."));
    for (const [key, members] of found) place.append(el("figure", {}, el("figcaption", {}, el("span", {}, key)), scoreRows(key, members).host));
  });
}
function scoreRows(key, members) {
  const band = settings.band === "none" ? "interval" : settings.band;
  const rows = members.filter(({ points }) => points.length).map(({ one, points }) => {
    const final = last(points);
    const best = points.reduce((a, b) => (b.mean > a.mean ? b : a));
    return { one, final, best, low: final.mean - half(final, band), high: final.mean + half(final, band) };
  });
  const values = rows.flatMap((row) => [row.low, row.high, row.best.mean]);
  return canvas((width) => {
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    [low, high] = [low - margin, high + margin];
    const [rowHeight, left, right] = [42, 12, 16];
    const height = rows.length * rowHeight + 24;
    const x = (value) => left + ((value - low) / (high - low)) * (width - left - right);
    const root = svg("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Final scores: ${key}` });
    for (const value of ticks(low, high, Math.max(2, Math.min(8, width / 80)))) {
      root.append(svg("line", { class: "grid-line", x1: x(value), x2: x(value), y1: 0, y2: height - 20 }),
        svg("text", { x: x(value), y: height - 5, "text-anchor": "middle" }, short(value)));
    }
    rows.forEach(({ one, final, best, low: from, high: to }, i) => {
      const y = i * rowHeight + 29;
      const b = x(best.mean);
      root.append(svg("text", { class: "title", x: left, y: y - 14 }, `${one.name}  ${spread(final, band)}`),
        svg("g", { class: one.look.color },
          svg("line", { class: "whisker", x1: x(from), x2: x(to), y1: y, y2: y }),
          svg("path", { class: "hollow", d: `M${b - 6} ${y}L${b} ${y - 6}L${b + 6} ${y}L${b} ${y + 6}Z` }),
          svg("circle", { class: "dot", cx: x(final.mean), cy: y, r: 5.5 })));
    });
    root.addEventListener("pointermove", (event) => {
      const row = rows[Math.floor((event.clientY - root.getBoundingClientRect().top) / rowHeight)];
      if (!row) return hideTip();
      showTip(event, row.one.name, [
        [row.one.look, `last, at update ${format(row.final.update)}`, `${spread(row.final, band)} (${row.final.count} ${row.final.over})`],
        [null, `best, at update ${format(row.best.update)}`, rounded(row.best.mean)]]);
    });
    root.addEventListener("pointerleave", hideTip);
    return root;
  });
}

// ---- Return asked and reached --------------------------------------------------------------------------------

/** Why there is no return to show: none was asked for that is known, or nothing was evaluated. */
function noTargets() {
  const asked = runs.filter((run) => isShown(run) && isNumber(run.aimed_at));
  if (asked.length) return `No evaluation yet. ${asked.map((run) => `${runLabel(run)} asks for ${rounded(run.aimed_at)}`).join(", ")}: an evaluation with \`evaluate.env\` and \`evaluate.episodes\` says what is reached.`;
  return "The runs name no return to aim at, and what they take from their data is not known here: their policies can't be opened. `--set algorithm.decision_transformer.target_returns=[3600, 1800]` names some; each is evaluated.";
}
function targets() {
  const some = runs.some((run) => run.targets.length);
  const conditioned = runs.some((run) => /decision_transformer|lamo/.test(run.algorithm));
  if (!some && !conditioned) return;
  const body = section("targets", "Return asked and reached", "What a return-conditioned policy was asked for, and what its episodes of the last evaluation reached; bars are one standard deviation over episodes. On the dotted diagonal it does as it is told.");
  const place = el("div", { class: "grid wide" });
  body.append(place);
  redraws.push(() => {
    place.replaceChildren();
    const found = new Map();
    for (const run of runs.filter((one) => isShown(one) && one.targets.some((target) => isNumber(last(target.return_mean))))) {
      const key = run.env || "environment not named";
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(run);
    }
    if (!found.size) place.append(empty(runs.some(isShown) ? noTargets() : "No run is chosen: tick rows in the table of runs."));
    for (const [key, members] of found) {
      const lines = members.map((run) => {
        const aims = run.targets.map((target) => [target.asked, last(target.return_mean), last(target.return_std)]).filter((aim) => isNumber(aim[1])).sort((a, b) => a[0] - b[0]);
        return {
          name: runLabel(run), look: ofRun(run).look, dots: true, kind: "thin", points: aims.map((aim) => [aim[0], aim[1]]),
          low: aims.map((aim) => aim[1] - aim[2]), high: aims.map((aim) => aim[1] + aim[2]),
          tell: (i) => `${rounded(aims[i][1])} ± ${rounded(aims[i][2])}`,
        };
      });
      const chart = plot({ label: `Return asked and reached: ${key}`, lines, height: 300, xLabel: "return asked", diagonal: true, yInclude: lines.flatMap((line) => line.points.map((point) => point[0])), xTell: (value) => `asked: ${format(value)}; reached:` });
      place.append(el("figure", {}, el("figcaption", {}, el("span", {}, `${key}: return reached`)), chart.host, legend(members.map((run) => [ofRun(run).look, runLabel(run)]))));
    }
  });
}

// ---- Diagnostics ---------------------------------------------------------------------------------------------

const kinds = [
  ["Losses", /loss/],
  ["Values: of the data's actions (q_data), of the policy's (q_policy), and the data's discounted return (dotted)", /^(?!.*(gradient|accuracy|cross_entropy|value_error))(q_|value|return_to_go|advantage|gap|v_)/],
  ["Gradient norms: means over the last ten updates before each row, or over all where gradients are clipped", /gradient/],
  ["Tokens: accuracy (share that the likeliest one is right about) and cross entropy (nats)", /accuracy|cross_entropy/],
  ["Others", /./],
];
/** How well trained networks tell tokens, a point for each dimension of a transition. */
function tokenFigures(shown) {
  const found = new Map();
  for (const run of shown) {
    for (const told of run.tokens || []) {
      const key = told.dimensions.map((one) => one.name).join("|");
      if (!found.has(key)) found.set(key, []);
      found.get(key).push({ run, told });
    }
  }
  const grid = el("div", { class: "grid wide" });
  for (const members of found.values()) {
    const names = members[0].told.dimensions.map((one) => one.name);
    const brief = (at) => (Number.isInteger(at) && names[at] ? names[at].replace("observation ", "o").replace("action ", "a") : "");
    for (const [of, title] of [["accuracy", "accuracy"], ["cross_entropy", "cross entropy, nats"], ["error", "error after codes, standard deviations"]]) {
      const lines = members.map(({ run, told }) => {
        const { color } = ofRun(run).look;
        const points = told.dimensions.map((one, at) => [at, one[of]]).filter(([, value]) => isNumber(value));
        return { name: `${runLabel(run)}: ${told.data} data`, look: { color, dashes: told.data === "training" ? ofRun(run).look.dashes : "5 4" }, kind: "thin", dots: true, points };
      }).filter((line) => line.points.length);
      if (!lines.length) continue;
      // One number alone, that of codes, is better read than seen.
      if (lines.every((line) => line.points.length === 1)) {
        grid.append(el("figure", {}, el("figcaption", {}, el("span", {}, `${names[lines[0].points[0][0]]}: ${title}`)),
          el("dl", { class: "numbers" }, lines.map((line) => el("div", { class: line.look.color }, el("dt", {}, line.name), el("dd", {}, format(line.points[0][1])))))));
        continue;
      }
      const chart = plot({ label: `Tokens of each dimension: ${title}`, lines, height: 230, xLabel: "dimension of a transition: o observation, a action", xRange: [-0.4, names.length - 0.6], xTick: brief, xTell: (at) => names[at], yInclude: of === "accuracy" ? [0, 1] : [0] });
      grid.append(el("figure", { class: "tokens" }, el("figcaption", {}, el("span", {}, `Each dimension: ${title}`)), chart.host, legend(lines.map((line) => [line.look, line.name]))));
    }
  }
  return grid;
}
function diagnostics() {
  const body = section("diagnostics", "Diagnostics", "Every column of metrics.csv over updates. A value of the policy's actions that climbs far above the data's return is overestimated.");
  const place = el("div", {});
  const logs = { all: false, set: [] };
  body.append(el("div", { class: "controls" }, tick("Logarithmic axes for all", false, (on) => {
    logs.all = on;
    logs.set.forEach((set) => set(on));
  })), place);
  redraws.push(() => {
    place.replaceChildren();
    logs.set = [];
    const shown = runs.filter(isShown);
    const names = [...new Set(shown.flatMap((run) => Object.keys(run.metrics.columns)))].sort();
    if (!names.length) {
      place.append(empty(shown.length ? "No row in metrics.csv yet: training writes one every `train.log_every_updates` updates." : "No run is chosen: tick rows in the table of runs."));
      return;
    }
    const left = new Set(names);
    for (const [title, pattern] of kinds) {
      const own = names.filter((name) => left.has(name) && pattern.test(name));
      own.forEach((name) => left.delete(name));
      if (!own.length) continue;
      const grid = el("div", { class: "grid" });
      for (const name of own) {
        const lines = [];
        for (const run of shown) {
          const { color, dashes } = ofRun(run).look;
          const points = (column) => column.update.map((update, i) => [update, column.value[i]]);
          const judged = run.metrics.columns.return_to_go_mean;
          if (judged && /^q_(data|policy)/.test(name) && run.metrics.columns[name]) {
            lines.push({ name: `${runLabel(run)}: data's return`, look: { color, dashes: "2 4" }, kind: "reference", points: points(judged) });
          }
          if (run.metrics.columns[name]) lines.push({ name: runLabel(run), look: { color, dashes }, kind: "thin", points: points(run.metrics.columns[name]) });
        }
        const chart = plot({ label: `${name} over updates`, lines, height: 170, xLabel: "updates" });
        const box = figure(name, chart, { log: logs.set });
        if (logs.all) last(logs.set)(true);
        grid.append(box);
      }
      place.append(el("h3", {}, title), grid);
    }
    const tokens = tokenFigures(shown);
    if (tokens.childElementCount) {
      place.append(el("h3", {}, "Tokens of the trained network, by dimension"), el("p", { class: "hint" }, coded("Of the first seed of each run, on windows spread over the data that it learned from, and over episodes that were held out (`train.held_out_fraction`), dashed.")), tokens);
    }
    const looks = series.filter((one) => one.all.some(isShown)).map((one) => [one.look, one.name]);
    place.append(legend(looks));
  });
}

// ---- Data ------------------------------------------------------------------------------------------------------

function pairs(entries) {
  return el("dl", { class: "pairs" }, entries.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}
function data() {
  const body = section("data", "Data", "What the runs learned from: returns and lengths of the whole episodes, and every dimension's range.");
  if (!report.data.length) {
    body.append(empty("No data set is named by the runs: `trajformer report RUN --data FILE` shows one."));
    return;
  }
  for (const set of report.data) {
    body.append(el("h3", {}, set.name));
    if (set.missing) {
      body.append(empty(`${set.missing} \`trajformer report RUN --data FILE\` shows the data from its new place.`));
      continue;
    }
    const { info } = set;
    info.warnings.forEach((text) => body.append(el("p", { class: "warning" }, text)));
    const unfinished = info.unfinished_episodes ? `, and ${format(info.unfinished_episodes)} without an end or a beginning` : "";
    body.append(pairs([
      ["Files", info.sources.join(", ")], ["Environment", info.env_name],
      ["Episodes", `${format(info.episodes)}${unfinished}`], ["Steps", format(info.steps)],
      ["Ends", `${format(info.terminated)} terminated, ${format(info.truncated)} truncated`],
      ["Returns", isNumber(info.return_mean) ? `${rounded(info.return_mean)} ± ${rounded(info.return_std)} (${rounded(info.return_min)} to ${rounded(info.return_max)})` : "unknown: no episode is whole"],
      ["Rewards", `${format(info.reward_min)} to ${format(info.reward_max)}`],
      ["Observations", `${info.observation_dim} numbers`], ["Actions", info.action_choices ? `one of ${info.action_choices} choices` : `${info.action_dim} numbers, ${format(info.action_min)} to ${format(info.action_max)}`],
      ["Instructions", info.instructions.length ? info.instructions.slice(0, 4).map(([text, count]) => `"${text}" (${count})`).join(", ") + (info.instructions.length > 4 ? `, and ${info.instructions.length - 4} more` : "") : null],
    ]));
    const grid = el("div", { class: "grid" });
    for (const [name, hist] of [["Returns of episodes", set.returns], ["Lengths of episodes", set.lengths], ["Rewards of steps", set.rewards]]) {
      if (hist) grid.append(figure(name, histogram(hist, name.toLowerCase())));
    }
    body.append(grid);
    if (set.actions.length) {
      const dense = el("div", { class: "grid dense" }, set.actions.map((dim) => figure(`action ${dim.dim}`, histogram(dim.hist, `action ${dim.dim}`))));
      body.append(el("h3", {}, "Actions"), dense);
    }
    const row = (name, of) => el("tr", {}, el("td", {}, name), ...["min", "max", "mean", "std"].map((key) => el("td", { class: "number" }, format(of[key]))));
    body.append(el("h3", {}, "Ranges"), el("div", { class: "scroll" }, el("table", { class: "ranges" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Dimension"), ["Lowest", "Highest", "Mean", "Deviation"].map((name) => el("th", { scope: "col", class: "number" }, name)))),
      el("tbody", {}, set.observations.map((of) => row(`observation ${of.dim}`, of)), set.actions.map((of) => row(`action ${of.dim}`, of))))));
    const left = info.observation_dim - set.observations.length;
    if (left > 0) body.append(el("p", { class: "hint" }, `${left} further dimensions of the observations are left out.`));
  }
}

// ---- Configuration ---------------------------------------------------------------------------------------------

function configuration() {
  const body = section("configuration", "Configuration", "Every key as it was resolved. Bold: another value than the default. Marked: the runs differ. Keys of the algorithms' own tables stand in one row where they have one name.");
  const state = { filter: "either", text: "" };
  const place = el("div", { class: "scroll" });
  const count = el("span", { role: "status" });
  const search = el("input", { type: "search", placeholder: "Filter keys", "aria-label": "Filter keys" });
  body.append(el("div", { class: "controls" },
    choice("Show", [["either", "only differences"], ["runs", "what differs between the runs"], ["defaults", "what differs from the defaults"], ["all", "all keys"]], (value) => {
      state.filter = value;
      draw();
    }), search, count), place);
  search.addEventListener("input", () => {
    state.text = search.value.toLowerCase();
    draw();
  });
  const shared = (run, key) => key.replace(`algorithm.${run.algorithm}.`, "algorithm.*.");
  function draw() {
    const heads = series.map((one) => ({ one, members: one.all.filter(isShown) })).filter(({ members }) => members.length);
    const table = new Map();
    heads.forEach(({ members }, column) => {
      for (const run of members) {
        for (const key of new Set([...Object.keys(run.config), ...Object.keys(run.defaults)])) {
          const name = shared(run, key);
          if (!table.has(name)) table.set(name, heads.map(() => ({ values: [], own: false, usual: null })));
          const cell = table.get(name)[column];
          const value = key in run.config ? run.config[key] : "not set";
          if (!cell.values.includes(value)) cell.values.push(value);
          if (key in run.defaults) [cell.own, cell.usual] = [true, run.defaults[key] === null ? "not set" : run.defaults[key]];
        }
      }
    });
    const rows = [];
    for (const [key, cells] of [...table].sort(([a], [b]) => a.localeCompare(b))) {
      const present = cells.filter((cell) => cell.values.length);
      const texts = new Set(present.map((cell) => cell.values.join(", ")));
      const differs = key !== "seed" && (texts.size > 1 || present.some((cell) => cell.values.length > 1));
      const own = cells.some((cell) => cell.own);
      const kept = { either: differs || own, runs: differs, defaults: own, all: true }[state.filter];
      if (!kept || !key.toLowerCase().includes(state.text)) continue;
      rows.push(el("tr", { "data-key": key }, el("td", {}, el("code", {}, key)), cells.map((cell) => {
        const classes = [differs && cell.values.length ? "changed" : "", cell.own ? "own" : ""].join(" ").trim();
        const text = cell.values.length ? cell.values.join(", ") : "–";
        return el("td", { class: classes || null }, el("code", {}, text), cell.own ? el("span", { class: "sub" }, `default: ${cell.usual}`) : null);
      })));
    }
    count.textContent = `${rows.length} of ${table.size} keys`;
    place.replaceChildren(rows.length ? el("table", { class: "configuration" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Key"), heads.map(({ one }) => el("th", { scope: "col" }, swatch(one.look), one.name)))),
      el("tbody", {}, rows)) : empty(heads.length ? "No key fits: choose `all keys`, or another text." : "No run is chosen: tick rows in the table of runs."));
  }
  redraws.push(draw);
}

// ---- Origin ----------------------------------------------------------------------------------------------------

const when = (seconds) => (isNumber(seconds) ? `${new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC` : null);
const machineText = (machine) => (machine ? [machine.processor, machine.threads ? `${machine.threads} threads` : null, `${machine.os}, ${machine.arch}`].filter(Boolean).join(", ") : "–");
const versionText = (from) => `${from.version}${from.commit ? `, commit ${from.commit}` : ""}`;
function origins() {
  const body = section("origin", "Origin", "Where the numbers come from: program, machine, time and command.");
  const { made } = report;
  body.append(el("h3", {}, "The runs"));
  const cells = runs.map((run) => {
    const from = run.origin;
    return el("tr", {}, el("td", {}, swatch(ofRun(run).look), runLabel(run)), el("td", {}, from ? versionText(from) : "not recorded"),
      el("td", {}, from ? machineText(from.machine) : "not recorded"), el("td", {}, run.device), el("td", {}, (from && when(from.at)) || "–"),
      el("td", { class: "number" }, duration(run.seconds)), el("td", {}, from && from.command ? el("code", {}, from.command) : "not recorded"));
  });
  body.append(el("div", { class: "scroll" }, el("table", { id: "origins" },
    el("thead", {}, el("tr", {}, ["Run", "Version", "Machine", "Device", "Begun", "Duration", "Command"].map((name) => el("th", { scope: "col", class: name === "Duration" ? "number" : null }, name)))),
    el("tbody", {}, cells))));
  if (runs.some((run) => !run.origin)) body.append(el("p", { class: "hint" }, "Runs that were trained by an earlier version did not record program, machine and command."));
  body.append(el("h3", {}, "This report"), pairs([
    ["Made", when(made.at)], ["By", `trajformer ${versionText(made)}, features ${made.features.join(", ") || "none"}`],
    ["On", machineText(made.machine)], ["Command", made.command ? el("code", {}, made.command) : null],
    ...report.notes.map((note) => ["Note", note])]));
  document.getElementById("footer").textContent = `Made by trajformer ${made.version}. This file is complete: it loads nothing from anywhere.`;
}

head();
runTable();
curves();
scores();
episodes();
targets();
diagnostics();
data();
configuration();
origins();
navigation();
refresh();

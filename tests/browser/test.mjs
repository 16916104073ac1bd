// Looks at reports in Chromium: `tests/browser/run` makes them and calls this.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const work = process.env.BROWSER_WORK;
const { chromium } = createRequire(join(work, "package.json"))("playwright-core");
const folder = join(work, "runs");
const file = (name) => `file://${join(folder, name)}`;
const dataOf = (name) => {
  const text = readFileSync(join(folder, name), "utf8");
  return JSON.parse(text.split('type="application/json">')[1].split("</script>")[0]);
};

const profile = mkdtempSync(join(tmpdir(), "trajformer-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: "/usr/bin/chromium", headless: true, viewport: { width: 1200, height: 900 }, colorScheme: "light",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

const problems = [];
const requests = [];
async function open(name, size = { width: 1200, height: 900 }, scheme = "light") {
  const page = await context.newPage();
  page.on("console", (message) => problems.push(`${name}: ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`${name}: ${error.stack}`));
  page.on("request", (request) => requests.push(request.url()));
  await page.setViewportSize(size);
  // Scrolling is done at once, so that places stay where they were measured.
  await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
  await page.goto(file(name));
  await page.waitForFunction(() => document.querySelectorAll("svg.chart").length > 0);
  await page.waitForTimeout(200);
  return page;
}
const text = (page, selector) => page.locator(selector).first().innerText();
const number = (words) => Number(words.replaceAll("−", "-").replaceAll(",", ""));
const near = (found, expected, digits, what) => {
  const slack = Math.max(Math.abs(expected) * 10 ** -digits, 1e-9);
  assert.ok(Math.abs(found - expected) <= slack, `${what}: ${found}, expected ${expected}`);
};

async function check(name, act) {
  const begin = Date.now();
  await act();
  console.log(`  ${name} (${Date.now() - begin} ms)`);
}

const data = dataOf("report.html");
try {
  const page = await open("report.html");

  await check("the title is the one asked for, as text", async () => {
    assert.equal(await page.title(), 'Runs <in> a "maze"');
    assert.equal(await text(page, "h1"), 'Runs <in> a "maze"');
  });

  await check("every plot is drawn, with lines, dots or bars", async () => {
    const found = await page.evaluate(() => [...document.querySelectorAll("figure")].map((figure) => {
      const drawing = figure.querySelector("svg.chart");
      const paths = [...drawing.querySelectorAll("path.line")].map((path) => path.getAttribute("d"));
      const marks = drawing.querySelectorAll("circle.dot, rect.bar").length;
      return { name: figure.querySelector("figcaption").innerText, paths, marks, width: drawing.getBoundingClientRect().width };
    }));
    assert.ok(found.length > 25, `${found.length} plots`);
    for (const { name, paths, marks, width } of found) {
      assert.ok(paths.length + marks > 0, `${name} is empty`);
      assert.ok(paths.every((d) => d.startsWith("M") && !d.includes("NaN")), `${name}: ${paths}`);
      assert.ok(width > 100, `${name} is ${width} wide`);
    }
    assert.equal(await page.evaluate(() => document.querySelectorAll("#main .plot svg").length > 0 && document.body.innerHTML.includes("NaN")), false);
  });

  await check("every column of metrics.csv has a plot", async () => {
    const names = new Set(data.runs.flatMap((run) => Object.keys(run.metrics.columns)));
    const captions = await page.$$eval("#diagnostics figcaption span", (spans) => spans.map((span) => span.textContent));
    for (const name of names) assert.ok(captions.includes(name), `${name} has no plot`);
    assert.ok(names.has("q_policy_mean") && names.has("gradient_norm"));
  });

  await check("pointing at a learning curve shows the numbers of all series there", async () => {
    const chart = page.locator("#curves svg.chart").first();
    await chart.scrollIntoViewIfNeeded();
    const box = await chart.boundingBox();
    await page.mouse.move(box.x + box.width - 12, box.y + box.height / 2);
    const rows = await page.$$eval("#tip tr", (all) => all.map((row) => [...row.cells].map((cell) => cell.textContent.trim())));
    const at = await text(page, "#tip .head");
    assert.ok(at.includes("100"), at);
    for (const name of ["bc", "iql"]) {
      const series = data.series.find((one) => one.name === name);
      const [update, , mean] = series.curve.at(-1);
      assert.equal(update, 100);
      const row = rows.find(([label]) => label === name);
      near(number(row[1].split(" ")[0]), mean, 2, `${name}: ${row[1]}`);
      assert.ok(Math.abs(number(row[1].split(" ")[0]) - mean) <= 0.051, `${row[1]} for ${mean}`);
    }
    await page.mouse.move(2, 2);
    assert.equal(await page.locator("#tip").isHidden(), true);
  });

  await check("pointing at a metric shows its numbers", async () => {
    const chart = page.locator("#diagnostics figure", { has: page.locator("figcaption span", { hasText: /^q_policy_mean$/ }) }).locator("svg.chart");
    await chart.scrollIntoViewIfNeeded();
    const box = await chart.boundingBox();
    await page.mouse.move(box.x + box.width - 11, box.y + 30);
    const rows = await page.$$eval("#tip tr", (all) => all.map((row) => [...row.cells].map((cell) => cell.textContent.trim())));
    const column = data.runs.find((run) => run.algorithm === "iql").metrics.columns.q_policy_mean;
    near(number(rows.find(([label]) => label === "iql, seed 0")[1]), column.value.at(-1), 3, "q_policy_mean");
    assert.ok(rows.some(([label]) => label.includes("data's return")), JSON.stringify(rows));
    await page.mouse.move(2, 2);
  });

  await check("the keyboard reads a curve", async () => {
    const chart = page.locator("#curves svg.chart").first();
    await chart.focus();
    await page.keyboard.press("ArrowRight");
    const first = await text(page, "#tip .head");
    await page.keyboard.press("ArrowRight");
    assert.notEqual(await text(page, "#tip .head"), first);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#tip").isHidden(), true);
  });

  await check("final scores are those of compare", async () => {
    const compared = JSON.parse(readFileSync(join(folder, "compare.json"), "utf8")).runs;
    const labels = await page.$$eval("#scores text.title", (all) => all.map((one) => one.textContent));
    for (const line of compared) {
      const label = labels.find((one) => one.startsWith(`${line.run}  `));
      assert.ok(label, `${line.run} among ${labels}`);
      assert.ok(Math.abs(number(label.split("  ")[1].split(" ")[0]) - line.last) <= 0.051, `${label}: ${line.last}`);
    }
  });

  await check("the table of runs sorts by every column", async () => {
    const cells = (column) => page.$$eval("#run-table tbody tr", (rows, at) => rows.map((row) => row.cells[at].innerText), column);
    const heads = await page.$$eval("#run-table thead th button", (all) => all.map((one) => one.textContent));
    assert.equal(heads.length, 9);
    for (const [i, head] of heads.entries()) {
      const button = page.locator("#run-table thead th button").nth(i);
      // Anywhere in the cell, not on its words alone.
      const cell = page.locator("#run-table thead th").nth(i + 1);
      await cell.click({ position: { x: 2, y: 2 } });
      const sorted = await cell.getAttribute("aria-sort");
      const { width, height } = await cell.boundingBox();
      await cell.click({ position: { x: width - 2, y: height - 2 } });
      assert.deepEqual([sorted, await cell.getAttribute("aria-sort")].sort(), ["ascending", "descending"], head);
      await button.press("Enter");
      const once = await cells(i + 1);
      const first = await cell.getAttribute("aria-sort");
      await button.press("Space");
      const twice = await cells(i + 1);
      assert.notEqual(await cell.getAttribute("aria-sort"), first);
      if (["Run", "Algorithm", "Seed", "Last", "Best"].includes(head)) assert.notDeepEqual(once, twice, head);
      if (head === "Last") {
        const values = twice.map((cell) => number(cell.split(" ")[0]));
        const ascending = [...values].sort((a, b) => a - b);
        assert.deepEqual(values, first === "descending" ? ascending : ascending.reverse());
      }
    }
  });

  await check("filtering and ticking rows filter the plots", async () => {
    const legend = () => page.$$eval("#curves .legend li", (all) => all.map((one) => one.textContent));
    assert.deepEqual((await legend()).sort(), ["bc", "decision_transformer", "iql", "trajectory_transformer"]);
    await page.fill("#filter", "iql");
    assert.deepEqual(await legend(), ["iql"]);
    assert.equal(await page.locator("#run-table tbody tr:visible").count(), 2);
    await page.fill("#filter", "hidden=[32, 32] bc");
    assert.deepEqual(await legend(), ["bc"]);
    // Whole values, numbers by what they are, strings without quotes, and the last parts of a key.
    const seeds = () => page.$$eval("#run-table tbody tr:not([hidden])", (rows) => rows.map((row) => `${row.cells[2].innerText} ${row.cells[5].innerText}`).sort());
    for (const [query, expected] of [
      ["seed=1", ["bc 1", "iql 1"]], ["seed=1.0 algorithm=iql", ["iql 1"]], ["seed=11", []], ["seed=", 7],
      ["env=pendulum-v1 seed=2", ["bc 2"]], ['evaluate.env="pendulum-v1" seed=2', ["bc 2"]], ["env=pendulum", []],
      ["updates=100 algorithm=decision_transformer", ["decision_transformer 0"]], ["updates=1e2 seed=2", ["bc 2"]], ["updates=10", []],
      ["data=pendulum.npz seed=2", ["bc 2"]], ["log_every_updates=2 bc seed=0", ["bc 0"]], ["algorithm.*.hidden=[32,32] seed=2", ["bc 2"]],
      ["target_returns=30", ["decision_transformer 0"]], ["pendul seed=2", ["bc 2"]], ["nokey=1", []],
    ]) {
      await page.fill("#filter", query);
      if (typeof expected === "number") assert.equal((await seeds()).length, expected, query);
      else assert.deepEqual(await seeds(), expected, query);
    }
    await page.fill("#filter", "nothing like it");
    assert.ok((await text(page, "#curves .empty")).includes("tick rows"));
    await page.fill("#filter", "");
    await page.getByLabel("Show bc, seed 1").uncheck();
    const chart = page.locator("#curves svg.chart").first();
    const faint = await chart.locator("path.faint").count();
    assert.equal(faint, 4, "two seeds of bc and two of iql");
    await page.getByLabel("Show all runs").check();
    assert.equal(await page.locator("#curves svg.chart path.faint").count(), 5);
  });

  await check("axes, bands and single seeds can be chosen", async () => {
    const d = () => page.$$eval("#curves path.band", (all) => all.map((one) => one.getAttribute("d")));
    const interval = await d();
    await page.locator("#curves select").nth(1).selectOption("deviation");
    assert.notDeepEqual(await d(), interval);
    await page.locator("#curves select").nth(1).selectOption("none");
    assert.equal((await d()).length, 0);
    await page.locator("#curves select").nth(1).selectOption("interval");
    await page.locator("#curves select").nth(0).selectOption("seconds");
    assert.ok((await page.locator("#curves svg.chart text").allTextContents()).some((one) => one.startsWith("training time")));
    await page.locator("#curves select").nth(0).selectOption("update");
    await page.getByLabel("Single seeds").uncheck();
    assert.equal(await page.locator("#curves path.faint").count(), 0);
    await page.getByLabel("Single seeds").check();
    const loss = page.locator("#diagnostics figure").first();
    const before = await loss.locator("path.line").first().getAttribute("d");
    await loss.getByRole("button").click();
    assert.notEqual(await loss.locator("path.line").first().getAttribute("d"), before);
    await page.getByLabel("Logarithmic axes for all").check();
    await page.getByLabel("Logarithmic axes for all").uncheck();
  });

  await check("returns asked and reached are those of the evaluations", async () => {
    const run = data.runs.find((one) => one.algorithm === "decision_transformer");
    assert.deepEqual(run.targets.map((target) => target.asked), [60, 30, 10]);
    assert.equal(await page.locator("#targets circle.dot").count(), 3);
  });

  await check("a return that was taken from the data is one that is asked for", async () => {
    const page = await open("untargeted.html");
    const run = dataOf("untargeted.html").runs[0];
    assert.equal(run.targets.length, 1);
    assert.equal(await page.locator("#targets circle.dot").count(), 1);
    assert.equal(await page.locator("#targets .empty").count(), 0);
    await page.close();
  });

  await check("tokens are told by dimension, of training and held-out data, and gradient norms of every run", async () => {
    const run = data.runs.find((one) => one.algorithm === "trajectory_transformer");
    assert.deepEqual(run.tokens.map((told) => told.data), ["training", "held-out"]);
    const figures = page.locator("#diagnostics figure.tokens");
    assert.equal(await figures.count(), 2);
    const [first] = [figures.first()];
    assert.equal(await first.locator("circle.dot").count(), 2 * run.tokens[0].dimensions.length);
    const labels = await first.locator("svg.chart text").allTextContents();
    for (const label of ["o0", "a0", "reward", "value"]) assert.ok(labels.includes(label), `${label} among ${labels}`);
    await first.locator("svg.chart").focus();
    await page.keyboard.press("ArrowRight");
    assert.equal(await text(page, "#tip .head"), "observation 0");
    const told = await page.$$eval("#tip tr", (all) => all.map((row) => row.cells[1].textContent.trim()));
    near(number(told[0]), run.tokens[0].dimensions[0].accuracy, 3, "accuracy of observation 0");
    await page.keyboard.press("Escape");
    const headings = await page.$$eval("#diagnostics h3", (all) => all.map((one) => one.textContent));
    assert.ok(headings.some((one) => one.startsWith("Tokens: accuracy")), headings.join());
    for (const one of data.runs) {
      assert.ok(Object.keys(one.metrics.columns).some((name) => name.endsWith("gradient_norm")), `${one.path} has no gradient norm`);
    }
    const group = (name) => page.evaluate((asked) => {
      const figure = [...document.querySelectorAll("#diagnostics figcaption span")].find((span) => span.textContent === asked);
      return figure.closest(".grid").previousElementSibling.textContent;
    }, name);
    assert.ok((await group("value_gradient_norm")).startsWith("Gradient norms"));
    assert.ok((await group("value_accuracy")).startsWith("Tokens"));
    assert.ok((await group("value_mean")).startsWith("Values"));
  });

  await check("histograms have ticks and a scale of counts", async () => {
    const found = await page.$$eval("#data figure", (all) => all.map((figure) => ({
      ticks: figure.querySelectorAll("line.tick").length,
      texts: [...figure.querySelectorAll("svg.chart text")].map((one) => [one.textContent, one.getBoundingClientRect().left, one.getBoundingClientRect().right, figure.getBoundingClientRect()]),
      scale: figure.querySelectorAll("line.grid-line").length,
    })));
    assert.ok(found.length > 3);
    for (const { ticks, texts, scale } of found) {
      assert.ok(ticks >= 1 && scale >= 2, `${ticks} ticks, ${scale} counts`);
      for (const [words, left, right, box] of texts) assert.ok(left >= box.left - 1 && right <= box.right + 1, `${words} is cut`);
    }
  });

  await check("each interval says which it is", async () => {
    for (const place of ["#curves", "#scores"]) {
      const hint = await text(page, `${place} .hint`);
      assert.ok(hint.includes("Student's t") && hint.includes("bootstrap"), hint);
    }
  });

  await check("an episode is scrubbed: slider, keys, play and plots move the cursor and the numbers", async () => {
    const planner = data.runs.filter((run) => run.episodes.length).findIndex((run) => run.algorithm === "trajectory_transformer");
    await page.locator("#episodes select").nth(0).selectOption(String(planner));
    const episode = data.runs.find((run) => run.algorithm === "trajectory_transformer").episodes[0];
    const slider = page.locator("#episodes input[type=range]");
    const reading = (name) => page.locator(`#episodes [data-reading=${name}]`).innerText();
    const cursor = () => page.locator("#episodes .overlay line.cursor").first().getAttribute("x1");
    const ball = () => page.locator("#episodes circle.ball").getAttribute("cx");
    const [before, place] = [await cursor(), await ball()];
    const at = Math.floor(episode.step.length / 2);
    await slider.fill(String(at));
    assert.notEqual(await cursor(), before);
    near(number(await ball()), episode.observations[0][at], 2, "the ball");
    near(number(await reading("sum")), episode.return_so_far[at], 3, "return so far");
    near(number(await reading("reward")), episode.reward[at], 3, "reward");
    near(number(await reading("value")), episode.value[at], 3, "value");
    const plan = episode.plans.filter((one) => one.step <= episode.step[at]).at(-1);
    assert.equal(number(await reading("plan")), plan.step);
    assert.equal(await page.locator("#episodes .futures path").count(), plan.futures.length);
    await slider.press("ArrowRight");
    assert.ok((await text(page, "#episodes output")).includes(`step ${episode.step[at + 1]} of`), await text(page, "#episodes output"));
    await slider.press("End");
    near(number(await reading("sum")), episode.return, 3, "the return");
    await slider.press("Home");
    assert.equal(await ball(), place);
    const chart = page.locator("#episodes svg.chart").first();
    const box = await chart.boundingBox();
    await chart.click({ position: { x: box.width * 0.7, y: 40 } });
    assert.notEqual(await ball(), place);
    await page.mouse.move(2, 2);
    await slider.press("Home");
    await page.locator("#play").click();
    await page.waitForTimeout(400);
    await page.locator("#play").click();
    assert.ok(Number(await slider.inputValue()) > 1, "it played");
    const conditioned = data.runs.filter((run) => run.episodes.length).findIndex((run) => run.algorithm === "decision_transformer");
    await page.locator("#episodes select").nth(0).selectOption(String(conditioned));
    assert.equal(await reading("asked"), "60");
    const valued = data.runs.filter((run) => run.episodes.length).findIndex((run) => run.algorithm === "iql");
    await page.locator("#episodes select").nth(0).selectOption(String(valued));
    near(number(await reading("value")), data.runs.find((run) => run.algorithm === "iql").episodes[0].value[0], 3, "Q");
  });

  await check("stick figures stand as MuJoCo's bodies do", async () => {
    const figures = JSON.parse(readFileSync(new URL("figures.json", import.meta.url), "utf8"));
    for (const [kind, cases] of Object.entries(figures)) {
      for (const { observation, bones } of cases) {
        const found = await page.evaluate(([name, positions]) => bones(name, positions), [kind, observation]);
        assert.equal(found.length, bones.length);
        found.forEach((bone, i) => bone.forEach((value, k) => {
          assert.ok(Math.abs(value - bones[i][k]) < 1e-4, `${kind}, bone ${i}: ${bone}, expected ${bones[i]}`);
        }));
      }
    }
  });

  await check("configurations show what differs", async () => {
    const rows = () => page.$$eval("#configuration tbody tr", (all) => all.map((row) => row.dataset.key));
    const few = await rows();
    assert.ok(few.includes("train.updates") && few.includes("algorithm.*.hidden") && !few.includes("online.steps"), few.join(" "));
    const updates = page.locator("#configuration tr[data-key='train.updates']");
    assert.equal(await updates.locator("td.changed").count(), 4);
    assert.equal(await updates.locator("td.own").count(), 4);
    await page.locator("#configuration select").selectOption("all");
    const all = await rows();
    assert.ok(all.includes("online.steps") && all.length > few.length);
    await page.locator("#configuration input").fill("planner");
    assert.ok((await rows()).every((key) => key.includes("planner")));
  });

  await check("origin and data are there", async () => {
    assert.ok((await text(page, "#origins tbody tr")).includes("train bc.toml --seeds 0..3"));
    assert.ok((await text(page, "#data")).includes("maze.npz"));
    assert.ok((await page.locator("#data rect.bar").count()) > 100);
  });

  await check("dark colors are dark, and the button overrides the system", async () => {
    const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const sum = (color) => color.match(/\d+/g).slice(0, 3).reduce((total, part) => total + Number(part), 0);
    assert.ok(sum(light) > 700 && sum(dark) < 120, `${light} ${dark}`);
    await page.locator("#theme").click();
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), light);
    await page.locator("#theme").click();
    await page.locator("#theme").click();
    await page.screenshot({ path: join(work, "dark.png"), fullPage: true });
  });

  await check("text and lines have the contrast that AA asks for, light and dark", async () => {
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      const found = await page.evaluate(() => {
        const style = getComputedStyle(document.documentElement);
        const names = ["page", "card", "ink", "soft", "accent", "axis", "mark", "floor", "warn", "s0", "s1", "s2", "s3", "s4", "s5", "s6"];
        return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
      });
      const light = (color) => {
        const parts = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
      };
      const contrast = (a, b) => {
        const [high, low] = [light(found[a]), light(found[b])].sort((x, y) => y - x);
        return (high + 0.05) / (low + 0.05);
      };
      for (const back of ["page", "card", "mark", "floor"]) assert.ok(contrast("ink", back) >= 4.5, `${scheme}: ink on ${back}`);
      for (const back of ["page", "card", "floor"]) assert.ok(contrast("soft", back) >= 4.5, `${scheme}: soft on ${back}`);
      for (const line of ["accent", "axis", "warn", "s0", "s1", "s2", "s3", "s4", "s5", "s6"]) assert.ok(contrast(line, "card") >= 3, `${scheme}: ${line} has ${contrast(line, "card")}`);
    }
    await page.emulateMedia({ colorScheme: "light" });
    await page.screenshot({ path: join(work, "light.png"), fullPage: true });
  });

  await check("a page for printing is light and has no controls", async () => {
    await page.emulateMedia({ colorScheme: "dark", media: "print" });
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)");
    assert.equal(await page.locator("#play").isVisible(), false);
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).color), "rgb(27, 30, 35)");
    await page.close();
  });

  await check("a phone needs no sideways scrolling", async () => {
    for (const scheme of ["light", "dark"]) {
      const phone = await open("report.html", { width: 390, height: 844 }, scheme);
      const wide = await phone.evaluate(() => {
        const over = [...document.querySelectorAll("body *")].filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll, nav"));
        return [document.documentElement.scrollWidth, over.map((node) => `${node.tagName} ${node.className.baseVal ?? node.className}`)];
      });
      assert.deepEqual(wide, [390, []]);
      await phone.screenshot({ path: join(work, `phone-${scheme}.png`), fullPage: true });
      await phone.close();
    }
  });

  await check("a phone shows names and scores without scrolling the table", async () => {
    for (const scheme of ["light", "dark"]) {
      const phone = await open("report.html", { width: 360, height: 780 }, scheme);
      const found = await phone.evaluate(() => {
        const around = document.querySelector("#run-table").parentElement;
        const heads = [...document.querySelectorAll("#run-table thead th")].filter((cell) => cell.offsetWidth).map((cell) => cell.innerText.trim());
        return { own: around.clientWidth, needed: around.scrollWidth, heads, page: document.documentElement.scrollWidth };
      });
      assert.equal(found.page, 360);
      assert.ok(found.needed <= found.own, `${found.needed} of ${found.own}`);
      assert.deepEqual(found.heads, ["", "Run", "Last", "Best"]);
      const row = await text(phone, "#run-table tbody tr");
      for (const words of ["seed 0", "pendulum-v1", "±"]) assert.ok(row.includes(words), row);
      await phone.screenshot({ path: join(work, `narrow-${scheme}.png`) });
      await phone.close();
    }
  });

  await check("a name of 200 letters widens nothing, and is there in full where the pointer rests", async () => {
    const long = "long-".repeat(40);
    const page = await open("long.html", { width: 390, height: 844 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
    const name = page.locator("#run-table .name").first();
    const shown = await name.innerText();
    assert.ok([...shown].length <= 40 && shown.startsWith("long-long-") && shown.includes("…"), shown);
    assert.ok((await name.getAttribute("title")).includes(long));
    assert.ok((await page.evaluate(() => document.querySelector("h1").textContent)).length < 150);
    await page.close();
  });

  await check("the table of runs needs no scrolling in narrower windows", async () => {
    for (const width of [720, 900, 1000, 1120, 1240, 1600]) {
      const page = await open("report.html", { width, height: 900 });
      const [own, needed] = await page.evaluate(() => {
        const around = document.querySelector("#run-table").parentElement;
        return [around.clientWidth, around.scrollWidth];
      });
      assert.ok(needed <= own, `${needed} of ${own} at ${width}`);
      await page.close();
    }
  });

  await check("what is missing is said, with the command that makes it", async () => {
    const small = await open("small.html");
    assert.ok((await text(small, "#episodes .empty")).includes("--episodes 2"));
    assert.ok((await text(small, "#data")).includes("pendulum.npz"));
    assert.equal(await small.locator("#targets").count(), 0);
    await small.close();
    const without = await open("without.html");
    assert.ok((await text(without, "#data .empty")).includes("trajformer report RUN --data FILE"));
    await without.close();
  });

  await check("no message in the console, and nothing asked of the network", async () => {
    assert.deepEqual(problems, []);
    assert.ok(requests.length >= 5 && requests.every((url) => url.startsWith("file://") && url.endsWith(".html")), requests.join(" "));
  });
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}

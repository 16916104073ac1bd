
// ---- Episodes --------------------------------------------------------------------------------------------------

/** A maze, y upwards: what was walked, what is imagined, where the goal is. */
function mazeView(maze, episode) {
  const [xs, ys] = episode.observations;
  const flip = (y) => maze.rows - y;
  const line = (from, to, first, second) => {
    let text = "";
    for (let i = from; i < to; i += 1) text += `${i === from ? "M" : "L"}${first[i].toFixed(3)} ${flip(second[i]).toFixed(3)}`;
    return text;
  };
  const root = svg("svg", { class: "maze", viewBox: `0 0 ${maze.columns} ${maze.rows}`, role: "img", "aria-label": `The maze ${episode.env} with the path so far` });
  root.append(svg("rect", { class: "floor", width: maze.columns, height: maze.rows }));
  [...maze.walls].forEach((cell, i) => {
    const [column, row] = [i % maze.columns, Math.floor(i / maze.columns)];
    if (cell === "#") root.append(svg("rect", { class: "wall", x: column, y: maze.rows - 1 - row, width: 1.01, height: 1.01 }));
  });
  if (episode.goal) root.append(svg("circle", { class: "goal", cx: episode.goal[0], cy: flip(episode.goal[1]), r: maze.goal_radius }));
  const done = svg("path", { class: "done" });
  const futures = svg("g", { class: "futures" });
  const ball = svg("circle", { class: "ball", r: 0.16 });
  root.append(svg("path", { class: "whole", d: line(0, xs.length, xs, ys) }), svg("circle", { class: "start", cx: xs[0], cy: flip(ys[0]), r: 0.2 }), futures, done, ball);
  return {
    host: root,
    show(at, plan) {
      done.setAttribute("d", line(0, at + 1, xs, ys));
      ball.setAttribute("cx", xs[at].toFixed(3));
      ball.setAttribute("cy", flip(ys[at]).toFixed(3));
      const drawn = plan ? plan.futures.map((future, i) =>
        svg("path", { class: i ? "future" : "future best", d: line(0, future.observations[0].length, ...future.observations) })) : [];
      futures.replaceChildren(...drawn.reverse());
    },
  };
}

/** The plan that the planner follows at a step: the last one made until then. */
function planAt(episode, step) {
  let found = null;
  for (const plan of episode.plans) if (plan.step <= step) found = plan;
  return found;
}

/** Everything about one episode, and a function that moves it to one of its steps. */
function episodeView(run, episode, pick) {
  const steps = episode.step;
  const own = look(0);
  const imagined = { color: "s1", dashes: "" };
  const points = (values) => steps.map((step, i) => [step, values[i]]);
  const moving = [];
  const add = (host, name, lines, options = {}) => {
    const chart = plot({
      label: `${name} over the episode`, lines, height: options.height || 130, xLabel: options.xLabel, pick, yInclude: options.include,
      xRange: [0, Math.max(1, episode.length - 1)], left: options.left, xTell: (at) => `step ${at}`,
    });
    host.append(figure(name, chart, { unit: options.unit }));
    moving.push({ chart, overlay: options.overlay || (() => []) });
  };
  const wide = { left: 52 };
  const line = (name, values, of = own, kind = "") => ({ name, look: of, kind, points: points(values) });
  /** Futures at the plan's steps, the best one first and strong. */
  const overlay = (values) => (plan) => (plan ? plan.futures.map((future, i) => ({
    name: "imagined", look: imagined, kind: i ? "thin faint" : "thin", points: values(future).map((value, k) => [plan.step + k, value]),
  })).reverse() : []);
  const everyFuture = (values) => episode.plans.flatMap((plan) => plan.futures.flatMap(values));

  const maze = episode.maze ? mazeView(report.mazes[episode.maze], episode) : null;
  const scene = maze || figureView(episode);
  const left = scene ? el("div", {}, scene.host) : null;
  if (maze) left.append(legend(episode.plans.length ? [[own, "path"], [imagined, "imagined futures, the chosen one strong"]] : [[own, "path"]]));
  else if (scene) left.append(el("p", { class: "hint" }, scene.note));
  const main = el("div", { class: scene ? "" : "grid" });
  const sums = episode.return_so_far;
  add(main, "Return so far", [line("return so far", sums)], wide);
  const rewards = (future) => future.rewards;
  add(main, "Reward", [line("reward", episode.reward)], { ...wide, overlay: overlay(rewards), include: everyFuture(rewards) });
  if (episode.value) {
    const values = (future) => future.values || [];
    add(main, episode.value_name, [line(episode.value_name, episode.value)], { ...wide, overlay: overlay(values), include: everyFuture(values) });
  }
  if (episode.asked) {
    const collected = sums.map((sum, i) => episode.return - sum + episode.reward[i]);
    add(main, "Return to go", [line("asked", episode.asked, imagined), line("collected from here on", collected)], wide);
  }
  const small = el("div", { class: "grid dense" });
  const dims = episode.observation_dims;
  dims.forEach((dim, i) => {
    const place = episode.plan_dims.indexOf(dim);
    const values = (future) => (place < 0 ? [] : future.observations[place]);
    add(small, `observation ${dim}`, [line(`observation ${dim}`, episode.observations[i])], { height: 96, left: 38, overlay: overlay(values), include: everyFuture(values) });
  });
  const actions = el("div", { class: "grid dense" });
  episode.actions.forEach((values, dim) => {
    add(actions, `action ${episode.action_dims[dim]}`, [line(`action ${episode.action_dims[dim]}`, values)], { height: 96, left: 38 });
  });

  const readings = [["reward", "Reward", own], ["sum", "Return so far", own]];
  if (episode.value) readings.push(["value", episode.value_name, own]);
  if (episode.asked) readings.push(["asked", "Return to go asked", imagined]);
  if (episode.plans.length) readings.push(["plan", "Planned at step", imagined], ["score", "Expected by the plan", imagined]);
  const places = Object.fromEntries(readings.map(([key]) => [key, el("dd", { "data-reading": key }, "–")]));
  const numbers = el("dl", { class: "numbers" }, readings.map(([key, name, of]) => el("div", { class: of.color }, el("dt", {}, name), places[key])));
  const ended = episode.terminated ? "the environment ended it" : episode.truncated ? "the time limit ended it" : "not ended";
  const kept = episode.every > 1 ? ` One of ${episode.every} steps is kept here.` : "";
  const told = episode.instruction ? ` It was told: "${episode.instruction}".` : "";
  const about = el("p", { class: "hint" }, `Return ${rounded(episode.return)} in ${format(episode.length)} steps of ${episode.env}; ${ended}. Evaluation seed ${episode.seed}, episode ${episode.number}.${told}${kept}`);
  const hidden = episode.observation_dim - dims.length;
  const more = hidden > 0 ? el("p", { class: "hint" }, `The ${dims.length} of ${episode.observation_dim} numbers of the observation that move most.`) : null;
  const root = el("div", {}, about, numbers, el("div", { class: scene ? "stage" : "stage alone" }, left, main),
    dims.length ? [el("h3", {}, "Observations"), more, small] : [], episode.actions.length ? [el("h3", {}, "Actions"), actions] : []);
  return {
    root,
    show(at) {
      const step = steps[at];
      const plan = planAt(episode, step);
      places.reward.textContent = format(episode.reward[at]);
      places.sum.textContent = format(sums[at], 5);
      if (places.value) places.value.textContent = format(episode.value[at]);
      if (places.asked) places.asked.textContent = format(episode.asked[at], 5);
      if (places.plan) {
        places.plan.textContent = plan ? format(plan.step) : "–";
        places.score.textContent = plan ? format(plan.futures[0].score) : "–";
      }
      moving.forEach(({ chart, overlay: futures }) => {
        chart.setOverlay(futures(plan));
        chart.setCursor(step);
      });
      if (scene) scene.show(at, plan);
    },
  };
}

function episodes() {
  const body = section("episodes", "Episodes", "Episodes of an evaluation, made again for this report. Drag the slider, point at a plot, or press play; the arrow keys move by a step, with Shift by ten, and the space bar plays.");
  const recorded = runs.filter((run) => run.episodes.length);
  const hint = "`trajformer report RUN --episodes 2` records two: of a run with a checkpoint, in a build that has its environment.";
  const missing = [...new Set(runs.map((run) => run.episodes_missing).filter(Boolean))].map((reason) => `${reason} ${hint}`);
  if (!recorded.length) {
    (missing.length ? missing : [`No episode was recorded. ${hint}`]).forEach((text) => body.append(empty(text)));
    return;
  }
  const state = { run: recorded[0], episode: recorded[0].episodes[0], at: 0, view: null, timer: null };
  const ofRunSelect = el("select", { "aria-label": "Run" }, recorded.map((run, i) => el("option", { value: i }, runLabel(run))));
  const which = el("select", { "aria-label": "Episode" });
  const slider = el("input", { type: "range", min: 0, value: 0, step: 1, "aria-label": "Step" });
  const play = el("button", { type: "button", id: "play" }, "Play");
  const output = el("output", {});
  const stage = el("div", {});

  function show(at) {
    state.at = Math.max(0, Math.min(state.episode.step.length - 1, at));
    slider.value = state.at;
    const step = state.episode.step[state.at];
    output.textContent = `step ${format(step)} of ${format(state.episode.length)}`;
    slider.setAttribute("aria-valuetext", output.textContent);
    state.view.show(state.at);
  }
  function pause() {
    clearInterval(state.timer);
    state.timer = null;
    play.textContent = "Play";
  }
  function toggle() {
    if (state.timer) return pause();
    if (state.at >= state.episode.step.length - 1) show(0);
    play.textContent = "Pause";
    state.timer = setInterval(() => {
      show(state.at + 1);
      if (state.at >= state.episode.step.length - 1) pause();
    }, 60);
  }
  function open() {
    pause();
    const { episode } = state;
    slider.max = episode.step.length - 1;
    state.view = episodeView(state.run, episode, (step) => {
      pause();
      show(nearest(episode.step.map((value) => [value]), step));
    });
    stage.replaceChildren(state.view.root);
    show(0);
  }
  function openRun() {
    which.replaceChildren(...state.run.episodes.map((episode, i) => el("option", { value: i }, `episode ${episode.number}: return ${rounded(episode.return)}`)));
    [state.episode] = state.run.episodes;
    open();
  }
  ofRunSelect.addEventListener("change", () => {
    state.run = recorded[Number(ofRunSelect.value)];
    openRun();
  });
  which.addEventListener("change", () => {
    state.episode = state.run.episodes[Number(which.value)];
    open();
  });
  slider.addEventListener("input", () => {
    pause();
    show(Number(slider.value));
  });
  play.addEventListener("click", toggle);
  body.addEventListener("keydown", (event) => {
    if (["SELECT", "BUTTON"].includes(event.target.tagName)) return;
    const size = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: -size, ArrowDown: -size, ArrowRight: size, ArrowUp: size, Home: -Infinity, End: Infinity };
    if (event.key === " ") toggle();
    else if (event.key in moves) {
      pause();
      show(state.at + moves[event.key]);
    } else return;
    event.preventDefault();
  });
  body.append(el("div", { class: "controls" }, el("label", {}, "Run", ofRunSelect), el("label", {}, "Episode", which)),
    el("div", { class: "player" }, play, slider, output), stage, ...missing.map(empty));
  openRun();
}

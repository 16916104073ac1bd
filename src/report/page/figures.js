
// ---- Stick figures -------------------------------------------------------------------------------------------------

/**
 * MuJoCo's planar robots: each body has [parent, x, z, angle, joints], each joint ["x" or "z" for a slide, or the sign of its turn
 * around y; place of its position in the observation, position at rest, x and z of its anchor]; each bone is a capsule:
 * [body, x and z of both ends, radius, 1 if it is on the far side]. Made by tests/browser/figures.py.
 */
const skeletons = {
  hopper: {"bodies": [[-1, 0.0, 1.25, 0.0, [["x", -1, 0.0, 0, 0], ["z", 0, 1.25, 0, 0], [1, 1, 0.0, 0.0, 0.0]]], [0, 0.0, -0.2, 0.0, [[-1, 2, 0.0, 0.0, 0.0]]], [1, 0.0, -0.7, 0.0, [[-1, 3, 0.0, 0.0, 0.25]]], [2, 0.13, -0.35, 0.0, [[-1, 4, 0.0, -0.13, 0.1]]]], "bones": [[0, 0.0, -0.2, 0.0, 0.2, 0.05, 0], [1, 0.0, -0.45, 0.0, 0.0, 0.05, 0], [2, 0.0, -0.25, 0.0, 0.25, 0.04, 0], [3, 0.13, 0.1, -0.26, 0.1, 0.06, 0]]},
  walker2d: {"bodies": [[-1, 0.0, 1.25, 0.0, [["x", -1, 0.0, 0, 0], ["z", 0, 1.25, 0, 0], [1, 1, 0.0, 0.0, 0.0]]], [0, 0.0, -0.2, 0.0, [[-1, 2, 0.0, 0.0, 0.0]]], [1, 0.0, -0.7, 0.0, [[-1, 3, 0.0, 0.0, 0.25]]], [2, 0.2, -0.35, 0.0, [[-1, 4, 0.0, -0.2, 0.1]]], [0, 0.0, -0.2, 0.0, [[-1, 5, 0.0, 0.0, 0.0]]], [4, 0.0, -0.7, 0.0, [[-1, 6, 0.0, 0.0, 0.25]]], [5, 0.2, -0.35, 0.0, [[-1, 7, 0.0, -0.2, 0.1]]]], "bones": [[0, 0.0, -0.2, 0.0, 0.2, 0.05, 0], [1, 0.0, -0.45, 0.0, 0.0, 0.05, 0], [2, 0.0, -0.25, 0.0, 0.25, 0.04, 0], [3, 0.0, 0.1, -0.2, 0.1, 0.06, 0], [4, 0.0, -0.45, 0.0, 0.0, 0.05, 1], [5, 0.0, -0.25, 0.0, 0.25, 0.04, 1], [6, 0.0, 0.1, -0.2, 0.1, 0.06, 1]]},
  halfcheetah: {"bodies": [[-1, 0.0, 0.7, 0.0, [["x", -1, 0.0, 0, 0], ["z", 0, 0.0, 0, 0], [1, 1, 0.0, 0.0, 0.0]]], [0, -0.5, 0.0, 0.0, [[1, 2, 0.0, 0.0, 0.0]]], [1, 0.16, -0.25, 0.0, [[1, 3, 0.0, 0.0, 0.0]]], [2, -0.28, -0.14, 0.0, [[1, 4, 0.0, 0.0, 0.0]]], [0, 0.5, 0.0, 0.0, [[1, 5, 0.0, 0.0, 0.0]]], [4, -0.14, -0.24, 0.0, [[1, 6, 0.0, 0.0, 0.0]]], [5, 0.13, -0.18, 0.0, [[1, 7, 0.0, 0.0, 0.0]]]], "bones": [[0, 0.5, 0.0, -0.5, 0.0, 0.046, 0], [0, 0.48535, 0.003276, 0.71465, 0.19672, 0.046, 0], [1, 0.011281, -0.01531, 0.18872, -0.24469, 0.046, 1], [2, -0.0055391, -0.0035148, -0.27446, -0.13649, 0.046, 1], [3, 0.055073, -0.18759, 0.0049272, -0.0064055, 0.046, 1], [4, -0.13609, -0.23542, -0.0039149, -0.00458, 0.046, 0], [5, 0.12485, -0.17749, 0.0051479, -0.0025144, 0.046, 0], [6, 0.084525, -0.12777, 0.005475, -0.012227, 0.046, 0]]},
};
/** Seconds of a step, place of the forward speed in the observation. */
const paces = { hopper: [0.008, 5], walker2d: [0.008, 8], halfcheetah: [0.05, 8] };

/** Ends of a robot's bones, [x, z, x, z], for its joints' positions; they follow x, which no observation has. */
function bones(kind, positions) {
  const frames = [];
  const turned = ([x, z], angle) => [x * Math.cos(angle) + z * Math.sin(angle), z * Math.cos(angle) - x * Math.sin(angle)];
  for (const [parent, bx, bz, rest, joints] of skeletons[kind].bodies) {
    const from = parent < 0 ? { x: 0, z: 0, angle: 0 } : frames[parent];
    const [dx, dz] = turned([bx, bz], from.angle);
    const frame = { x: from.x + dx, z: from.z + dz, angle: from.angle + rest };
    for (const [type, place, start, ax, az] of joints) {
      if (type === "x") continue;
      const moved = positions[place] - start;
      if (type === "z") {
        frame.z += moved;
        continue;
      }
      const before = turned([ax, az], frame.angle);
      frame.angle += type * moved;
      const after = turned([ax, az], frame.angle);
      frame.x += before[0] - after[0];
      frame.z += before[1] - after[1];
    }
    frames.push(frame);
  }
  return skeletons[kind].bones.map(([body, x1, z1, x2, z2]) => {
    const { x, z, angle } = frames[body];
    const ends = [turned([x1, z1], angle), turned([x2, z2], angle)];
    return ends.flatMap(([ex, ez]) => [x + ex, z + ez]);
  });
}

/** The robot of an episode, seen from the side; null of environments that are no such robot. */
function figureView(episode) {
  const kind = Object.keys(skeletons).find((name) => new RegExp(`^${name}-v[0-9]+$`).test(episode.env));
  if (!kind) return null;
  const places = skeletons[kind].bodies.flatMap((body) => body[4]).map((joint) => joint[1]).filter((place) => place >= 0);
  const lists = places.map((place) => episode.observations[episode.observation_dims.indexOf(place)]);
  if (lists.includes(undefined)) return null;
  const [pace, speed] = paces[kind];
  const speeds = episode.observations[episode.observation_dims.indexOf(speed)];
  let way = 0;
  const ways = episode.step.map((step, i) => {
    if (i > 0 && speeds) way += speeds[i - 1] * pace * (step - episode.step[i - 1]);
    return way;
  });
  const root = svg("svg", { class: "figure", viewBox: "-1.6 -1.9 3.2 2.1", role: "img", "aria-label": `${episode.env} from the side` });
  const marks = svg("g", {});
  const limbs = skeletons[kind].bones.map((bone) => svg("line", { class: bone[6] ? "bone far" : "bone", "stroke-width": 2 * bone[5] }));
  root.append(svg("line", { class: "ground", x1: -1.6, x2: 1.6, y1: 0, y2: 0 }), marks, ...[...limbs].sort((a, b) => b.classList.contains("far") - a.classList.contains("far")));
  return {
    host: root,
    note: "Seen from the side, at x = 0: the observation has no position. The marks on the ground pass by with its forward speed.",
    show(at) {
      bones(kind, lists.map((list) => list[at])).forEach(([x1, z1, x2, z2], i) => {
        put(limbs[i], { x1: x1.toFixed(4), y1: (-z1).toFixed(4), x2: x2.toFixed(4), y2: (-z2).toFixed(4) }, []);
      });
      const first = Math.ceil((ways[at] - 1.6) * 2) / 2;
      marks.replaceChildren(...Array.from({ length: 7 }, (_, i) => {
        const x = (first + i * 0.5 - ways[at]).toFixed(4);
        return svg("line", { class: "ground", x1: x, x2: x, y1: 0, y2: 0.07 });
      }));
    },
  };
}

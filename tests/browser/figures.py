#!/usr/bin/env python3
"""Makes what the page's stick figures are drawn from and checked against, out of MuJoCo's own models.

    pip install mujoco==3.3.7
    tests/browser/figures.py .mujoco/models

Prints the table for src/report/page/figures.js and writes tests/browser/figures.json: where MuJoCo has the ends of all capsules
for random positions of the joints. All bodies move in the plane of x and z.
"""

import json
import math
import sys
from pathlib import Path

import mujoco
import numpy as np

MODELS = {"hopper": "hopper.xml", "walker2d": "walker2d.xml", "halfcheetah": "half_cheetah.xml"}


def short(value):
    return round(float(f"{value:.5g}"), 9) + 0.0


def turn(quaternion):
    """The angle of a rotation around y."""
    w, x, y, z = quaternion
    assert abs(x) < 1e-9 and abs(z) < 1e-9, quaternion
    return 2 * math.atan2(y, w)


def table(name, model):
    bodies, bones = [], []
    for body in range(1, model.nbody):
        joints = []
        for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
            axis, anchor = model.jnt_axis[joint], model.jnt_pos[joint]
            start = model.qpos0[model.jnt_qposadr[joint]]
            # An observation leaves the first position, x, out.
            place = int(model.jnt_qposadr[joint]) - 1
            if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE:
                kind = "x" if abs(axis[0]) > 0.5 else "z"
                joints.append([kind, place, short(start), 0, 0])
            else:
                joints.append([int(round(axis[1])), place, short(start), short(anchor[0]), short(anchor[2])])
        position = model.body_pos[body]
        bodies.append([int(model.body_parentid[body]) - 1, short(position[0]), short(position[2]), short(turn(model.body_quat[body])), joints])
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] == 0:
            continue
        ends = [model.geom_pos[geom] + sign * model.geom_size[geom][1] * axis_of(model.geom_quat[geom]) for sign in (-1, 1)]
        part = model.body(model.geom_bodyid[geom]).name
        far = part.endswith("_left") if name == "walker2d" else part.startswith("b") if name == "halfcheetah" else False
        bones.append([int(model.geom_bodyid[geom]) - 1, *(short(v) for end in ends for v in (end[0], end[2])), short(model.geom_size[geom][0]), int(far)])
    return {"bodies": bodies, "bones": bones}


def axis_of(quaternion):
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)[:, 2]


def expected(model, rng):
    data = mujoco.MjData(model)
    cases = []
    for _ in range(5):
        data.qpos[:] = model.qpos0 + rng.uniform(-1, 1, model.nq)
        data.qpos[0] = 0.0
        mujoco.mj_forward(model, data)
        bones = []
        for geom in range(model.ngeom):
            if model.geom_bodyid[geom] == 0:
                continue
            axis = data.geom_xmat[geom].reshape(3, 3)[:, 2] * model.geom_size[geom][1]
            ends = [data.geom_xpos[geom] - axis, data.geom_xpos[geom] + axis]
            bones.append([round(float(v), 6) for end in ends for v in (end[0], end[2])])
        cases.append({"observation": [float(v) for v in data.qpos[1:]], "bones": bones})
    return cases


folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
found = {}
for name, file in MODELS.items():
    model = mujoco.MjModel.from_xml_path(str(folder / file))
    print(f"  {name}: {json.dumps(table(name, model), separators=(', ', ': '))},")
    found[name] = expected(model, rng)
(Path(__file__).parent / "figures.json").write_text(json.dumps(found) + "\n")

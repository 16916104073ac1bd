#!/usr/bin/env python3
"""Makes src/envs/mujoco/layout.rs, where the fields lie that are read of libmujoco's structures, with a C compiler and the
library's own headers, which are in the wheel `mujoco`.

    pip download --no-deps --only-binary=:all: mujoco==3.3.7
    tests/golden/mujoco_layout.py mujoco-3.3.7-*.whl > src/envs/mujoco/layout.rs
    tests/golden/mujoco_layout.py mujoco-3.3.7-*.whl --check         # compares, and says what is different

Offsets and sizes are those of systems with 64-bit pointers; Linux and macOS lay structures out in the same way there.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Constant: (structure, member, what it is). The C type is checked as well.
FIELDS = {
    "MODEL_NQ": ("mjModel", "nq", "int", "Positions."),
    "MODEL_NV": ("mjModel", "nv", "int", "Velocities."),
    "MODEL_NU": ("mjModel", "nu", "int", "Motors."),
    "MODEL_NBODY": ("mjModel", "nbody", "int", "Bodies, the world among them."),
    "MODEL_TIMESTEP": ("mjModel", "opt.timestep", "mjtNum", "Seconds per step."),
    "MODEL_QPOS0": ("mjModel", "qpos0", "mjtNum*", "Initial positions (nq)."),
    "MODEL_CTRLRANGE": ("mjModel", "actuator_ctrlrange", "mjtNum*", "Least and greatest action of each motor (nu, 2)."),
    "DATA_QPOS": ("mjData", "qpos", "mjtNum*", "Positions (nq)."),
    "DATA_QVEL": ("mjData", "qvel", "mjtNum*", "Velocities (nv)."),
    "DATA_CTRL": ("mjData", "ctrl", "mjtNum*", "Actions (nu)."),
    "DATA_XPOS": ("mjData", "xpos", "mjtNum*", "Where the bodies' frames are (nbody, 3)."),
    "DATA_CFRC_EXT": ("mjData", "cfrc_ext", "mjtNum*", "Contact forces on the bodies (nbody, 6)."),
    "SCENE_NGEOM": ("mjvScene", "ngeom", "int", "How many shapes it has."),
    "SCENE_GEOMS": ("mjvScene", "geoms", "mjvGeom*", "Its shapes (ngeom)."),
    "GEOM_MATID": ("mjvGeom", "matid", "int", "Its material, -1 for none."),
    "GEOM_RGBA": ("mjvGeom", "rgba", "float*", "Its color (4)."),
    "GEOM_TRANSPARENT": ("mjvGeom", "transparent", "mjtByte", "Whether it is drawn as transparent."),
    "CAMERA_LOOKAT": ("mjvCamera", "lookat", "mjtNum*", "The place that it looks at (3)."),
    "CAMERA_DISTANCE": ("mjvCamera", "distance", "mjtNum", "How far away from there it is."),
    "CAMERA_AZIMUTH": ("mjvCamera", "azimuth", "mjtNum", "Which way it looks, in degrees."),
    "CAMERA_ELEVATION": ("mjvCamera", "elevation", "mjtNum", "How far up it looks, in degrees."),
}
# Constant: (expression, Rust's type, what it is).
VALUES = {
    "VERSION": ("mjVERSION_HEADER", "i32", "What `mj_version` says of this library."),
    "STATE_TIME": ("mjSTATE_TIME", "u32", "The time, as a part of the state."),
    "STATE_QPOS": ("mjSTATE_QPOS", "u32", "The positions, as a part of the state."),
    "STATE_QVEL": ("mjSTATE_QVEL", "u32", "The velocities, as a part of the state."),
    "STATE_CTRL": ("mjSTATE_CTRL", "u32", "The actions, as a part of the state."),
    "SCENE_SIZE": ("sizeof(mjvScene)", "usize", "Bytes of a scene."),
    "GEOM_SIZE": ("sizeof(mjvGeom)", "usize", "Bytes of a shape of a scene."),
    "CAMERA_SIZE": ("sizeof(mjvCamera)", "usize", "Bytes of a camera."),
    "OPTION_SIZE": ("sizeof(mjvOption)", "usize", "Bytes of the options of what is shown."),
    "CONTEXT_SIZE": ("sizeof(mjrContext)", "usize", "Bytes of what drawing needs on its device."),
    "FONT_100": ("mjFONTSCALE_100", "i32", "Letters in their usual size."),
    "FONT_NORMAL": ("mjFONT_NORMAL", "i32", "Letters without a shadow."),
    "TOP_LEFT": ("mjGRID_TOPLEFT", "i32", "Where words are."),
    "OFFSCREEN": ("mjFB_OFFSCREEN", "i32", "Drawing into memory."),
    "EVERYTHING": ("mjCAT_ALL", "i32", "Bodies, the world and lights."),
    "BODIES": ("mjCAT_DYNAMIC", "i32", "Bodies alone."),
    "STATE_FORCES": ("mjSTATE_XFRC_APPLIED", "u32", "Forces from outside, six per body, as a part of the state."),
}
FRONT = """\
//! Where the fields lie that are read of libmujoco's structures, and the numbers that its functions take: of 3.3.7, on systems
//! with 64-bit pointers. Made by tests/golden/mujoco_layout.py with a C compiler from the library's own headers.
"""


def program():
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <mujoco/mujoco.h>", "int main(void) {"]
    for name, (structure, member, kind, _) in FIELDS.items():
        lines.append(f"  _Static_assert(_Generic((({structure}*)0)->{member}, {kind}: 1, default: 0), \"{name}\");")
        lines.append(f"  printf(\"{name} %zu\\n\", offsetof({structure}, {member}));")
    for name, (expression, _, _) in VALUES.items():
        lines.append(f"  printf(\"{name} %lld\\n\", (long long)({expression}));")
    return "\n".join([*lines, "  return 0;", "}"])


def measured(wheel, folder):
    zipfile.ZipFile(wheel).extractall(folder)
    source, binary = folder / "layout.c", folder / "layout"
    source.write_text(program())
    subprocess.run(["cc", "-std=c11", f"-I{folder}/mujoco/include", str(source), "-o", str(binary)], check=True)
    output = subprocess.run([str(binary)], check=True, capture_output=True, text=True).stdout
    return dict(line.split() for line in output.splitlines())


def rust(found):
    lines = [FRONT]
    for name, (structure, member, _, about) in FIELDS.items():
        lines.append(f"/// `{structure}.{member}`: {about[0].lower()}{about[1:].rstrip('.')}; in bytes.")
        lines.append(f"pub(super) const {name}: usize = {found[name]};")
    for name, (_, kind, about) in VALUES.items():
        lines += [f"/// {about}", f"pub(super) const {name}: {kind} = {found[name]};"]
    return "\n".join(lines) + "\n"


def main():
    if not sys.argv[1:] or sys.argv[2:] not in ([], ["--check"]):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        text = rust(measured(sys.argv[1], Path(folder)))
    if not sys.argv[2:]:
        sys.stdout.write(text)
        return
    place = Path(__file__).resolve().parents[2] / "src/envs/mujoco/layout.rs"
    if text != place.read_text():
        sys.exit(f"{place} is not what the headers say:\n{text}")
    print(f"{place} is what the headers say")


if __name__ == "__main__":
    main()

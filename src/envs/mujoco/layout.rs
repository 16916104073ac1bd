//! Where the fields lie that are read of libmujoco's structures, and the numbers that its functions take: of 3.3.7, on systems
//! with 64-bit pointers. Made by tests/golden/mujoco_layout.py with a C compiler from the library's own headers.

/// `mjModel.nq`: positions; in bytes.
pub(super) const MODEL_NQ: usize = 0;
/// `mjModel.nv`: velocities; in bytes.
pub(super) const MODEL_NV: usize = 4;
/// `mjModel.nu`: motors; in bytes.
pub(super) const MODEL_NU: usize = 8;
/// `mjModel.nbody`: bodies, the world among them; in bytes.
pub(super) const MODEL_NBODY: usize = 16;
/// `mjModel.opt.timestep`: seconds per step; in bytes.
pub(super) const MODEL_TIMESTEP: usize = 352;
/// `mjModel.qpos0`: initial positions (nq); in bytes.
pub(super) const MODEL_QPOS0: usize = 1344;
/// `mjModel.actuator_ctrlrange`: least and greatest action of each motor (nu, 2); in bytes.
pub(super) const MODEL_CTRLRANGE: usize = 4088;
/// `mjData.qpos`: positions (nq); in bytes.
pub(super) const DATA_QPOS: usize = 161656;
/// `mjData.qvel`: velocities (nv); in bytes.
pub(super) const DATA_QVEL: usize = 161664;
/// `mjData.ctrl`: actions (nu); in bytes.
pub(super) const DATA_CTRL: usize = 161696;
/// `mjData.xpos`: where the bodies' frames are (nbody, 3); in bytes.
pub(super) const DATA_XPOS: usize = 161792;
/// `mjData.cfrc_ext`: contact forces on the bodies (nbody, 6); in bytes.
pub(super) const DATA_CFRC_EXT: usize = 162360;
/// `mjvScene.ngeom`: how many shapes it has; in bytes.
pub(super) const SCENE_NGEOM: usize = 4;
/// `mjvScene.geoms`: its shapes (ngeom); in bytes.
pub(super) const SCENE_GEOMS: usize = 8;
/// `mjvGeom.matid`: its material, -1 for none; in bytes.
pub(super) const GEOM_MATID: usize = 20;
/// `mjvGeom.rgba`: its color (4); in bytes.
pub(super) const GEOM_RGBA: usize = 92;
/// `mjvGeom.transparent`: whether it is drawn as transparent; in bytes.
pub(super) const GEOM_TRANSPARENT: usize = 232;
/// `mjvCamera.lookat`: the place that it looks at (3); in bytes.
pub(super) const CAMERA_LOOKAT: usize = 16;
/// `mjvCamera.distance`: how far away from there it is; in bytes.
pub(super) const CAMERA_DISTANCE: usize = 40;
/// `mjvCamera.azimuth`: which way it looks, in degrees; in bytes.
pub(super) const CAMERA_AZIMUTH: usize = 48;
/// `mjvCamera.elevation`: how far up it looks, in degrees; in bytes.
pub(super) const CAMERA_ELEVATION: usize = 56;
/// What `mj_version` says of this library.
pub(super) const VERSION: i32 = 337;
/// The time, as a part of the state.
pub(super) const STATE_TIME: u32 = 1;
/// The positions, as a part of the state.
pub(super) const STATE_QPOS: u32 = 2;
/// The velocities, as a part of the state.
pub(super) const STATE_QVEL: u32 = 4;
/// The actions, as a part of the state.
pub(super) const STATE_CTRL: u32 = 32;
/// Bytes of a scene.
pub(super) const SCENE_SIZE: usize = 11184;
/// Bytes of a shape of a scene.
pub(super) const GEOM_SIZE: usize = 236;
/// Bytes of a camera.
pub(super) const CAMERA_SIZE: usize = 72;
/// Bytes of the options of what is shown.
pub(super) const OPTION_SIZE: usize = 92;
/// Bytes of what drawing needs on its device.
pub(super) const CONTEXT_SIZE: usize = 61512;
/// Letters in their usual size.
pub(super) const FONT_100: i32 = 100;
/// Letters without a shadow.
pub(super) const FONT_NORMAL: i32 = 0;
/// Where words are.
pub(super) const TOP_LEFT: i32 = 0;
/// Drawing into memory.
pub(super) const OFFSCREEN: i32 = 1;
/// Bodies, the world and lights.
pub(super) const EVERYTHING: i32 = 7;
/// Bodies alone.
pub(super) const BODIES: i32 = 2;
/// Forces from outside, six per body, as a part of the state.
pub(super) const STATE_FORCES: u32 = 128;

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
/// Forces from outside, six per body, as a part of the state.
pub(super) const STATE_FORCES: u32 = 128;

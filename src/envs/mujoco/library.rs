//! libmujoco, opened at run time: the functions that robots need, and models and simulations as values of Rust.
//!
//! Only version 3.3.7 is taken, because its structures are read at the places that [`layout`] has. [`Model::load`]
//! compares what stands there with what functions of the library say, before anything is computed with it.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::fmt::Display;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use super::layout;
use super::places::{Place, Places, VERSION};

/// Bytes for what MuJoCo says of a model file that it refuses.
const MESSAGE: usize = 1024;

/// A structure of the library's, behind a pointer.
pub(super) type Raw = *mut c_void;

/// A part of a picture, in pixels (`mjrRect`).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Rectangle {
    pub(super) left: c_int,
    pub(super) bottom: c_int,
    pub(super) width: c_int,
    pub(super) height: c_int,
}

macro_rules! functions {
    ($($name:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// Functions of libmujoco.
        pub(super) struct Functions {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            fn find(library: &libloading::Library) -> Result<Self, libloading::Error> {
                // SAFETY: the types are those of the library's headers; which version it is was found out before.
                #[allow(unsafe_code)]
                unsafe {
                    Ok(Self { $($name: *library.get($symbol)?,)* })
                }
            }
        }
    };
}

functions! {
    load_xml = "mj_loadXML": fn(*const c_char, *const c_void, *mut c_char, c_int) -> Raw;
    delete_model = "mj_deleteModel": fn(Raw);
    make_data = "mj_makeData": fn(Raw) -> Raw;
    delete_data = "mj_deleteData": fn(Raw);
    copy_data = "mj_copyData": fn(Raw, Raw, Raw) -> Raw;
    reset_data = "mj_resetData": fn(Raw, Raw);
    forward = "mj_forward": fn(Raw, Raw);
    step = "mj_step": fn(Raw, Raw);
    rne_post_constraint = "mj_rnePostConstraint": fn(Raw, Raw);
    state_size = "mj_stateSize": fn(Raw, c_uint) -> c_int;
    get_state = "mj_getState": fn(Raw, Raw, *mut f64, c_uint);
    set_state = "mj_setState": fn(Raw, Raw, *const f64, c_uint);
    default_camera = "mjv_defaultCamera": fn(Raw);
    default_option = "mjv_defaultOption": fn(Raw);
    default_scene = "mjv_defaultScene": fn(Raw);
    make_scene = "mjv_makeScene": fn(Raw, Raw, c_int);
    free_scene = "mjv_freeScene": fn(Raw);
    update_scene = "mjv_updateScene": fn(Raw, Raw, Raw, Raw, Raw, c_int, Raw);
    add_geoms = "mjv_addGeoms": fn(Raw, Raw, Raw, Raw, c_int, Raw);
    default_context = "mjr_defaultContext": fn(Raw);
    make_context = "mjr_makeContext": fn(Raw, Raw, c_int);
    free_context = "mjr_freeContext": fn(Raw);
    set_buffer = "mjr_setBuffer": fn(c_int, Raw);
    resize_offscreen = "mjr_resizeOffscreen": fn(c_int, c_int, Raw);
    render = "mjr_render": fn(Rectangle, Raw, Raw);
    overlay = "mjr_overlay": fn(c_int, c_int, Rectangle, *const c_char, *const c_char, Raw);
    read_pixels = "mjr_readPixels": fn(*mut u8, *mut f32, Rectangle, Raw);
}

/// The library, opened once and never closed; a failure is tried again.
fn functions(places: &Places) -> Result<&'static Functions, String> {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    if let Some(functions) = FUNCTIONS.get() {
        return Ok(functions);
    }
    if cfg!(not(target_pointer_width = "64")) {
        return Err(format!("MuJoCo {VERSION} needs a system with 64 bits"));
    }
    let opened = match places.library()? {
        Place::File(path) => open(path.as_os_str(), &path.display())?,
        Place::System(names) => {
            let mut failures = Vec::new();
            let opened = names.iter().find_map(|name| {
                // A file of this name may be another version: then that is the answer.
                match library(OsStr::new(name)) {
                    Ok(found) => Some(checked(found, &format!("the system's {name}"))),
                    Err(error) => {
                        failures.push(reason(&error));
                        None
                    }
                }
            });
            match opened {
                Some(opened) => opened?,
                None => return Err(places.missing(&failures)),
            }
        }
    };
    Ok(FUNCTIONS.get_or_init(|| opened))
}

/// Opens a file as the library, and forgets about it.
///
/// # Errors
/// If it can't be opened, or is another version.
pub(super) fn check(path: &Path) -> Result<(), String> {
    open(path.as_os_str(), &path.display()).map(drop)
}

fn open(name: &OsStr, shown: &dyn Display) -> Result<Functions, String> {
    let found = library(name).map_err(|error| {
        let why = reason(&error);
        format!("{shown} can't be opened ({why}); it is damaged, or made for another system")
    })?;
    checked(found, shown)
}

/// What the system's loader says: the last of an error's causes.
pub(super) fn reason(error: &libloading::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn library(name: &OsStr) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: a library may do anything when it is opened. This one is what the user put there as MuJoCo.
    #[allow(unsafe_code)]
    unsafe {
        libloading::Library::new(name)
    }
}

/// The functions of an opened library, which stays open, if it is the right version.
fn checked(library: libloading::Library, shown: &dyn Display) -> Result<Functions, String> {
    let no_function =
        |error: libloading::Error| format!("{shown} is no MuJoCo {VERSION}: {}", reason(&error));
    // SAFETY: both functions take nothing, and have had these types in all versions; the text is the
    // library's own, which stays open meanwhile.
    #[allow(unsafe_code)]
    let (number, version) = unsafe {
        type Number = unsafe extern "C" fn() -> c_int;
        type Text = unsafe extern "C" fn() -> *const c_char;
        let number = *library.get::<Number>("mj_version").map_err(no_function)?;
        let text = *library
            .get::<Text>("mj_versionString")
            .map_err(no_function)?;
        (
            number(),
            CStr::from_ptr(text()).to_string_lossy().into_owned(),
        )
    };
    if number != layout::VERSION {
        return Err(format!(
            "{shown} is MuJoCo {version}, and only {VERSION} will do: data and reference returns come from it, and \
             from 3.5.0 on Hopper and Ant move in another way"
        ));
    }
    let functions = Functions::find(&library).map_err(no_function)?;
    // Never closed: the functions live as long as the process.
    std::mem::forget(library);
    Ok(functions)
}

/// A loaded model, which nothing changes.
pub(super) struct Model {
    functions: &'static Functions,
    raw: NonNull<c_void>,
    positions: usize,
    velocities: usize,
    motors: usize,
    bodies: usize,
}

// SAFETY: the structure behind the pointer belongs to this value alone and is only read after it is made.
#[allow(unsafe_code)]
unsafe impl Send for Model {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Model {}

impl Model {
    /// Loads a model file (MJCF), e.g. `hopper.xml`.
    ///
    /// # Errors
    /// If library or file isn't found, the library is another version, its structures are not as expected, or it refuses the
    /// file.
    pub(super) fn load(places: &Places, file: &str) -> Result<Arc<Self>, String> {
        let functions = functions(places)?;
        let path = places.model(file)?;
        let name = path.to_str().and_then(|text| CString::new(text).ok());
        let name = name
            .ok_or_else(|| format!("MuJoCo takes no path that is not UTF-8: {}", path.display()))?;
        let mut message = [0_u8; MESSAGE];
        // SAFETY: the name ends with a zero, no other files come along, and the message has the size that is said.
        #[allow(unsafe_code)]
        let raw = unsafe {
            let room = message.as_mut_ptr().cast::<c_char>();
            (functions.load_xml)(name.as_ptr(), ptr::null(), room, MESSAGE as c_int)
        };
        let said = CStr::from_bytes_until_nul(&message).map(CStr::to_string_lossy);
        let raw = NonNull::new(raw).ok_or_else(|| {
            let said = said.unwrap_or_default();
            format!("MuJoCo refused {}: {said}", path.display())
        })?;
        let count = |place| {
            // SAFETY: there is a model behind the pointer, and an int there in it.
            #[allow(unsafe_code)]
            let count = unsafe { field::<c_int>(raw, place) };
            usize::try_from(count).unwrap_or(0)
        };
        let model = Arc::new(Self {
            functions,
            raw,
            positions: count(layout::MODEL_NQ),
            velocities: count(layout::MODEL_NV),
            motors: count(layout::MODEL_NU),
            bodies: count(layout::MODEL_NBODY),
        });
        check_layout(&model)?;
        Ok(model)
    }

    /// The library's functions.
    pub(super) fn functions(&self) -> &'static Functions {
        self.functions
    }

    /// The structure itself.
    pub(super) fn raw(&self) -> Raw {
        self.raw.as_ptr()
    }

    /// How many velocities there are.
    pub(super) fn velocities(&self) -> usize {
        self.velocities
    }

    /// How many bodies there are, the world among them.
    pub(super) fn bodies(&self) -> usize {
        self.bodies
    }

    /// Seconds per step.
    pub(super) fn timestep(&self) -> f64 {
        // SAFETY: there is a model behind the pointer, and an mjtNum there in it.
        #[allow(unsafe_code)]
        unsafe {
            field(self.raw, layout::MODEL_TIMESTEP)
        }
    }

    /// Initial positions.
    pub(super) fn initial_positions(&self) -> &[f64] {
        self.numbers(layout::MODEL_QPOS0, self.positions)
    }

    /// Least and greatest action of each motor.
    pub(super) fn action_ranges(&self) -> &[[f64; 2]] {
        self.numbers(layout::MODEL_CTRLRANGE, 2 * self.motors)
            .as_chunks()
            .0
    }

    fn numbers(&self, place: usize, count: usize) -> &[f64] {
        // SAFETY: at these places of a model are pointers to so many numbers, which live and stay as long as it does.
        #[allow(unsafe_code)]
        unsafe {
            let first: NonNull<f64> = field(self.raw, place);
            std::slice::from_raw_parts(first.as_ptr(), count)
        }
    }

    fn state_size(&self, part: c_uint) -> usize {
        // SAFETY: there is a model behind the pointer.
        #[allow(unsafe_code)]
        let size = unsafe { (self.functions.state_size)(self.raw.as_ptr(), part) };
        usize::try_from(size).unwrap_or(0)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the model is this value's own, and simulations of it hold the value.
        #[allow(unsafe_code)]
        unsafe {
            (self.functions.delete_model)(self.raw.as_ptr());
        }
    }
}

/// A simulation of a model.
pub(super) struct Data {
    model: Arc<Model>,
    raw: NonNull<c_void>,
    /// First numbers of the arrays, which stay where they are.
    qpos: NonNull<f64>,
    qvel: NonNull<f64>,
    ctrl: NonNull<f64>,
    xpos: NonNull<f64>,
    cfrc_ext: NonNull<f64>,
}

// SAFETY: the structure behind the pointer belongs to this value alone and is bound to no thread.
#[allow(unsafe_code)]
unsafe impl Send for Data {}

impl Data {
    /// A simulation in the model's initial state, of which nothing has been computed yet.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn new(model: Arc<Model>) -> Result<Self, String> {
        // SAFETY: there is a model behind the pointer; at these places of a simulation are pointers to its arrays.
        #[allow(unsafe_code)]
        unsafe {
            let raw = (model.functions.make_data)(model.raw.as_ptr());
            let raw = NonNull::new(raw).ok_or("MuJoCo has no memory for a simulation")?;
            Ok(Self {
                qpos: field(raw, layout::DATA_QPOS),
                qvel: field(raw, layout::DATA_QVEL),
                ctrl: field(raw, layout::DATA_CTRL),
                xpos: field(raw, layout::DATA_XPOS),
                cfrc_ext: field(raw, layout::DATA_CFRC_EXT),
                model,
                raw,
            })
        }
    }

    /// A simulation of the same model in the same state, with all that was computed in it.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn copied(&self) -> Result<Self, String> {
        let copy = Self::new(Arc::clone(&self.model))?;
        let (model, to, from) = (
            self.model.raw.as_ptr(),
            copy.raw.as_ptr(),
            self.raw.as_ptr(),
        );
        // SAFETY: both simulations are of this model; the library only reads the one that is copied.
        #[allow(unsafe_code)]
        unsafe {
            (self.model.functions.copy_data)(to, model, from);
        }
        Ok(copy)
    }

    pub(super) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The structure itself, to be changed.
    pub(super) fn raw(&mut self) -> Raw {
        self.raw.as_ptr()
    }

    /// Positions.
    pub(super) fn qpos(&self) -> &[f64] {
        self.numbers(self.qpos, self.model.positions)
    }

    /// Velocities.
    pub(super) fn qvel(&self) -> &[f64] {
        self.numbers(self.qvel, self.model.velocities)
    }

    /// Where the frames of the bodies are.
    pub(super) fn xpos(&self) -> &[[f64; 3]] {
        let numbers = self.numbers(self.xpos, 3 * self.model.bodies);
        numbers.as_chunks().0
    }

    /// Contact forces on the bodies, as [`Data::rne_post_constraint`] left them.
    pub(super) fn cfrc_ext(&self) -> &[[f64; 6]] {
        let numbers = self.numbers(self.cfrc_ext, 6 * self.model.bodies);
        numbers.as_chunks().0
    }

    fn ctrl(&self) -> &[f64] {
        self.numbers(self.ctrl, self.model.motors)
    }

    /// Positions, to be set.
    pub(super) fn qpos_mut(&mut self) -> &mut [f64] {
        self.numbers_mut(self.qpos, self.model.positions)
    }

    /// Velocities, to be set.
    pub(super) fn qvel_mut(&mut self) -> &mut [f64] {
        self.numbers_mut(self.qvel, self.model.velocities)
    }

    /// Actions, to be set.
    pub(super) fn ctrl_mut(&mut self) -> &mut [f64] {
        self.numbers_mut(self.ctrl, self.model.motors)
    }

    fn numbers(&self, first: NonNull<f64>, count: usize) -> &[f64] {
        // SAFETY: one of the simulation's own arrays with as many numbers, borrowed as it is.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(first.as_ptr(), count)
        }
    }

    fn numbers_mut(&mut self, first: NonNull<f64>, count: usize) -> &mut [f64] {
        // SAFETY: as above, and nothing else borrows it.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(first.as_ptr(), count)
        }
    }

    /// Back to the model's initial state.
    pub(super) fn reset(&mut self) {
        self.call(self.model.functions.reset_data);
    }

    /// Computes everything that follows from positions, velocities and actions, without going on in time.
    pub(super) fn forward(&mut self) {
        self.call(self.model.functions.forward);
    }

    /// One step of time.
    pub(super) fn step(&mut self) {
        self.call(self.model.functions.step);
    }

    /// Computes the contact forces, among others.
    pub(super) fn rne_post_constraint(&mut self) {
        self.call(self.model.functions.rne_post_constraint);
    }

    fn call(&mut self, function: unsafe extern "C" fn(Raw, Raw)) {
        // SAFETY: one of the library's functions of a model and a simulation of it, which is borrowed mutably.
        #[allow(unsafe_code)]
        unsafe {
            function(self.model.raw.as_ptr(), self.raw.as_ptr());
        }
    }

    /// A part of the state, as the library itself copies it.
    fn state(&self, part: c_uint) -> Vec<f64> {
        let mut state = vec![0.0; self.model.state_size(part)];
        let (model, raw) = (self.model.raw.as_ptr(), self.raw.as_ptr());
        // SAFETY: there is as much room as the library said.
        #[allow(unsafe_code)]
        unsafe {
            (self.model.functions.get_state)(model, raw, state.as_mut_ptr(), part);
        }
        state
    }

    /// Sets a part of the state through the library, to numbers that are all different.
    fn mark(&mut self, part: c_uint) {
        let count = self.model.state_size(part);
        let state: Vec<f64> = (1..=count).map(|i| 0.01 * i as f64).collect();
        let (model, raw) = (self.model.raw.as_ptr(), self.raw.as_ptr());
        // SAFETY: as many numbers as the library reads, of a simulation that is borrowed mutably.
        #[allow(unsafe_code)]
        unsafe {
            (self.model.functions.set_state)(model, raw, state.as_ptr(), part);
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // SAFETY: the simulation is this value's own.
        #[allow(unsafe_code)]
        unsafe {
            (self.model.functions.delete_data)(self.raw.as_ptr());
        }
    }
}

/// Compares what stands at the places of [`layout`] with what the library's functions say.
fn check_layout(model: &Arc<Model>) -> Result<(), String> {
    let odd = |what: &str| {
        format!(
            "the structures of this MuJoCo {VERSION} are not laid out as its headers say ({what}): it was built in \
             another way"
        )
    };
    let sizes = [
        (layout::STATE_QPOS, model.positions, "nq"),
        (layout::STATE_QVEL, model.velocities, "nv"),
        (layout::STATE_CTRL, model.motors, "nu"),
        (layout::STATE_FORCES, 6 * model.bodies, "nbody"),
    ];
    for (part, found, what) in sizes {
        if found == 0 || model.state_size(part) != found {
            return Err(odd(what));
        }
    }
    let mut data = Data::new(Arc::clone(model))?;
    data.step();
    if data.state(layout::STATE_TIME) != [model.timestep()] {
        return Err(odd("timestep"));
    }
    data.reset();
    if data.state(layout::STATE_QPOS) != model.initial_positions() {
        return Err(odd("qpos0"));
    }
    for part in [layout::STATE_QPOS, layout::STATE_QVEL, layout::STATE_CTRL] {
        data.mark(part);
    }
    let arrays = [
        (layout::STATE_QPOS, data.qpos(), "qpos"),
        (layout::STATE_QVEL, data.qvel(), "qvel"),
        (layout::STATE_CTRL, data.ctrl(), "ctrl"),
    ];
    for (part, found, what) in arrays {
        if data.state(part) != found {
            return Err(odd(what));
        }
    }
    Ok(())
}

/// What stands `place` bytes behind the beginning of a structure.
///
/// # Safety
/// There has to be a `T` there, aligned.
#[allow(unsafe_code)]
unsafe fn field<T: Copy>(raw: NonNull<c_void>, place: usize) -> T {
    // SAFETY: the caller vouches for it.
    unsafe { raw.byte_add(place).cast::<T>().read() }
}

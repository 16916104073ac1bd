//! Robots as pictures: drawn by libmujoco into memory, with OpenGL through EGL, which needs no window. libEGL is opened at run time too.

use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use super::layout;
use super::library::{Data, Model, Raw, Rectangle, reason};

/// Environment variable that names libEGL.
pub const EGL_VARIABLE: &str = "TRAJFORMER_EGL_LIB";

/// Shapes that fit into a picture.
const SHAPES: c_int = 2000;

/// From where a robot is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// How far away, in metres.
    pub(super) distance: f64,
    /// How far up the look goes, in degrees; negative is down.
    pub(super) elevation: f64,
    /// How high the place is that is looked at.
    pub(super) height: f64,
    /// Leading positions that say where the robot is: the camera goes along.
    pub(super) track: usize,
}

/// A second robot in the picture, in one color, that can be seen through.
#[derive(Debug, Clone, Copy)]
pub struct Ghost<'a> {
    /// Its positions (qpos).
    pub positions: &'a [f64],
    /// Red, green, blue and opacity, 0 to 1.
    pub color: [f32; 4],
}

/// Draws a model; on the thread that made it.
pub struct Offscreen {
    data: Data,
    view: View,
    scene: Block,
    camera: Block,
    options: Block,
    context: Block,
    area: Rectangle,
    gl: Egl,
}

/// Zeroed memory for a structure of the library's, whose fields are read and written at their places.
struct Block(Vec<u64>);

impl Block {
    fn new(bytes: usize) -> Self {
        Self(vec![0; bytes.div_ceil(size_of::<u64>())])
    }

    fn raw(&mut self) -> Raw {
        self.0.as_mut_ptr().cast()
    }

    fn get<T: Copy>(&self, place: usize) -> T {
        self.check::<T>(place);
        // SAFETY: it lies within the block, aligned, as just checked; numbers and pointers alone are read.
        #[allow(unsafe_code)]
        unsafe {
            self.0.as_ptr().byte_add(place).cast::<T>().read()
        }
    }

    fn set(&mut self, place: usize, number: f64) {
        self.check::<f64>(place);
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            self.0
                .as_mut_ptr()
                .byte_add(place)
                .cast::<f64>()
                .write(number);
        }
    }

    fn check<T>(&self, place: usize) {
        let end = place + size_of::<T>();
        assert!(end <= size_of_val(&self.0[..]) && place.is_multiple_of(align_of::<T>()));
    }
}

impl Offscreen {
    /// Pictures of so many pixels of a model.
    pub(super) fn new(
        model: &Arc<Model>,
        view: View,
        (width, height): (usize, usize),
    ) -> Result<Self, String> {
        let side = |pixels: usize| c_int::try_from(pixels).unwrap_or(c_int::MAX);
        let area = Rectangle {
            left: 0,
            bottom: 0,
            width: side(width),
            height: side(height),
        };
        let gl = Egl::new()?;
        let data = Data::new(Arc::clone(model))?;
        let functions = model.functions();
        let mut scene = Block::new(layout::SCENE_SIZE);
        let mut camera = Block::new(layout::CAMERA_SIZE);
        let mut options = Block::new(layout::OPTION_SIZE);
        let mut context = Block::new(layout::CONTEXT_SIZE);
        // SAFETY: each block has the size of its structure and is filled in by the library's own functions, in
        // the order that they ask for, while a context of OpenGL is current on this thread.
        #[allow(unsafe_code)]
        unsafe {
            (functions.default_camera)(camera.raw());
            (functions.default_option)(options.raw());
            (functions.default_scene)(scene.raw());
            (functions.make_scene)(model.raw(), scene.raw(), SHAPES);
            (functions.default_context)(context.raw());
            (functions.make_context)(model.raw(), context.raw(), layout::FONT_100);
            (functions.resize_offscreen)(area.width, area.height, context.raw());
            (functions.set_buffer)(layout::OFFSCREEN, context.raw());
        }
        camera.set(layout::CAMERA_AZIMUTH, 90.0);
        camera.set(layout::CAMERA_DISTANCE, view.distance);
        camera.set(layout::CAMERA_ELEVATION, view.elevation);
        Ok(Self {
            data,
            view,
            scene,
            camera,
            options,
            context,
            area,
            gl,
        })
    }

    /// A picture of the robot in these positions, of its ghosts, and of words in two columns at the top left: width * height * 3
    /// bytes, row by row from the top.
    ///
    /// # Panics
    /// If positions are not the model's.
    pub fn draw(&mut self, positions: &[f64], ghosts: &[Ghost<'_>], words: [&str; 2]) -> Vec<u8> {
        self.gl.make_current();
        self.look_at(positions);
        self.pose(positions);
        let model = Arc::clone(self.data.model());
        let functions = model.functions();
        let nothing: Raw = ptr::null_mut();
        // SAFETY: structures that `new` made, of this model; no perturbation is shown.
        #[allow(unsafe_code)]
        unsafe {
            (functions.update_scene)(
                model.raw(),
                self.data.raw(),
                self.options.raw(),
                nothing,
                self.camera.raw(),
                layout::EVERYTHING,
                self.scene.raw(),
            );
        }
        for ghost in ghosts {
            self.add(ghost);
        }
        let words = words.map(|text| CString::new(text).unwrap_or_default());
        let (width, height) = (self.area.width as usize, self.area.height as usize);
        let mut pixels = vec![0; width * height * 3];
        // SAFETY: as above; the words end with zeros, and there is room for as many pixels as are read.
        #[allow(unsafe_code)]
        unsafe {
            let context = self.context.raw();
            (functions.render)(self.area, self.scene.raw(), context);
            (functions.overlay)(
                layout::FONT_NORMAL,
                layout::TOP_LEFT,
                self.area,
                words[0].as_ptr(),
                words[1].as_ptr(),
                context,
            );
            (functions.read_pixels)(pixels.as_mut_ptr(), ptr::null_mut(), self.area, context);
        }
        let rows = pixels.chunks_exact(width * 3).rev();
        rows.flatten().copied().collect()
    }

    fn look_at(&mut self, positions: &[f64]) {
        let mut place = [0.0, 0.0, self.view.height];
        let track = self.view.track;
        place[..track].copy_from_slice(&positions[..track]);
        for (axis, number) in place.into_iter().enumerate() {
            let at = layout::CAMERA_LOOKAT + axis * size_of::<f64>();
            self.camera.set(at, number);
        }
    }

    fn pose(&mut self, positions: &[f64]) {
        self.data.qpos_mut().copy_from_slice(positions);
        self.data.forward();
    }

    fn add(&mut self, ghost: &Ghost<'_>) {
        self.pose(ghost.positions);
        let before = self.shapes();
        let model = Arc::clone(self.data.model());
        let functions = model.functions();
        let nothing: Raw = ptr::null_mut();
        // SAFETY: as in `draw`.
        #[allow(unsafe_code)]
        unsafe {
            (functions.add_geoms)(
                model.raw(),
                self.data.raw(),
                self.options.raw(),
                nothing,
                layout::BODIES,
                self.scene.raw(),
            );
        }
        let first: Raw = self.scene.get(layout::SCENE_GEOMS);
        for shape in before..self.shapes() {
            // SAFETY: the scene has as many shapes of this size, and these fields are in each.
            #[allow(unsafe_code)]
            unsafe {
                let shape = first.byte_add(shape * layout::GEOM_SIZE);
                let color = shape.byte_add(layout::GEOM_RGBA).cast::<[f32; 4]>();
                color.write(ghost.color);
                shape.byte_add(layout::GEOM_MATID).cast::<c_int>().write(-1);
                shape
                    .byte_add(layout::GEOM_TRANSPARENT)
                    .cast::<u8>()
                    .write(1);
            }
        }
    }

    fn shapes(&self) -> usize {
        let count: c_int = self.scene.get(layout::SCENE_NGEOM);
        usize::try_from(count).unwrap_or(0)
    }
}

impl Drop for Offscreen {
    fn drop(&mut self) {
        self.gl.make_current();
        let functions = self.data.model().functions();
        // SAFETY: `new` made both, and nothing uses them any more.
        #[allow(unsafe_code)]
        unsafe {
            (functions.free_context)(self.context.raw());
            (functions.free_scene)(self.scene.raw());
        }
    }
}

/// A context of OpenGL without a window.
struct Egl {
    functions: Functions,
    display: Raw,
    context: Raw,
}

type GetDisplay = unsafe extern "C" fn(Raw) -> Raw;
type GetPlatformDisplay = unsafe extern "C" fn(c_uint, Raw, *const c_int) -> Raw;
type QueryDevices = unsafe extern "C" fn(c_int, *mut Raw, *mut c_int) -> c_uint;
type Initialize = unsafe extern "C" fn(Raw, *mut c_int, *mut c_int) -> c_uint;
type BindApi = unsafe extern "C" fn(c_uint) -> c_uint;
type ChooseConfig = unsafe extern "C" fn(Raw, *const c_int, *mut Raw, c_int, *mut c_int) -> c_uint;
type CreateContext = unsafe extern "C" fn(Raw, Raw, Raw, *const c_int) -> Raw;
type MakeCurrent = unsafe extern "C" fn(Raw, Raw, Raw, Raw) -> c_uint;
type DestroyContext = unsafe extern "C" fn(Raw, Raw) -> c_uint;
type GetProcAddress = unsafe extern "C" fn(*const c_char) -> *const c_void;

#[derive(Clone, Copy)]
struct Functions {
    get_display: GetDisplay,
    get_proc_address: GetProcAddress,
    initialize: Initialize,
    bind_api: BindApi,
    choose_config: ChooseConfig,
    create_context: CreateContext,
    make_current: MakeCurrent,
    destroy_context: DestroyContext,
}

/// Numbers of EGL's headers.
mod egl {
    pub(super) const OPENGL_API: u32 = 0x30A2;
    pub(super) const NONE: i32 = 0x3038;
    pub(super) const SURFACE_TYPE: i32 = 0x3033;
    pub(super) const PBUFFER: i32 = 0x0001;
    pub(super) const RENDERABLE_TYPE: i32 = 0x3040;
    pub(super) const OPENGL: i32 = 0x0008;
    pub(super) const DEPTH_SIZE: i32 = 0x3025;
    pub(super) const PLATFORM_DEVICE: u32 = 0x313F;
    pub(super) const PLATFORM_SURFACELESS: u32 = 0x31DD;
}

impl Egl {
    fn new() -> Result<Self, String> {
        let functions = Functions::open()?;
        for display in functions.displays() {
            if let Some(context) = functions.context(display) {
                let made = Self {
                    functions,
                    display,
                    context,
                };
                if made.make_current() {
                    return Ok(made);
                }
            }
        }
        Err(missing("it has no OpenGL without a window"))
    }

    /// Makes it the one of this thread.
    fn make_current(&self) -> bool {
        let nothing: Raw = ptr::null_mut();
        // SAFETY: a display and a context of it that `new` made; there is no surface.
        #[allow(unsafe_code)]
        unsafe {
            (self.functions.make_current)(self.display, nothing, nothing, self.context) != 0
        }
    }
}

impl Drop for Egl {
    fn drop(&mut self) {
        let nothing: Raw = ptr::null_mut();
        // SAFETY: the context is this value's own, and not current any more when it goes.
        #[allow(unsafe_code)]
        unsafe {
            (self.functions.make_current)(self.display, nothing, nothing, nothing);
            (self.functions.destroy_context)(self.display, self.context);
        }
    }
}

/// What to say where nothing can be drawn.
fn missing(why: &str) -> String {
    format!(
        "pictures of robots need EGL and OpenGL, in software or on a GPU: {why}; Debian and Ubuntu have both in the packages \
         libegl1 and libgl1-mesa-dri, Fedora in mesa-libEGL and mesa-dri-drivers; {EGL_VARIABLE} names another libEGL"
    )
}

impl Functions {
    /// Opens libEGL for the whole process: libmujoco asks it for OpenGL's functions.
    #[cfg(unix)]
    fn open() -> Result<Self, String> {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

        let named = std::env::var_os(EGL_VARIABLE).filter(|value| !value.is_empty());
        let name = named.unwrap_or_else(|| OsString::from("libEGL.so.1"));
        let failed = |error: libloading::Error| {
            let name: &OsStr = &name;
            missing(&format!(
                "{} can't be opened ({})",
                name.display(),
                reason(&error)
            ))
        };
        // SAFETY: the system's own library, whose functions have the types of EGL's headers; it is never closed.
        #[allow(unsafe_code)]
        unsafe {
            let library = Library::open(Some(&name), RTLD_NOW | RTLD_GLOBAL).map_err(failed)?;
            let found = Self {
                get_display: *library.get("eglGetDisplay").map_err(failed)?,
                get_proc_address: *library.get("eglGetProcAddress").map_err(failed)?,
                initialize: *library.get("eglInitialize").map_err(failed)?,
                bind_api: *library.get("eglBindAPI").map_err(failed)?,
                choose_config: *library.get("eglChooseConfig").map_err(failed)?,
                create_context: *library.get("eglCreateContext").map_err(failed)?,
                make_current: *library.get("eglMakeCurrent").map_err(failed)?,
                destroy_context: *library.get("eglDestroyContext").map_err(failed)?,
            };
            std::mem::forget(library);
            Ok(found)
        }
    }

    #[cfg(not(unix))]
    fn open() -> Result<Self, String> {
        Err(missing("there is none on this system"))
    }

    /// Displays that may be there, those of graphics cards first.
    fn displays(&self) -> Vec<Raw> {
        const DEVICES: usize = 8;
        let nothing: Raw = ptr::null_mut();
        let mut displays = Vec::new();
        // SAFETY: extensions that EGL has itself looked up by name, with the types of its headers; there is room for as
        // many devices as are asked for.
        #[allow(unsafe_code)]
        unsafe {
            let platform = (self.get_proc_address)(c"eglGetPlatformDisplayEXT".as_ptr());
            let query = (self.get_proc_address)(c"eglQueryDevicesEXT".as_ptr());
            if !platform.is_null() {
                let platform = std::mem::transmute::<*const c_void, GetPlatformDisplay>(platform);
                if !query.is_null() {
                    let query = std::mem::transmute::<*const c_void, QueryDevices>(query);
                    let (mut devices, mut count) = ([nothing; DEVICES], 0);
                    if query(DEVICES as c_int, devices.as_mut_ptr(), &raw mut count) != 0 {
                        let count = usize::try_from(count).unwrap_or(0).min(DEVICES);
                        for device in &devices[..count] {
                            displays.push(platform(egl::PLATFORM_DEVICE, *device, ptr::null()));
                        }
                    }
                }
                displays.push(platform(egl::PLATFORM_SURFACELESS, nothing, ptr::null()));
            }
            displays.push((self.get_display)(nothing));
        }
        displays.retain(|display| !display.is_null());
        displays
    }

    /// A context of OpenGL on a display, if that has any.
    fn context(&self, display: Raw) -> Option<Raw> {
        let wanted = [
            egl::SURFACE_TYPE,
            egl::PBUFFER,
            egl::RENDERABLE_TYPE,
            egl::OPENGL,
            egl::DEPTH_SIZE,
            24,
            egl::NONE,
        ];
        let nothing: Raw = ptr::null_mut();
        let (mut major, mut minor, mut count) = (0, 0, 0);
        let mut config = nothing;
        // SAFETY: a display that EGL gave; the list of what is wanted ends as EGL asks for, and there is room for one answer.
        #[allow(unsafe_code)]
        unsafe {
            let is_there = (self.initialize)(display, &raw mut major, &raw mut minor) != 0
                && (self.bind_api)(egl::OPENGL_API) != 0
                && (self.choose_config)(
                    display,
                    wanted.as_ptr(),
                    &raw mut config,
                    1,
                    &raw mut count,
                ) != 0
                && count > 0;
            if !is_there {
                return None;
            }
            let context = (self.create_context)(display, config, nothing, ptr::null());
            Some(context).filter(|context| !context.is_null())
        }
    }
}

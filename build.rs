//! Puts the folder of libmujoco into the rpath of this package's binaries, tests, examples and
//! benches, when the feature `mujoco` is on.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=MUJOCO_DYNAMIC_LINK_DIR");
    let feature = std::env::var_os("CARGO_FEATURE_MUJOCO").is_some();
    let unix = std::env::var_os("CARGO_CFG_UNIX").is_some();
    if let (true, true, Ok(folder)) = (feature, unix, std::env::var("MUJOCO_DYNAMIC_LINK_DIR")) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}

//! What this build is: its version, commit and features, and what it chose for this processor.

use std::sync::OnceLock;

use trajformer_models::kernels::{instructions, switch};

/// Features of this build that change what it can do, by their names in `Cargo.toml`.
pub fn features() -> Vec<&'static str> {
    let known = [
        ("cli", cfg!(feature = "cli")),
        ("hub", cfg!(feature = "hub")),
        ("pictures", cfg!(feature = "pictures")),
        ("text", cfg!(feature = "text")),
        ("arrow", cfg!(feature = "arrow")),
        ("mujoco", cfg!(feature = "mujoco")),
        ("serve", cfg!(feature = "serve")),
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
        ("mkl", cfg!(feature = "mkl")),
    ];
    let on = known.iter().filter(|(_, on)| *on);
    on.map(|(name, _)| *name).collect()
}

/// Commit of the sources; only optimised builds from a repository know it.
pub fn commit() -> Option<&'static str> {
    option_env!("TRAJFORMER_COMMIT")
}

/// Version, commit, features and kernels, a line each.
pub fn description() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(described)
}

fn described() -> String {
    let off: Vec<&str> = switch::Kernel::ALL
        .into_iter()
        .filter(|kernel| !kernel.is_on())
        .map(switch::Kernel::name)
        .collect();
    let kernels = match &off[..] {
        [] => "all".to_owned(),
        off => format!("all but {}", off.join(", ")),
    };
    format!(
        "{}\ncommit: {}\nfeatures: {}\nplatform: {}-{}\nkernels: {kernels}, with {}",
        env!("CARGO_PKG_VERSION"),
        commit().unwrap_or("unknown"),
        features().join(", "),
        std::env::consts::ARCH,
        std::env::consts::OS,
        instructions()
    )
}

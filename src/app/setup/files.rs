//! Which files are installed, in which wheels they are, and what their content is. tests/setup-mujoco takes the same models.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::envs::mujoco::places::{VERSION, library_file};

/// Where licences go.
pub(super) const LICENSES: &str = "licenses";

/// A wheel of the package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Project {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

/// The library alone is taken of it: Apache-2.0, (c) DeepMind Technologies Limited.
const MUJOCO: Project = Project {
    name: "mujoco",
    version: VERSION,
};
/// The models of its environments -v4: MIT, (c) OpenAI and the Farama Foundation.
const VERSION_4: Project = Project {
    name: "gymnasium",
    version: "0.29.1",
};
/// The one model that -v5 has another file of.
const VERSION_5: Project = Project {
    name: "gymnasium",
    version: "1.4.0",
};

/// All of them.
pub(super) const PROJECTS: [Project; 3] = [MUJOCO, VERSION_4, VERSION_5];

impl Project {
    /// Whether a wheel of the project is one for this system; its library is the same for every Python.
    pub(super) fn fits(self, wheel: &str) -> bool {
        let name = format!("{}-{}-", self.name, self.version);
        let is_it = wheel.starts_with(&name) && wheel.ends_with(".whl");
        let platform = platform();
        let system = platform.is_some_and(|platform| {
            wheel.contains(platform.system) && wheel.ends_with(platform.machine)
        });
        is_it && (self != MUJOCO || system)
    }

    /// What the file name of a wheel looks like that [`fits`](Self::fits).
    pub(super) fn pattern(self) -> String {
        match platform().filter(|_| self == MUJOCO) {
            Some(platform) => format!(
                "{}-{}-*-{}*{}",
                self.name, self.version, platform.system, platform.machine
            ),
            None => format!("{}-{}-*.whl", self.name, self.version),
        }
    }
}

/// A system that the library is published for.
struct Platform {
    os: &'static str,
    arch: &'static str,
    /// What the names of its wheels have in them, and how they end.
    system: &'static str,
    machine: &'static str,
    /// Of the library.
    sha256: &'static str,
}

/// As the wheels of 3.3.7 on the public index hold it.
const PLATFORMS: [Platform; 4] = [
    Platform {
        os: "linux",
        arch: "x86_64",
        system: "manylinux",
        machine: "_x86_64.whl",
        sha256: "23841520ecf60ad648405674a757f260949f7cf6b44deb284398b9851b3f061d",
    },
    Platform {
        os: "linux",
        arch: "aarch64",
        system: "manylinux",
        machine: "_aarch64.whl",
        sha256: "8e810a626a3ce394cd638b299785427fb48d3af77b62f3fa71095b9cf6bda1f0",
    },
    Platform {
        os: "macos",
        arch: "aarch64",
        system: "macosx",
        machine: "_arm64.whl",
        sha256: "2ac33837d51c03dad7f610ac721707ed6d18defae16d616d309468bc184f544e",
    },
    Platform {
        os: "macos",
        arch: "x86_64",
        system: "macosx",
        machine: "_x86_64.whl",
        sha256: "7d8616fa1bae897eb116330d710034299616aaf1fe78175520cda8088a643d60",
    },
];

fn platform() -> Option<&'static Platform> {
    let here = (std::env::consts::OS, std::env::consts::ARCH);
    PLATFORMS.iter().find(|p| (p.os, p.arch) == here)
}

/// A file that is installed.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// In the folder.
    pub(super) place: PathBuf,
    pub(super) project: Project,
    /// In the wheel.
    pub(super) member: String,
    pub(super) sha256: &'static str,
}

/// The library for this system.
///
/// # Errors
/// If it is not published for it.
pub(super) fn library() -> Result<File, String> {
    let platform = platform().ok_or_else(|| {
        format!(
            "MuJoCo {VERSION} is not published for {} on {}: build its library yourself, and name it with {}",
            std::env::consts::OS,
            std::env::consts::ARCH,
            crate::envs::mujoco::places::LIBRARY_VARIABLE
        )
    })?;
    let name = library_file();
    Ok(File {
        place: PathBuf::from("lib").join(name),
        project: MUJOCO,
        member: format!("mujoco/{name}"),
        sha256: platform.sha256,
    })
}

/// The models, as the wheels on the public index hold them.
pub(super) fn models() -> impl Iterator<Item = File> {
    let all = [
        (
            "hopper.xml",
            VERSION_4,
            "3ce93a055ffdcd83c0c701d2400768e40d2cbb9532f3c4ae33377c27f8b39f9e",
        ),
        (
            "half_cheetah.xml",
            VERSION_4,
            "11797a5d69e8ac955e89ca6fdd3a0087f1c990094fda401ac51420de1b6c5494",
        ),
        (
            "walker2d.xml",
            VERSION_4,
            "ac13373c7ac9003a5311c4704b314ed11149b3dd7600bbc02770487300f9ad2d",
        ),
        (
            "ant.xml",
            VERSION_4,
            "cd5f83ef0ea35b0969e65d360c5bacd5b74ccaef6b27e4433b5168c605e3e2be",
        ),
        (
            "walker2d_v5.xml",
            VERSION_5,
            "6bed53a6cc3ca73c4fe8ac3486d3b4228927264a6454f4ef16d3eed3c58bc09d",
        ),
    ];
    all.into_iter().map(|(name, project, sha256)| File {
        place: PathBuf::from("models").join(name),
        project,
        member: format!("gymnasium/envs/mujoco/assets/{name}"),
        sha256,
    })
}

/// A SHA-256 as hexadecimal digits.
pub(super) fn sha256(content: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(content);
    let digits = |byte: &u8| format!("{byte:02x}");
    hash.finalize().iter().map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_of_other_projects_versions_and_systems_do_not_fit() {
        assert!(VERSION_4.fits("gymnasium-0.29.1-py3-none-any.whl"));
        for other in [
            "gymnasium-0.29.10-py3-none-any.whl",
            "gymnasium-1.4.0-py3-none-any.whl",
            "gymnasium-0.29.1.tar.gz",
            "gymnasium_robotics-0.29.1-py3-none-any.whl",
        ] {
            assert!(!VERSION_4.fits(other), "{other}");
        }
        let wheels = [
            "mujoco-3.3.7-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            "mujoco-3.3.7-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
            "mujoco-3.3.7-cp311-cp311-macosx_11_0_arm64.whl",
            "mujoco-3.3.7-cp311-cp311-macosx_10_16_x86_64.whl",
        ];
        let fitting = wheels.iter().filter(|wheel| MUJOCO.fits(wheel)).count();
        assert_eq!(fitting, usize::from(platform().is_some()));
        assert!(!MUJOCO.fits("mujoco-3.3.7-cp311-cp311-win_amd64.whl"));
    }
}

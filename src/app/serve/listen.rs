//! Where a server listens, and how many may come.

use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::str::FromStr;

use trajformer_core::error::{Error, Result};

/// Open files that are not connections: libraries, checkpoints, logs.
#[cfg(unix)]
const OTHER_FILES: u64 = 128;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address and a port; port 0 is a free one.
    Tcp(SocketAddr),
    /// A socket in the file system, which only its owner can open.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            #[cfg(unix)]
            if !path.is_empty() {
                return Ok(Self::Unix(path.into()));
            }
            return Err(format!("`unix:{path}` can't be listened at on this system"));
        }
        let text = text.replace("localhost:", "127.0.0.1:");
        text.parse().map(Self::Tcp).map_err(|_| {
            "expected ADDRESS:PORT, e.g. 127.0.0.1:8000 or [::1]:8000, or unix:PATH".to_owned()
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, PathBuf),
}

impl Listener {
    pub(super) fn bind(address: &Address) -> Result<Self> {
        let failed = |source: std::io::Error| {
            let address = address.to_string();
            let is_taken = source.kind() == std::io::ErrorKind::AddrInUse;
            let advice = match (is_taken, address.starts_with("unix:")) {
                (false, _) => "",
                (true, true) => {
                    ": another program listens there, or it is no socket; choose another name"
                }
                (true, false) => {
                    ": another program listens there; choose another port, or 0 for a free one"
                }
            };
            Error::settings(format!("can't listen at {address}: {source}{advice}"))
        };
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Tcp(listener))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let is_socket = std::fs::symlink_metadata(path)
                    .is_ok_and(|found| found.file_type().is_socket());
                // Of a server that was killed.
                if is_socket && UnixStream::connect(path).is_err() {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                let listener = UnixListener::bind(path).map_err(failed)?;
                let owner_only = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(path, owner_only).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    pub(super) fn address(&self) -> Result<Address> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr();
                let address = address.map_err(|error| Error::settings(error.to_string()))?;
                Ok(Address::Tcp(address))
            }
            #[cfg(unix)]
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }
}

/// Takes a server's socket out of the file system.
#[cfg(unix)]
pub(super) fn remove(socket: &Path) {
    if let Err(error) = std::fs::remove_file(socket) {
        tracing::warn!("{}: the socket can't be removed: {error}", socket.display());
    }
}

/// As many connections as are asked for and the system allows; it allows more where it is asked to.
pub(super) fn connections_allowed(asked: usize) -> usize {
    #[cfg(unix)]
    {
        let needed = asked as u64 + OTHER_FILES;
        let allowed = rlimit::increase_nofile_limit(needed).unwrap_or(needed);
        if allowed < needed {
            let left = allowed.saturating_sub(OTHER_FILES).max(1);
            tracing::warn!(
                "the system allows {allowed} open files (ulimit -n), so at most {left} connections are held, not {asked}"
            );
            return usize::try_from(left).unwrap_or(asked);
        }
    }
    asked
}

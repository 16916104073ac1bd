//! Stands in the place of Python processes where there are no Unix sockets.

use crate::envs::gym::options::GymOptions;
use trajformer_core::error::{Error, Result};

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Make,
    Resize,
    Reset,
    Step,
    Render,
}

/// Never made.
pub(super) struct Process {
    name: String,
}

impl Process {
    pub fn start(name: &str, _options: &GymOptions) -> Result<Self> {
        Self {
            name: name.to_owned(),
        }
        .refused()
    }

    fn refused<T>(&self) -> Result<T> {
        Err(Error::Env {
            name: self.name.clone(),
            problem: "environments of Gymnasium need Linux or macOS".to_owned(),
        })
    }

    pub fn send(&mut self, _call: Call, _body: &[u8]) -> Result<()> {
        self.refused()
    }

    pub fn receive_greeting(&mut self, _next: Call) -> Result<()> {
        self.refused()
    }

    pub fn receive(&mut self) -> Result<&[u8]> {
        self.refused()
    }

    pub fn hang_up(&mut self) {}
}

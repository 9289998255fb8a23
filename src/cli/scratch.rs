//! A folder of our own, for what a command starts around itself.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A folder that goes, with all that is in it, when it is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes `promantis-COMMAND-PROCESS` in `parent`, for nobody else to read.
    ///
    /// # Errors
    /// When it cannot be made, or exists: so nobody else can have prepared it.
    pub(super) fn new(parent: &Path, command: &str) -> io::Result<Self> {
        let path = parent.join(format!("promantis-{command}-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, as all temporary files are.
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! Disks that fail when told to: those of the unit tests.

use promantis::edge::disk::{Disk, File};

#[path = "../../../src/edge/disk/failing.rs"]
pub(crate) mod failing;

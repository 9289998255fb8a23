//! How many files the process may have open: a journal has each of its segments open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system lets it be raised: what most systems begin with is for programs that wait for
/// descriptors with `select`, which this one does not.
///
/// # Errors
/// As the system tells; the limit is as before then.
pub fn raise_limit() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(())
}

/// How many there may be now; `u64::MAX` where nothing limits them.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal of a hundred gibibytes had more segments than a process may have files open.
    #[test]
    fn the_limit_is_raised_as_far_as_it_can_be() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let most = maximum.unwrap_or(u64::MAX);
        setrlimit(Resource::Nofile, Rlimit { current: Some(most - 1), maximum }).expect("it can be lowered");
        raise_limit().expect("it can be raised");
        assert_eq!(limit(), most);
    }
}

//! Derived samples into remote-write requests.

//! Block snappy, bounded before anything is allocated.

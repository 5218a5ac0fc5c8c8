//! Turns a path or a hub name into the files of one checkpoint.

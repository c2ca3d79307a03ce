//! Change streams of a real MongoDB as a source.

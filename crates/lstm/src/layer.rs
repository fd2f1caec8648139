//! One direction of one layer over a segment.

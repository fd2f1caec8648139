//! Matrix products, from the register tile up.

pub(crate) mod matrix;
pub(crate) mod pack;
pub(crate) mod packed;
pub(crate) mod product;
pub(crate) mod streamed;
pub(crate) mod tile;

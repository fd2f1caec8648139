//! Matrix products, from the register tile up.

pub(crate) mod arithmetic;
pub(crate) mod matrix;
pub(crate) mod narrow;
pub(crate) mod pack;
pub(crate) mod packed;
pub(crate) mod product;
pub(crate) mod streamed;
pub(crate) mod tile;
pub(crate) mod words;

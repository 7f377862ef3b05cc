//! The `device` protocol over a whole gateway, asked as its clients ask.

mod flows;
mod refusals;
mod replay;
mod secure;
pub(crate) mod shop;
mod trials;

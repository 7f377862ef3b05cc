//! The contracts, tested from outside: tables of what is accepted and refused, golden bytes made by
//! other programs (OpenSSL and Python's standard library), and properties.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod audit_segment;
#[cfg(test)]
mod classic;
#[cfg(test)]
mod cloud;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod device;
#[cfg(test)]
mod evaluation;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod oauth;
#[cfg(test)]
mod offline;
#[cfg(test)]
mod package;
#[cfg(test)]
mod strict_json;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod version;

//! Device fingerprints: what a machine is known by, the same from every SDK.
//!
//! ```text
//! HOST:<name>|OS:<os>|ARCH:<architecture>|MAC:<address>|CPU:<hash of the CPU's name>
//! fingerprint = lower-case hex of SHA-256 of that line
//! ```
//!
//! The names of system and architecture are Go's (`linux`, `darwin`, `windows`; `amd64`, `arm64`).
//! A missing address or CPU name leaves a sentinel in its place; a missing host name leaves its
//! whole part out. That is what the reference client does, and its recorded inputs are our test.
//!
//! What it leaves to others: asking the machine (the SDK). The readers of what machines say are
//! here, so that every SDK can be held to the same tables.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Stands for an address that could not be read.
pub const NO_MAC_ADDRESS: &str = "NO_MAC_ADDR";
/// Stands for a CPU whose name could not be read.
pub const NO_CPU_NAME: &str = "NO_CPU_INFO";
/// Where Linux tells the address, in the order in which the reference client asks; the first that
/// can be read is taken, whether the interface is up or not.
pub const LINUX_MAC_PATHS: [&str; 4] = [
    "/sys/class/net/eth0/address",
    "/sys/class/net/ens33/address",
    "/sys/class/net/enp0s3/address",
    "/sys/class/net/wlan0/address",
];
/// Fewest characters of a fingerprint that a server accepts.
pub const MIN_CHARS: usize = 16;
/// Most characters of a fingerprint that a server accepts.
pub const MAX_CHARS: usize = 128;

/// What a fingerprint is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs<'a> {
    /// The host's name; `None` leaves the part out.
    pub hostname: Option<&'a str>,
    /// The system in Go's words ([`go_os`]).
    pub os: &'a str,
    /// The architecture in Go's words ([`go_arch`]).
    pub arch: &'a str,
    /// The address of the first interface, as the machine writes it.
    pub mac_address: Option<&'a str>,
    /// The CPU's name, as the machine writes it.
    pub cpu_name: Option<&'a str>,
}

impl Inputs<'_> {
    /// The line that is hashed.
    pub fn line(&self) -> String {
        let mut line = String::new();
        if let Some(hostname) = self.hostname {
            line.push_str("HOST:");
            line.push_str(hostname);
            line.push('|');
        }
        let mac = self.mac_address.unwrap_or(NO_MAC_ADDRESS);
        let cpu = self.cpu_name.map_or_else(|| NO_CPU_NAME.to_owned(), cpu_hash);
        let (os, arch) = (self.os, self.arch);
        // Writing to a string cannot fail.
        let _ = write!(line, "OS:{os}|ARCH:{arch}|MAC:{mac}|CPU:{cpu}");
        line
    }
}

/// The fingerprint of a machine: 64 lower-case hex digits.
pub fn fingerprint(inputs: &Inputs<'_>) -> String {
    hex(&Sha256::digest(inputs.line()))
}

/// Whether a server takes a text as a fingerprint: 16 to 128 characters of `A-Z a-z 0-9 _ -`. Case
/// matters: the same digits in upper case are another device.
pub fn is_fingerprint(text: &str) -> bool {
    (MIN_CHARS..=MAX_CHARS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The first 16 bytes of SHA-256 of a CPU's name, as 32 lower-case hex digits.
pub fn cpu_hash(cpu_name: &str) -> String {
    hex(&Sha256::digest(cpu_name)[..16])
}

/// Go's name for a system, from Rust's (`std::env::consts::OS`).
pub fn go_os(rust_os: &str) -> &str {
    match rust_os {
        "macos" => "darwin",
        same => same,
    }
}

/// Go's name for an architecture, from Rust's (`std::env::consts::ARCH`).
pub fn go_arch(rust_arch: &str) -> &str {
    match rust_arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        same => same,
    }
}

/// The CPU's name from `/proc/cpuinfo`: the first line that begins with `model name`, what stands
/// between its first and second colon.
pub fn linux_cpu_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    named(line.split(':').nth(1)?)
}

/// The address from one of [`LINUX_MAC_PATHS`].
pub fn linux_mac_address(contents: &str) -> Option<&str> {
    named(contents)
}

/// The address from `ifconfig en0`: the word after `ether`.
pub fn macos_mac_address(ifconfig: &str) -> Option<&str> {
    let line = ifconfig.lines().find(|line| line.trim_start().starts_with("ether "))?;
    line.split_whitespace().nth(1)
}

/// The CPU's name from `sysctl -n machdep.cpu.brand_string`.
pub fn macos_cpu_name(brand_string: &str) -> Option<&str> {
    named(brand_string)
}

/// The address from `getmac /fo csv /nh`: the first field of the first line that has one.
pub fn windows_mac_address(getmac: &str) -> Option<&str> {
    let line = getmac.lines().find(|line| !line.trim().is_empty())?;
    named(line.split(',').next()?.trim().trim_matches('"'))
}

/// The CPU's name from `wmic cpu get name`: its second line.
pub fn windows_cpu_name(wmic: &str) -> Option<&str> {
    named(wmic.lines().nth(1)?)
}

fn named(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

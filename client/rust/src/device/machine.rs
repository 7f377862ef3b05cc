//! What this machine says of itself, for its fingerprint.
//!
//! The readers of what machines say are in [`protocol::device::fingerprint`]; here they are asked.
//! Asking may wait for a program of the system (macOS, Windows), so it is done on a thread that may
//! wait, and whatever cannot be found out leaves the sentinel in its place.

use protocol::device::fingerprint::{self, Inputs};

/// The fingerprint of this machine.
pub(super) fn fingerprint() -> String {
    let (hostname, mac, cpu) = (crate::builder::known_hostname(), mac_address(), cpu_name());
    fingerprint::fingerprint(&Inputs {
        hostname: hostname.as_deref(),
        os: fingerprint::go_os(std::env::consts::OS),
        arch: fingerprint::go_arch(std::env::consts::ARCH),
        mac_address: mac.as_deref(),
        cpu_name: cpu.as_deref(),
    })
}

#[cfg(target_os = "linux")]
fn mac_address() -> Option<String> {
    // The first that can be read, as the reference client does it; what is in it comes after.
    let contents = fingerprint::LINUX_MAC_PATHS
        .into_iter()
        .find_map(|path| std::fs::read_to_string(path).ok())?;
    fingerprint::linux_mac_address(&contents).map(str::to_owned)
}

#[cfg(target_os = "linux")]
fn cpu_name() -> Option<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    fingerprint::linux_cpu_name(&cpuinfo).map(str::to_owned)
}

#[cfg(target_os = "macos")]
fn mac_address() -> Option<String> {
    fingerprint::macos_mac_address(&said("ifconfig", &["en0"])?).map(str::to_owned)
}

#[cfg(target_os = "macos")]
fn cpu_name() -> Option<String> {
    let brand = said("sysctl", &["-n", "machdep.cpu.brand_string"])?;
    fingerprint::macos_cpu_name(&brand).map(str::to_owned)
}

#[cfg(windows)]
fn mac_address() -> Option<String> {
    fingerprint::windows_mac_address(&said("getmac", &["/fo", "csv", "/nh"])?).map(str::to_owned)
}

#[cfg(windows)]
fn cpu_name() -> Option<String> {
    fingerprint::windows_cpu_name(&said("wmic", &["cpu", "get", "name"])?).map(str::to_owned)
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn mac_address() -> Option<String> {
    None
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn cpu_name() -> Option<String> {
    None
}

/// What a program of the system says.
#[cfg(any(target_os = "macos", windows))]
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_has_one_fingerprint() {
        let fingerprint = super::fingerprint();
        assert!(protocol::device::fingerprint::is_fingerprint(&fingerprint));
        assert_eq!((fingerprint.len(), &fingerprint), (64, &super::fingerprint()));
    }
}

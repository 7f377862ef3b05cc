//! Who asks: license keys and fingerprints.

use protocol::device::fingerprint::{
    Inputs, fingerprint, go_arch, go_os, is_fingerprint, linux_cpu_name, linux_mac_address,
    macos_cpu_name, macos_mac_address, windows_cpu_name, windows_mac_address,
};
use protocol::device::key::LicenseKey;

use super::{FINGERPRINT, KEY};

const NORMAL_KEY: &str = "NWEOAP55754WIZKHBODWFHAZPKTI2Q3JSANJXQ5P";

#[test]
fn a_key_is_read_as_people_type_it() {
    let groups_of_four: String =
        NORMAL_KEY.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four) + "-").collect();
    for typed in [
        KEY,
        NORMAL_KEY,
        &NORMAL_KEY.to_lowercase(),
        &KEY.replace('-', " "),
        &KEY.replace('-', " - "),
        &groups_of_four,
        &format!("\t{KEY}\r\n"),
    ] {
        let key = LicenseKey::normalise(typed).unwrap_or_else(|error| panic!("{typed}: {error}"));
        assert_eq!(key.expose(), NORMAL_KEY, "{typed}");
        assert_eq!(key.hyphenated().expose(), KEY);
        assert_eq!(key.last_characters(), "XQ5P");
    }
    let published = "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ12-3456";
    for wrong in [
        "",
        published,
        &NORMAL_KEY[1..],
        &format!("{NORMAL_KEY}A"),
        &NORMAL_KEY.replace('N', "0"),
        &NORMAL_KEY.replace('N', "1"),
        &NORMAL_KEY.replace('N', "8"),
        &NORMAL_KEY.replace('N', "="),
        &NORMAL_KEY.replace('N', "_"),
        &NORMAL_KEY.replace('N', "Ñ"),
        &NORMAL_KEY.replace('N', "ﬀ"),
        &format!("{KEY}\0"),
    ] {
        assert!(LicenseKey::normalise(wrong).is_err(), "{wrong}");
    }
}

/// Made with Python's hmac, hashlib and base64 from the layout in the module's header.
#[test]
fn a_generated_key_does_not_change() {
    let entropy: [u8; 21] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let key = LicenseKey::generate(&entropy, "client-1", " Owner@Example.COM ");
    assert_eq!(key.hyphenated().expose(), GENERATED);
    assert!(key.equals(&LicenseKey::normalise(GENERATED).unwrap()));
    let other = LicenseKey::generate(&entropy, "client-2", "owner@example.com");
    assert!(!key.equals(&other));
    assert_eq!(key.expose()[..33], other.expose()[..33], "21 bytes are the random part");
}

const GENERATED: &str = "AAAQE-AYEAU-DAOCA-JBIFQ-YDIOB-4IBCE-QTCSS-5ATYJ";

#[test]
fn a_fingerprint_has_a_sentinel_for_what_is_missing_but_the_host() {
    let full = Inputs {
        hostname: Some("mybox"),
        os: go_os("macos"),
        arch: go_arch("aarch64"),
        mac_address: None,
        cpu_name: None,
    };
    assert_eq!(full.line(), "HOST:mybox|OS:darwin|ARCH:arm64|MAC:NO_MAC_ADDR|CPU:NO_CPU_INFO");
    let nameless = Inputs { hostname: None, mac_address: Some("aa:bb"), ..full };
    assert_eq!(nameless.line(), "OS:darwin|ARCH:arm64|MAC:aa:bb|CPU:NO_CPU_INFO");
    let hash = fingerprint(&full);
    assert!(is_fingerprint(&hash) && hash.len() == 64 && hash != fingerprint(&nameless));
    for (rust, go) in [("x86_64", "amd64"), ("aarch64", "arm64"), ("x86", "386"), ("arm", "arm")] {
        assert_eq!(go_arch(rust), go);
    }
    assert_eq!((go_os("linux"), go_os("windows")), ("linux", "windows"));
}

#[test]
fn a_server_takes_16_to_128_characters_as_a_fingerprint() {
    let long = "a".repeat(128);
    for good in [FINGERPRINT, "0123456789abcdef", "A-b_0123456789ab", long.as_str()] {
        assert!(is_fingerprint(good), "{good}");
    }
    let longer = "a".repeat(129);
    for bad in
        ["", "0123456789abcde", &longer, "0123456789abcde ", "0123456789abcdé", "a/b/c/d/e/f/g/h/"]
    {
        assert!(!is_fingerprint(bad), "{bad}");
    }
}

#[test]
fn what_machines_say_is_read() {
    let cpuinfo = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC: 7 \nmodel name\t: B\n";
    for (found, expected) in [
        (linux_cpu_name(cpuinfo), Some("AMD EPYC")),
        (linux_cpu_name("model name\t:  \n"), None),
        (linux_cpu_name("model name\n"), None),
        (linux_cpu_name("Processor\t: ARMv7\n"), None),
        (linux_mac_address("02:fc:00:00:00:01\n"), Some("02:fc:00:00:00:01")),
        (linux_mac_address("\n"), None),
        (
            macos_mac_address("en0: flags=8863\n\tether a4:83:e7:00:00:01 \n"),
            Some("a4:83:e7:00:00:01"),
        ),
        (macos_mac_address("en0: flags=8863\n\tinet 10.0.0.1\n"), None),
        (macos_cpu_name("Apple M1 Pro\n"), Some("Apple M1 Pro")),
        (
            windows_mac_address("\r\n\"00-15-5D-01-02-03\",\"\\Device\\Tcpip\"\r\n"),
            Some("00-15-5D-01-02-03"),
        ),
        (windows_mac_address(""), None),
        (windows_cpu_name("Name\r\r\nIntel(R) Core(TM)  \r\r\n"), Some("Intel(R) Core(TM)")),
        (windows_cpu_name("Name\r\n"), None),
    ] {
        assert_eq!(found, expected);
    }
}

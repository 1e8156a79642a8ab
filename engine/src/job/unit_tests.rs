use super::*;

/// What a reader makes of each text; a fault is shown as `from..to what = fix`.
fn check<T: std::fmt::Debug>(read: fn(&str) -> Result<T, Fault>, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let found = match read(text) {
            Ok(value) => format!("{value:?}"),
            Err(fault) => format!("{:?} {} = {}", fault.at, fault.what, fault.fix),
        };
        assert_eq!(found, *expected, "{text:?}");
    }
}

#[test]
fn durations_are_a_number_and_a_unit_f55() {
    check(
        duration,
        &[
            ("10s", "10s"),
            ("5 seconds", "5s"),
            ("5 SECONDS", "5s"),
            ("500ms", "500ms"),
            ("250us", "250µs"),
            ("1m", "60s"),
            ("1 minute", "60s"),
            ("1h30m", "5400s"),
            ("1 hour 30 minutes", "5400s"),
            (" 2d ", "172800s"),
            ("0s", "0ns"),
            ("10", &format!("0..2 \"10\" has no unit = {DURATION_FORM}")),
            ("10 ", &format!("0..3 \"10\" has no unit = {DURATION_FORM}")),
            ("", &format!("0..0 expected a duration, found an empty text = {DURATION_FORM}")),
            ("s", &format!("0..1 expected a duration, found \"s\" = {DURATION_FORM}")),
            ("-5s", &format!("0..3 a duration is not negative = {DURATION_FORM}")),
            ("10 parsecs", &format!("3..10 \"parsecs\" is no unit of time = {DURATION_FORM}")),
            ("10secs", "2..6 \"secs\" is no unit of time = did you mean \"10sec\"?"),
            ("10 minuts", "3..9 \"minuts\" is no unit of time = did you mean \"10minute\"?"),
            ("5M", "1..2 \"M\" is no unit of time = did you mean \"5m\"?"),
            (
                "1 month",
                "2..7 \"month\" is no unit of time = months and years have no fixed length: write days, as \"30d\"",
            ),
            (
                "1.5s",
                "0..3 a duration has whole numbers = say the rest with a smaller unit: \"1500ms\" for 1.5 s",
            ),
            ("1h 30", &format!("0..5 \"1h 30\" has no unit = {DURATION_FORM}")),
            ("99999999999999d", "0..15 the duration \"99999999999999d\" is out of range = "),
            ("1s;", &format!("0..3 expected a duration, found \"1s;\" = {DURATION_FORM}")),
        ],
    );
}

#[test]
fn sizes_are_a_number_and_a_unit_f55() {
    check(
        size,
        &[
            ("64MiB", "67108864"),
            ("1GB", "1000000000"),
            ("4 KiB", "4096"),
            ("1.5GiB", "1610612736"),
            ("12B", "12"),
            ("1048576", &format!("0..7 \"1048576\" has no unit = {SIZE_FORM}")),
            ("64M", "2..3 \"M\" is no unit of size = did you mean \"64MiB\"?"),
            ("64mb", "2..4 \"mb\" is no unit of size = did you mean \"64MB\"?"),
            ("64mib", "2..5 \"mib\" is no unit of size = did you mean \"64MiB\"?"),
            ("64 bananas", &format!("3..10 \"bananas\" is no unit of size = {SIZE_FORM}")),
            ("1GB 2MB", &format!("1..7 \"GB 2MB\" is no unit of size = {SIZE_FORM}")),
            ("lots", &format!("0..4 expected a size, found \"lots\" = {SIZE_FORM}")),
            ("-1GB", &format!("0..4 a size is not negative = {SIZE_FORM}")),
            ("1.2.3GB", &format!("0..7 expected a size, found \"1.2.3GB\" = {SIZE_FORM}")),
            (
                "99999999999GiB",
                &format!("0..14 the size \"99999999999GiB\" is out of range = {SIZE_FORM}"),
            ),
        ],
    );
}

#[test]
fn cores_are_ranges_and_numbers() {
    check(
        cores,
        &[
            ("0", "[0]"),
            ("0-3", "[0, 1, 2, 3]"),
            ("6, 0-1", "[0, 1, 6]"),
            ("3-0", "0..3 the range runs backwards = write \"0-3\""),
            ("0-2,1", &format!("0..5 CPU 1 is named twice = {CORES_FORM}")),
            ("0,x", &format!("2..3 expected a set of CPUs, found \"x\" = {CORES_FORM}")),
            ("", &format!("0..0 expected a set of CPUs, found \"\" = {CORES_FORM}")),
            (
                "0-99999999999",
                &format!("0..13 expected a set of CPUs, found \"0-99999999999\" = {CORES_FORM}"),
            ),
        ],
    );
}

#[test]
fn addresses_name_a_host_and_a_port() {
    const FORM: &str = "write host:port, as \"127.0.0.1:9999\" or \"[::1]:9999\"";
    check(
        address,
        &[
            ("127.0.0.1:9999", "()"),
            ("localhost:1", "()"),
            ("[::1]:9999", "()"),
            ("localhost", &format!("0..9 \"localhost\" names no port = {FORM}")),
            ("9999", "0..4 \"9999\" names no port = write \"127.0.0.1:9999\""),
            (":9999", &format!("0..5 \":9999\" names no host = {FORM}")),
            ("::1:9999", &format!("0..3 an IPv6 address stands in brackets here = {FORM}")),
            ("h:0", &format!("2..3 a port is a number from 1 to 65535, found \"0\" = {FORM}")),
            (
                "h:99999",
                &format!("2..7 a port is a number from 1 to 65535, found \"99999\" = {FORM}"),
            ),
            ("tcp://h:1", "0..9 an address is no URL = write \"h:1\""),
        ],
    );
}

#[test]
fn time_zones_are_names_or_offsets() {
    check(
        timezone,
        &[
            ("UTC", "\"UTC\""),
            ("Z", "\"UTC\""),
            ("Europe/Berlin", "\"Europe/Berlin\""),
            ("europe/berlin", "\"Europe/Berlin\""),
            ("+02:00", "\"+02:00\""),
            (
                "Europe/Berln",
                "0..12 \"Europe/Berln\" is no time zone = did you mean \"Europe/Berlin\"?",
            ),
            ("tokyo", "0..5 \"tokyo\" is no time zone = did you mean \"Asia/Tokyo\"?"),
            (
                "+25:00",
                "0..6 \"+25:00\" is no time zone = write a name of the IANA database, as \"Europe/Berlin\", or an offset, as \"+02:00\"",
            ),
        ],
    );
}

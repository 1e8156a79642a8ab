//! The house rules that a program can check; ARCHITECTURE.md has their reasons.
//!
//! Each rule is a function from a file's path and text to its offences, tried on offending text
//! below; one test applies them all to this repository. A lint is better where one exists: bans of
//! single functions stand in `clippy.toml`, licences and sources in `deny.toml`.

use std::fs;
use std::path::Path;

/// A file without its tests, and the tests inside a file; longer ones move out (`foo/tests.rs`).
const FILE_LINES: usize = 500;
const INLINE_TEST_LINES: usize = 150;

/// Files that may say `unsafe`: each has a reason in its head.
const UNSAFE_FILES: &[&str] = &[
    "bench/src/child.rs",                    // a child's resources
    "hardware/src/affinity.rs",              // two system calls
    "hardware/src/limits.rs",                // one system call
    "hardware/src/ring.rs",                  // lends one buffer to the kernel
    "hardware/src/ring/tests.rs",            // a seccomp filter for one thread, limits
    "ingest/src/decode/digits_avx2.rs",      // vector instructions
    "ingest/src/decode/digits_avx512.rs",    // vector instructions
    "ingest/src/decode/structure_avx2.rs",   // vector instructions
    "ingest/src/decode/structure_avx512.rs", // vector instructions
    "ingest/src/ring/poll.rs",               // poll(2)
    "ingest/src/ring/uring.rs",              // lends buffers to the kernel
    "ingest/src/ring/uring_tests.rs",        // calls what lends them
    "ingest/tests/core_allocations.rs",      // an allocator that counts
    "ingest/tests/decode_allocations.rs",    // an allocator that counts
    "kernels/src/gpu/cache.rs",              // a driver believes its own bytes
    "kernels/tests/memory.rs",               // an allocator that counts
    "src/failpoint.rs",                      // kill(2)
    "src/interrupt.rs",                      // a signal handler
    "src/memory.rs",                         // mallopt(3), madvise(2)
    "tests/src/program.rs",                  // kill(2)
];

/// What the code under a folder must not mention, and what to do instead.
const BANS: &[(&str, &str, &str)] = &[
    ("engine/src/", "io_uring", "bytes come from `ingest`"),
    ("engine/src/", "rdkafka::", "Kafka lives in `ingest`"),
    ("engine/src/", "SystemTime", "time is an argument: results depend on the input alone"),
    ("engine/src/", "Instant::now", "time is an argument: results depend on the input alone"),
    ("engine/src/", "thread::spawn", "`ingest` owns the threads"),
    ("engine/src/", "thread::Builder", "`ingest` owns the threads"),
    ("kernels/src/", "std::thread", "a kernel runs on its caller's thread"),
    ("kernels/src/", "std::fs", "a kernel knows columns, no files"),
    ("kernels/src/", "std::net", "a kernel knows columns, no network"),
    ("kernels/src/", "SystemTime", "a kernel is a function of its arguments"),
    ("kernels/src/", "Instant::now", "a kernel is a function of its arguments"),
    ("hardware/src/", "pelton_", "`hardware` is a leaf"),
    ("kernels/src/", "pelton_", "`kernels` is a leaf"),
    ("engine/src/", "pelton_ingest", "`ingest` depends on `engine`, never the other way"),
    ("engine/src/", "pelton_hardware", "`engine` knows no machine"),
];

/// Words of work left undone; they stand in no file, comments included.
const UNDONE: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
];

#[test]
fn the_repository_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder");
    let mut files = Vec::new();
    collect(root, root, &mut files);
    let rust = files.iter().filter(|(path, _)| path.ends_with(".rs")).count();
    assert!(rust > 50, "only {rust} source files found under {}", root.display());
    let offences: Vec<_> = files.iter().flat_map(|(path, text)| offences(path, text)).collect();
    let gone = UNSAFE_FILES.iter().filter(|file| !root.join(file).is_file());
    let gone: Vec<_> =
        gone.map(|file| format!("{file}: may be unsafe, but is not there")).collect();
    let all = [offences, gone].concat();
    assert!(all.is_empty(), "{} offences:\n{}", all.len(), all.join("\n"));
}

/// All Rust files and manifests below a folder, with their paths from the root on.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("folders can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(root, &path, files);
            }
        } else if name.ends_with(".rs") || name == "Cargo.toml" {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let path = path.strip_prefix(root).expect("it is below the root");
            files.push((path.to_str().expect("names are UTF-8").to_owned(), text));
        }
    }
}

/// What a file does against the rules, one line each: place, fault, and what to do instead.
fn offences(path: &str, text: &str) -> Vec<String> {
    if path.ends_with("Cargo.toml") {
        return versions(path, text);
    }
    [lengths(path, text), unsafety(path, text), bans(path, text), undone(path, text)].concat()
}

fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs") || path.ends_with("_tests.rs")
}

/// The line on which the tests inside a file begin, from 0 on; the file's end without any.
fn tests_start(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let is_start = |pair: &[&str]| {
        pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{')
    };
    lines.windows(2).position(is_start).unwrap_or(lines.len())
}

fn lengths(path: &str, text: &str) -> Vec<String> {
    if is_test_file(path) {
        return Vec::new();
    }
    let (all, code) = (text.lines().count(), tests_start(text));
    let mut offences = Vec::new();
    if code > FILE_LINES {
        offences.push(format!("{path}: {code} lines, at most {FILE_LINES}: split it"));
    }
    if all - code > INLINE_TEST_LINES {
        let tests = all - code;
        offences.push(format!(
            "{path}:{}: {tests} lines of tests, at most {INLINE_TEST_LINES}: move them to a file",
            code + 1
        ));
    }
    offences
}

fn unsafety(path: &str, text: &str) -> Vec<String> {
    let is_word = |line: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    if UNSAFE_FILES.contains(&path) {
        return Vec::new();
    }
    let lines = code_of(text);
    let found = lines.iter().enumerate().filter(|(_, line)| is_word(line));
    found
        .map(|(i, _)| format!("{path}:{}: `unsafe` outside the files named in tidy.rs", i + 1))
        .collect()
}

fn bans(path: &str, text: &str) -> Vec<String> {
    if is_test_file(path) {
        return Vec::new();
    }
    let lines = code_of(text);
    let mut offences = Vec::new();
    for (_, word, instead) in BANS.iter().filter(|(folder, ..)| path.starts_with(folder)) {
        for (i, line) in lines[..tests_start(text)].iter().enumerate() {
            if line.contains(word) {
                offences.push(format!("{path}:{}: `{word}`: {instead}", i + 1));
            }
        }
    }
    offences
}

fn undone(path: &str, text: &str) -> Vec<String> {
    let mut offences = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for word in UNDONE.iter().filter(|word| line.contains(**word)) {
            offences.push(format!("{path}:{}: `{word}`: do it, or open an issue", i + 1));
        }
    }
    offences
}

/// Versions stand once, in the root's `[workspace.dependencies]`; elsewhere `workspace = true`.
fn versions(path: &str, text: &str) -> Vec<String> {
    let mut section = "";
    let mut offences = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            continue;
        }
        let depends = section.split('.').any(|part| part.ends_with("dependencies"));
        if section == "workspace.dependencies" || !depends || line.is_empty() {
            continue;
        }
        if !line.replace(' ', "").contains("workspace=true") {
            offences.push(format!(
                "{path}:{}: `{line}`: name the version in [workspace.dependencies] of the root",
                i + 1
            ));
        }
    }
    offences
}

/// The text line by line, comments and what stands in quotes left out.
fn code_of(text: &str) -> Vec<String> {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '\'' => character_length(rest),
            '"' => 1 + quoted_length(&rest[1..]),
            'r' if !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                raw_length(rest).unwrap_or(0)
            }
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        // Lines keep their numbers.
        code.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
        rest = &rest[skipped..];
    }
    let mut lines: Vec<_> = code.lines().map(str::to_owned).collect();
    lines.resize(text.lines().count(), String::new());
    lines
}

/// Bytes up to the closing quote, that included.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    end.map_or(text.len(), |end| end + 1)
}

/// Bytes of `r#"…"#`, if this is one.
fn raw_length(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|&c| c == '#').count();
    let start = 1 + hashes + 1;
    text.get(1 + hashes..)?.starts_with('"').then_some(())?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(text[start..].find(&close).map_or(text.len(), |end| start + end + close.len()))
}

/// Bytes of a character literal; 0 for a lifetime.
fn character_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[2..].find(['\'', '\n']).map_or(0, |end| match &text[2..=2] {
            "'" => 4,
            _ => 2 + end + 1,
        }),
        _ => match chars.next() {
            Some((end, '\'')) => end + 1,
            _ => 0,
        },
    }
}

#[cfg(test)]
mod rules {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(offences(path, text), expected, "{path}:\n{text}");
    }

    #[test]
    fn a_long_file_is_told_to_split() {
        let lines = |count: usize| "fn f() {}\n".repeat(count);
        let tests = |count: usize| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(count - 3));
        check("engine/src/a.rs", &lines(500), &[]);
        check(
            "engine/src/a.rs",
            &lines(501),
            &["engine/src/a.rs: 501 lines, at most 500: split it"],
        );
        check("engine/src/a.rs", &format!("{}{}", lines(500), tests(150)), &[]);
        check(
            "engine/src/a.rs",
            &format!("{}{}", lines(9), tests(151)),
            &["engine/src/a.rs:10: 151 lines of tests, at most 150: move them to a file"],
        );
        for path in ["engine/src/a/tests.rs", "engine/src/a_tests.rs", "tests/tests/a.rs"] {
            check(path, &lines(501), &[]);
        }
    }

    #[test]
    fn unsafe_code_needs_a_named_file() {
        let fault =
            |line| format!("kernels/src/a.rs:{line}: `unsafe` outside the files named in tidy.rs");
        check("kernels/src/a.rs", "fn f() {\n    unsafe { g() }\n}\n", &[&fault(2)]);
        check("kernels/src/a.rs", "unsafe fn f() {}\n", &[&fault(1)]);
        check("kernels/src/a.rs", "let c = '\"'; unsafe { f(\"a\\\"b\") }", &[&fault(1)]);
        check("kernels/src/a.rs", "let r = r#\"a\"b\"#;\n\nunsafe { f() }", &[&fault(3)]);
        check("kernels/src/a.rs", "let x: &'a u8 = f('\\''); unsafe { f() }", &[&fault(1)]);
        check("kernels/src/a.rs", "#![forbid(unsafe_code)] // unsafe\nlet s = \"unsafe\";\n", &[]);
        check(
            "kernels/src/a.rs",
            "let s = \"\n\n// \"; /* unsafe\n */ let unsafety = r\"unsafe\";",
            &[],
        );
        check("hardware/src/ring.rs", "unsafe { g() }\n", &[]);
    }

    #[test]
    fn a_ban_names_what_to_do_instead() {
        check(
            "engine/src/a.rs",
            "use std::time::SystemTime;\n",
            &[
                "engine/src/a.rs:1: `SystemTime`: time is an argument: results depend on the input alone",
            ],
        );
        check(
            "engine/src/a.rs",
            "\nlet t = std::thread::spawn(f);\n",
            &["engine/src/a.rs:2: `thread::spawn`: `ingest` owns the threads"],
        );
        check(
            "engine/src/a.rs",
            "use io_uring::opcode;\nuse rdkafka::x;\n",
            &[
                "engine/src/a.rs:1: `io_uring`: bytes come from `ingest`",
                "engine/src/a.rs:2: `rdkafka::`: Kafka lives in `ingest`",
            ],
        );
        check(
            "kernels/src/a.rs",
            "use std::fs::File;\n",
            &["kernels/src/a.rs:1: `std::fs`: a kernel knows columns, no files"],
        );
        check(
            "hardware/src/a.rs",
            "use pelton_engine::x;\n",
            &["hardware/src/a.rs:1: `pelton_`: `hardware` is a leaf"],
        );
        check("engine/src/a.rs", "//! No io_uring, no SystemTime.\n", &[]);
        check(
            "engine/src/a.rs",
            "#[cfg(test)]\nmod tests {\n    use std::time::SystemTime;\n}\n",
            &[],
        );
        check("ingest/src/a.rs", "use std::time::SystemTime; use io_uring::opcode;\n", &[]);
    }

    #[test]
    fn work_is_not_left_undone() {
        for word in UNDONE {
            let text = format!("// {word} later\n");
            let expected = format!("src/main.rs:1: `{word}`: do it, or open an issue");
            check("src/main.rs", &text, &[&expected]);
        }
        check("src/main.rs", "fn todos() {}\n", &[]);
    }

    #[test]
    fn versions_stand_in_the_root_alone() {
        let good = "[package]\nversion = \"1\"\n[dependencies]\nserde = { workspace = true }\n\
                    libc.workspace = true\n[workspace.dependencies]\nserde = \"1\"\n";
        check("Cargo.toml", good, &[]);
        let bad = "[dependencies]\nserde = \"1\"\n[dev-dependencies]\n\n\
                   arrow = { version = \"59\" }\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n\
                   [dependencies.toml]\nversion = \"1\"\n";
        let fault = |line, text: &str| {
            format!(
                "engine/Cargo.toml:{line}: `{text}`: name the version in [workspace.dependencies] of the root"
            )
        };
        check(
            "engine/Cargo.toml",
            bad,
            &[
                &fault(2, "serde = \"1\""),
                &fault(5, "arrow = { version = \"59\" }"),
                &fault(7, "libc = \"0.2\""),
                &fault(9, "version = \"1\""),
            ],
        );
    }
}

//! No text makes the reader panic, and every finding lies in the text.

use proptest::prelude::*;

use super::*;

const JOB: &str = include_str!("../../../jobs/sensors.toml");

fn reads_or_refuses(file: &str, sets: &[(String, String)]) {
    let text = JobText::new("j", file, sets);
    let findings = match parse(&text, &|name| Some(name.to_lowercase())) {
        Ok((job, warnings)) => {
            for line in 0..4 {
                for column in 0..80 {
                    assert!(job.query.place(line, column) <= text.as_str().len());
                }
            }
            warnings
        }
        Err(findings) => {
            assert!(!findings.is_empty(), "refused without a word:\n{file}");
            findings
        }
    };
    for finding in &findings {
        let at = finding.at.clone().unwrap_or(0..0);
        assert!(at.start <= at.end && at.end <= text.as_str().len(), "{finding:?}");
    }
    text.render(&findings);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(file in "\\PC{0,200}") {
        reads_or_refuses(&file, &[]);
    }

    #[test]
    fn any_damage_to_a_job_is_read_or_refused(
        from in 0..JOB.len(), len in 0..60usize, put in "[\\PC\n]{0,12}"
    ) {
        let start = (0..=from).rev().find(|&i| JOB.is_char_boundary(i)).unwrap_or(0);
        let end = (start + len..=JOB.len()).find(|&i| JOB.is_char_boundary(i)).unwrap_or(JOB.len());
        reads_or_refuses(&format!("{}{put}{}", &JOB[..start], &JOB[end..]), &[]);
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(
        key in prop::sample::select(vec![
            "name", "cores", "timezone", "memory_limit", "source.sensors.path", "source.sensors.schema",
            "source.sensors.watermark", "source.sensors.watermark.delay", "source.sensors.columns.ts.format",
            "source.sensors.csv.delimiter", "query.sql", "query.trigger", "sink.out.path", "checkpoint",
        ]),
        value in "\\PC{0,20}",
    ) {
        reads_or_refuses(JOB, &[(key.into(), value)]);
    }
}

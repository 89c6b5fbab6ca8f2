//! Extracts a guest's files from the output of its console.
//!
//! Owns the marks that `guest/init.sh` writes. Never judges the content of files. Called by `vm.rs`.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;

/// The results of a guest.
#[derive(Debug, Default)]
pub(super) struct Results {
    files: BTreeMap<String, Vec<u8>>,
    /// The guest came to its end.
    pub(super) done: bool,
    /// The guest's steps: seconds since its start, and a name.
    pub(super) steps: Vec<String>,
}

impl Results {
    /// The incomplete end of a console's output is left out.
    pub(super) fn of(console: &str) -> Self {
        let mut results = Self::default();
        let mut open: Option<(String, String)> = None;
        for line in console.lines().map(|line| line.trim_matches(['\r', ' '])) {
            // A kernel message may stand before a mark on the same line.
            let line = line.find("@@").map_or(line, |at| &line[at..]);
            if let Some(name) = line.strip_prefix("@@BEGIN ") {
                open = Some((name.to_owned(), String::new()));
            } else if let Some(name) = line.strip_prefix("@@END ") {
                let Some((began, text)) = open.take() else { continue };
                if began == name
                    && let Some(content) = unpacked(&text)
                {
                    results.files.insert(began, content);
                }
            } else if let Some(step) = line.strip_prefix("@@ ") {
                results.done |= step.ends_with(" done");
                results.steps.push(step.to_owned());
            } else if let Some((_, text)) = &mut open {
                text.push_str(line);
            }
        }
        results
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.files.get(name).map(|content| String::from_utf8_lossy(content).into_owned())
    }

    pub(super) fn json(&self, name: &str) -> Option<serde_json::Value> {
        serde_json::from_slice(self.files.get(name)?).ok()
    }

    /// A file that holds a number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.trim().parse().ok()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    #[cfg(test)]
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        Self { files, done: true, steps: Vec::new() }
    }
}

fn unpacked(text: &str) -> Option<Vec<u8>> {
    let packed = STANDARD.decode(text).ok()?;
    let mut content = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(content: &str) -> String {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content.as_bytes()).unwrap();
        STANDARD.encode(encoder.finish().unwrap())
    }

    #[test]
    fn files_come_out_of_a_console_with_other_words_on_it() {
        let text = packed("[1, 2]");
        let (one, two) = text.split_at(10);
        let console = format!(
            "Linux starts\r\n[    1.0] @@ 2.51 up: 6.1\r\n@@BEGIN a.json\r\n{one}\r\n{two}\r\n@@END a.json\r\n@@ 3.0 done\r\n"
        );
        let results = Results::of(&console);
        assert_eq!(results.json("a.json"), Some(serde_json::json!([1, 2])));
        assert_eq!(results.steps, ["2.51 up: 6.1", "3.0 done"]);
        assert!(results.done);
    }

    #[test]
    fn what_is_cut_or_spoilt_is_no_file() {
        let text = packed("x");
        let cut = Results::of(&format!("@@BEGIN a\n{text}\n"));
        assert_eq!(cut.text("a"), None);
        assert!(!cut.done);
        let spoilt = Results::of(&format!("@@BEGIN a\n{}\n@@END a\n", &text[..text.len() - 8]));
        assert_eq!(spoilt.text("a"), None);
    }
}

//! The JSON document.
//!
//! Owns its layout: indented down to [`INDENTED`] levels, each deeper value on one line, so that a
//! sample, a process and a request's list of chunks are a line each: readable, greppable, and a
//! fraction of the size that full indentation gives. Called through `report`.

use std::borrow::Cow;
use std::io;

use serde::Serialize as _;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

use super::model::Report;
use crate::clean;
use crate::secrets::KnownSecrets;

/// The report, `requests[]`, and the fields of a request.
const INDENTED: usize = 3;

/// Fields whose values are words of the report's own, whatever a secret is called: enumerations, and stable codes.
const OWN: [&str; 18] = [
    "api",
    "arrival",
    "code",
    "command",
    "error_kind",
    "kind",
    "level",
    "limited_by",
    "mode",
    "over",
    "peak_rss_kind",
    "prompts",
    "role",
    "severity",
    "shape",
    "size_memory_by",
    "token_source",
    "tracker",
];

/// One document with a newline at its end.
#[must_use]
pub fn to_json(report: &Report, known: &KnownSecrets) -> String {
    let mut bytes = Vec::new();
    let layout =
        Layout { known, depth: 0, filled: false, name: false, own: false, tool: false, text: String::new() };
    let mut serializer = Serializer::with_formatter(&mut bytes, layout);
    report.serialize(&mut serializer).expect("the model has string keys and a Vec takes every byte");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

struct Layout<'k> {
    /// Every string passes here, so that no field can forget it.
    known: &'k KnownSecrets,
    depth: usize,
    /// The innermost open array or object holds something.
    filled: bool,
    /// The string that is written is a field's name.
    name: bool,
    /// The value that is written is of one of the [`OWN`] fields.
    own: bool,
    /// What is written is in `tool`, which says what program wrote it.
    tool: bool,
    /// What of the string has come, where it has to be seen as a whole.
    text: String,
}

impl Layout<'_> {
    fn open<W: ?Sized + io::Write>(&mut self, w: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        w.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, w: &mut W, bracket: &[u8]) -> io::Result<()> {
        let indented = self.filled && self.depth <= INDENTED;
        self.depth -= 1;
        self.filled = true;
        if indented {
            self.new_line(w)?;
        }
        w.write_all(bracket)
    }

    fn item<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.filled = true;
        if !first {
            w.write_all(b",")?;
        }
        if self.depth <= INDENTED {
            self.new_line(w)
        } else if first {
            Ok(())
        } else {
            w.write_all(b" ")
        }
    }

    fn new_line<W: ?Sized + io::Write>(&self, w: &mut W) -> io::Result<()> {
        w.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| w.write_all(b"  "))
    }
}

impl Formatter for Layout<'_> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.close(w, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.item(w, first)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.close(w, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.name = true;
        self.item(w, first)
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.name = false;
        Ok(())
    }

    fn begin_string<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.text.clear();
        if self.known.is_empty() { w.write_all(b"\"") } else { Ok(()) }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, w: &mut W, fragment: &str) -> io::Result<()> {
        if self.known.is_empty() {
            return w.write_all(clean::json(fragment).as_bytes());
        }
        self.text.push_str(fragment);
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, w: &mut W, escape: CharEscape) -> io::Result<()> {
        if self.known.is_empty() {
            return CompactFormatter.write_char_escape(w, escape);
        }
        self.text.push(match escape {
            CharEscape::Quote => '"',
            CharEscape::ReverseSolidus => '\\',
            CharEscape::Solidus => '/',
            CharEscape::Backspace => '\x08',
            CharEscape::FormFeed => '\x0c',
            CharEscape::LineFeed => '\n',
            CharEscape::CarriageReturn => '\r',
            CharEscape::Tab => '\t',
            CharEscape::AsciiControl(byte) => char::from(byte),
        });
        Ok(())
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        if self.known.is_empty() {
            return w.write_all(b"\"");
        }
        if self.name {
            self.own = OWN.contains(&self.text.as_str());
            if self.depth == 1 {
                self.tool = self.text == "tool";
            }
        }
        let text = match (self.name, self.own || self.tool) {
            (true, _) => self.known.mask_name(&self.text),
            (false, true) => Cow::Borrowed(self.text.as_str()),
            (false, false) => self.known.mask(&self.text),
        };
        let quoted = serde_json::to_string(&*text)?;
        w.write_all(clean::json(&quoted).as_bytes())
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cgroup, engine, everything_failed, losses, oom, recycled};

    #[test]
    fn the_document_reads_back_to_the_same_report() {
        for f in [engine(), everything_failed(), recycled(), cgroup(), losses(), oom()] {
            let report = f.report();
            let text = to_json(&report, &KnownSecrets::none());
            assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        }
    }

    #[test]
    fn a_report_from_before_a_field_was_added_still_reads() {
        let mut old: serde_json::Value =
            serde_json::from_str(&to_json(&recycled().report(), &KnownSecrets::none())).unwrap();
        let mut without = |at: &str, names: &[&str]| {
            let fields = old.pointer_mut(at).unwrap().as_object_mut().unwrap();
            names.iter().for_each(|name| assert!(fields.remove(*name).is_some(), "{at}/{name}"));
        };
        without("/self", &["sample_interval_ns", "sample_interval_asked_ns"]);
        without("/target", &["exit"]);
        without("/resources", &["memory_peak_bytes", "memory_peak_source", "memory_peak_reason"]);
        without("/processes", &["commands"]);
        without("/processes/counts", &["moved_in", "moved_out", "lost"]);
        without("/processes/cpu", &["unlisted_ns", "cgroup_file", "cgroup_overhead_ns"]);
        without("/processes/list/0", &["slot", "argv_cut", "left_ns", "cpu_before_ns"]);
        let read: Report = serde_json::from_value(old).unwrap();
        // What it did not tell is unknown.
        let counts = read.processes.counts.unwrap();
        assert_eq!((counts.moved_in, counts.lost, read.processes.cpu.unlisted_ns), (None, None, None));
        assert_eq!((read.own.sample_interval_ns, read.processes.commands.len()), (None, 0));
    }

    #[test]
    fn what_does_not_show_is_an_escape_and_the_value_stays() {
        let mut report = engine().report();
        let hostile = "\x1b[2J\u{9b}1A\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}\u{2028}\u{7f}\u{e0041}é";
        report.processes.list[0].comm = hostile.to_owned();
        let text = to_json(&report, &KnownSecrets::none());
        let hidden =
            |c: char| c != '\n' && (c.is_control() || hostile.contains(c) && !c.is_ascii() && c != 'é');
        assert!(!text.contains(hidden), "{:?}", text.find(hidden));
        assert!(text.contains("\\u202e\\u2066\\u200b\\ufeff\\u00ad\\u2028\\u007f\\udb40\\udc41é"));
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn a_known_secret_is_in_no_string_and_no_foreign_name_and_the_document_stays_one() {
        const KEY: &str = "sk-\"quoted\\and/long\"";
        let mut report = engine().report();
        report.processes.list[0].comm = format!("a {KEY} b");
        report.processes.list[0].argv = Some(vec![KEY.to_owned(), "kept".to_owned()]);
        report.run.id = serde_json::to_string(KEY).unwrap();
        if let Some(load) = &mut report.load {
            load.model = Some(format!("\u{1b}{KEY}\u{202e}\n"));
        }
        let known = KnownSecrets::new([KEY.to_owned(), "requests_ok".to_owned()]);
        let text = to_json(&report, &known);
        assert!(!text.contains("quoted") && !text.contains("and/long"), "{text}");
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read.processes.list[0].comm, "a *** b");
        assert_eq!(read.processes.list[0].argv.as_ref().unwrap().join(" "), "*** kept");
        assert_eq!(read.load.unwrap().model.unwrap(), "\u{1b}***\u{202e}\n");
        assert_eq!(read.processes.cpu, report.processes.cpu);
        // What is not secret is written as without a secret.
        let other = KnownSecrets::new(["not in there".to_owned()]);
        assert_eq!(to_json(&report, &other), to_json(&report, &KnownSecrets::none()));
    }

    /// Every value that a field of an enumeration can have, and those fields.
    fn enumerations() -> (Vec<String>, Vec<String>) {
        let schema = serde_json::to_value(schemars::schema_for!(Report)).unwrap();
        let defs = schema["$defs"].as_object().unwrap();
        let values = |def: &serde_json::Value| -> Vec<String> {
            let one_of = def["oneOf"].as_array().into_iter().flatten().map(|value| &value["const"]);
            let all = def["enum"].as_array().into_iter().flatten().chain(one_of);
            all.filter_map(|value| value.as_str().map(str::to_owned)).collect()
        };
        let (mut words, mut fields) = (Vec::new(), Vec::new());
        for def in defs.values().chain([&schema]) {
            words.extend(values(def));
            for (name, field) in def["properties"].as_object().into_iter().flatten() {
                let refers = |(other, def): (&String, &serde_json::Value)| {
                    !values(def).is_empty() && field.to_string().contains(&format!("\"#/$defs/{other}\""))
                };
                if defs.iter().any(refers) {
                    fields.push(name.clone());
                }
            }
        }
        (words, fields)
    }

    #[test]
    fn a_key_that_is_a_word_of_the_reports_own_does_not_change_what_it_says() {
        let (mut words, fields) = enumerations();
        assert!(words.len() > 40 && fields.len() > 10, "{words:?} {fields:?}");
        for field in &fields {
            assert!(OWN.contains(&field.as_str()), "{field} is an enumeration: add it to OWN");
        }
        for f in [engine(), everything_failed(), recycled(), cgroup(), losses(), oom()] {
            let report = f.report();
            let own = [&report.tool.name, &report.tool.version, &report.tool.commit, &report.run.command];
            words.extend(own.map(Clone::clone));
            words.extend(report.validity.iter().map(|v| v.code.clone()));
            let read: Report =
                serde_json::from_str(&to_json(&report, &KnownSecrets::new(words.clone()))).unwrap();
            assert_eq!((&read.tool, &read.run.command), (&report.tool, &report.run.command));
            assert_eq!((read.run.mode, read.target.kind), (report.run.mode, report.target.kind));
            assert_eq!(read.processes.tracker, report.processes.tracker);
            let codes = |r: &Report| r.validity.iter().map(|v| v.code.clone()).collect::<Vec<_>>();
            assert_eq!(codes(&read), codes(&report));
        }
    }

    #[test]
    fn it_is_one_document_with_a_newline_at_its_end() {
        let text = to_json(&engine().report(), &KnownSecrets::none());
        assert!(text.starts_with("{\n  \"schema_version\": 1,\n") && text.ends_with("\n}\n"));
        assert_eq!(serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>().count(), 1);
    }

    #[test]
    fn a_sample_and_a_process_are_one_line_each() {
        let report = engine().report();
        let text = to_json(&report, &KnownSecrets::none());
        let lines = |with: &str| text.lines().filter(|l| l.contains(with)).count();
        assert_eq!(lines("\"cpu_user_ns\":"), report.processes.list.len());
        assert_eq!(lines("\"pss_bytes\": null, \"cpu_ns\":"), report.resources.samples.len());
        assert!(text.contains("\"insights\": []") || !report.insights.is_empty());
    }

    #[test]
    fn unknown_is_null_and_never_left_out() {
        let value: serde_json::Value =
            serde_json::from_str(&to_json(&everything_failed().report(), &KnownSecrets::none())).unwrap();
        assert!(value["timing"]["output_tokens_per_s"].is_null());
        assert!(value["timing"].as_object().unwrap().contains_key("output_tokens_per_s"));
        assert!(value["efficiency"].as_object().unwrap().contains_key("joules_per_token"));
    }
}

//! Text that a terminal shows and does not obey.
//!
//! Owns the set of characters that a terminal, a pager or an editor would obey or hide, and their written form. The
//! name of a process, a path or a server's message can neither move the cursor nor look like something else. Nothing is
//! dropped: `\x1b` and `\u{202e}` stand for the characters. Pure. Used for everything that a person reads: by `console`
//! for standard error, by `report` and `doctor` for text and JSON.

use std::borrow::Cow;
use std::fmt::Write;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Cleans our own text with what it quotes. Newlines stay.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_hidden(c), visible)
}

/// Cleans one value from outside, which must stay on its line: newlines are replaced, too.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, visible)
}

/// The same for bytes that need not be UTF-8: invalid ones become `\xff`.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&one_line(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Cleans a JSON document or a piece of one without changing its value, by escapes such as `\u202e`. Outside of its
/// strings JSON has no such character but the blanks of its layout.
#[must_use]
pub fn json(document: &str) -> Cow<'_, str> {
    let hidden = |c| !matches!(c, '\n' | '\t' | '\r') && is_hidden(c);
    escaped(document, hidden, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(&hidden) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if hidden(c) {
            write(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Control characters (C0, DEL, C1), formats (writing direction, zero width, tags), separators of lines and paragraphs,
/// and all other characters that are drawn as nothing.
fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

fn visible(c: char, out: &mut String) {
    let _ = match c {
        '\n' => out.write_str("\\n"),
        '\t' => out.write_str("\\t"),
        '\r' => out.write_str("\\r"),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every one that the requirements name, and some that they leave to "other invisible ones".
    fn named() -> impl Iterator<Item = char> {
        const RANGES: [std::ops::RangeInclusive<u32>; 16] = [
            0x00..=0x09,
            0x0b..=0x1f,
            0x7f..=0x9f,
            0xad..=0xad,
            0x61c..=0x61c,
            0x115f..=0x1160,
            0x180e..=0x180e,
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x2064,
            0x2066..=0x206f,
            0x3164..=0x3164,
            0xfe00..=0xfe0f,
            0xfeff..=0xfeff,
            0xfff9..=0xfffb,
            0xe0001..=0xe007f,
        ];
        RANGES.into_iter().flatten().filter_map(char::from_u32)
    }

    #[test]
    fn every_character_that_a_terminal_obeys_or_hides_is_written_out() {
        for c in named() {
            let text = format!("a{c}b\nc");
            let (shown, line) = (clean(&text), one_line(&text));
            assert!(!shown.contains(c) && shown.contains('\n'), "{c:?}: {shown}");
            assert!(!line.contains(c) && line.ends_with("b\\nc"), "{c:?}: {line}");
            assert!(shown.starts_with("a\\") && shown.ends_with("b\nc"), "{c:?}: {shown}");
        }
    }

    #[test]
    fn the_escapes_name_their_character() {
        assert_eq!(
            clean("\x1b]0;pwn\x07\u{9b}2J\u{202e}\u{e0041}"),
            "\\x1b]0;pwn\\x07\\u{9b}2J\\u{202e}\\u{e0041}"
        );
        assert_eq!(one_line("a\tb\r\n"), "a\\tb\\r\\n");
        assert_eq!(bytes(b"na\xff\xfe\x1b \xc3\xa9\xe2\x80"), "na\\xff\\xfe\\x1b é\\xe2\\x80");
    }

    #[test]
    fn what_shows_stays_and_costs_no_copy() {
        for text in ["", "plain ASCII ~", "– ≥ … é ß 中文 한국어 हिन्दी עברית العربية 🙂", "one\ntwo"]
        {
            assert!(matches!(clean(text), Cow::Borrowed(same) if same == text), "{text}");
            assert!(matches!(json(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn a_document_keeps_its_value_and_its_layout() {
        for c in named().filter(|c| u32::from(*c) > 0x1f) {
            let value = serde_json::json!({ format!("k{c}"): [format!("{c}\n\u{1f642}")] });
            let document = serde_json::to_string_pretty(&value).expect("it is JSON");
            let shown = json(&document);
            assert!(!shown.contains(c), "{c:?}");
            assert_eq!(shown.lines().count(), document.lines().count());
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("it still is"), value);
        }
    }

    proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once_and_any_bytes_can_be_shown(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let shown = bytes(&raw);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(one_line(&shown), shown.as_str());
        }
    }
}

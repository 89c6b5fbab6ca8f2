//! How many columns of a terminal a text takes, and where it breaks.
//!
//! Owns the measure that everything in `layout` aligns by: Chinese, Japanese and Korean characters and emoji take two
//! columns, combining marks none. The widths are `unicode-width`'s, the lines `textwrap`'s. Never sees a character that
//! doesn't show: `layout`'s gate has escaped those. Called by `layout`.

use std::borrow::Cow;

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns that `text` takes.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// The spaces that bring `text` to `width` columns; none where it is wider.
pub(super) fn padding(text: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(columns(text)))
}

/// At most `width` columns. An ellipsis shows the cut. A combining mark stays with its character.
pub(super) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return text.into();
    }
    let (mut used, mut end) = (0, 0);
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used >= width {
            break;
        }
        end = at + c.len_utf8();
    }
    format!("{}…", &text[..end]).into()
}

/// Lines of at most `width` columns, broken at spaces, and within a word only where it is longer than a line. At least
/// one line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let options = Options::new(width.max(1))
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(&text, options).into_iter().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each takes eight columns: by Chinese, by emoji, by letters with two marks each, by Latin letters.
    const EIGHT: [&str; 4] = ["推理服务", "🙂🚀🔥🐍", "e\u{301}\u{323}e\u{301}\u{323}eeeeee", "workers1"];

    #[test]
    fn text_wraps_at_spaces_and_breaks_only_words_that_fit_no_line() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aa bbbbbbbb c", 3), ["aa", "bbb", "bbb", "bb", "c"]);
        assert_eq!(wrap("aa   bb-cc\u{3000}dd ", 5), ["aa", "bb-cc", "dd"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn a_line_counts_columns_and_not_characters() {
        for text in EIGHT {
            assert_eq!(columns(text), 8, "{text}");
            assert_eq!(wrap(&format!("{text} {text}"), 17).len(), 1, "{text}");
            assert_eq!(wrap(&format!("{text} {text}"), 16), [text, text], "{text}");
            assert_eq!(padding(text, 10), "  ", "{text}");
            assert_eq!(padding(text, 7), "", "{text}");
        }
        // A word that is longer than a line breaks between characters, and a mark goes with its own.
        assert_eq!(wrap("推理服务", 5), ["推理", "服务"]);
        assert_eq!(wrap("aae\u{301}\u{323}e\u{301}", 3), ["aae\u{301}\u{323}", "e\u{301}"]);
    }

    #[test]
    fn a_cut_text_fits_its_columns_and_keeps_its_marks() {
        assert_eq!(cut("推理服务", 8), "推理服务");
        // Three columns would split the second character.
        assert_eq!(cut("推理服务", 4), "推…");
        assert_eq!(cut("推理服务", 5), "推理…");
        assert_eq!(cut("🙂🚀🔥🐍", 7), "🙂🚀🔥…");
        assert_eq!(cut("e\u{301}\u{323}e\u{301}\u{323}eeeeee", 3), "e\u{301}\u{323}e\u{301}\u{323}…");
        assert_eq!(cut("workers1", 6), "worke…");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_page_and_no_word_is_lost(
            text in "[ a-z推理🙂\u{301}\u{323}]{0,400}",
            width in 2usize..120,
        ) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| columns(line) <= width));
            let squeezed = |s: &str| s.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(squeezed(&lines.concat()), squeezed(&text));
            prop_assert!(columns(&cut(&text, width)) <= width);
        }
    }
}

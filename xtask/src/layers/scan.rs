//! Reads the paths that a Rust source file mentions outside of its tests.
//!
//! Owns a small tokeniser and the parsing of `use` trees. Never judges a path (`layers.rs` does) and never opens a
//! file. It knows only the part of Rust that paths need, so a path that a macro assembles escapes it.

/// A path in source code, with `crate`, `self` and `super` resolved.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) line: usize,
    /// `["crate", "event", "Chunk"]` or `["std", "fs"]`; a glob's path ends before the star.
    pub(super) path: Vec<String>,
}

/// The paths and modules of a file.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) mentions: Vec<Mention>,
    /// Modules in files of their own that exist in tests only: `#[cfg(test)] mod tests;`.
    pub(super) test_modules: Vec<String>,
}

/// Scans one file; `module` is its path below the crate's root.
pub(super) fn scan(text: &str, module: &[String]) -> Scan {
    let tokens = tokens(text);
    let mut scanner =
        Scanner { tokens: &tokens, at: 0, inline: Vec::new(), depth: 0, found: Scan::default() };
    scanner.run(module);
    scanner.found
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    /// `::`
    Separator,
    Sign(char),
}

#[derive(Debug)]
struct Token {
    kind: Kind,
    line: usize,
}

struct Scanner<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Modules opened in this file, each with the brace depth at which it ends.
    inline: Vec<(String, usize)>,
    depth: usize,
    found: Scan,
}

impl Scanner<'_> {
    fn run(&mut self, module: &[String]) {
        while let Some(kind) = self.kind(0).cloned() {
            match kind {
                Kind::Sign('#') if self.is_test_attribute() => self.skip_item(),
                Kind::Sign('{') => {
                    self.depth += 1;
                    self.at += 1;
                }
                Kind::Sign('}') => {
                    self.depth = self.depth.saturating_sub(1);
                    self.inline.retain(|(_, depth)| *depth < self.depth + 1);
                    self.at += 1;
                }
                Kind::Word(word) if word == "use" && self.kind(1) != Some(&Kind::Sign('<')) => {
                    self.at += 1;
                    let mut paths = Vec::new();
                    self.use_tree(&[], &mut paths);
                    paths.into_iter().for_each(|(line, path)| self.mention(line, path, module));
                }
                Kind::Word(word) if word == "mod" => {
                    if let (Some(Kind::Word(name)), Some(Kind::Sign('{'))) = (self.kind(1), self.kind(2)) {
                        self.inline.push((name.clone(), self.depth + 1));
                    }
                    self.at += 1;
                }
                Kind::Word(_) => self.path(module),
                _ => self.at += 1,
            }
        }
    }

    fn kind(&self, ahead: usize) -> Option<&Kind> {
        self.tokens.get(self.at + ahead).map(|token| &token.kind)
    }

    /// `a::b::c` in an expression, type or attribute. A lone word is no path.
    fn path(&mut self, module: &[String]) {
        let line = self.tokens[self.at].line;
        let mut path = Vec::new();
        let is_field = self.at > 0 && self.tokens[self.at - 1].kind == Kind::Sign('.');
        while let Some(Kind::Word(word)) = self.kind(0) {
            path.push(word.clone());
            self.at += 1;
            match (self.kind(0), self.kind(1)) {
                (Some(Kind::Separator), Some(Kind::Word(_))) => self.at += 1,
                _ => break,
            }
        }
        if path.len() > 1 && !is_field {
            self.mention(line, path, module);
        }
    }

    /// One branch of a `use` tree; stops at what ends it.
    fn use_tree(&mut self, prefix: &[String], out: &mut Vec<(usize, Vec<String>)>) {
        let mut path = prefix.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut is_group = false;
        while let Some(kind) = self.kind(0).cloned() {
            match kind {
                Kind::Word(word) if word == "as" => self.at += 1, // the new name follows and is passed over
                Kind::Word(word) => {
                    let is_alias =
                        self.at > 0 && self.tokens[self.at - 1].kind == Kind::Word("as".to_owned());
                    if !is_alias {
                        path.push(word);
                    }
                    self.at += 1;
                }
                Kind::Separator | Kind::Sign('*') => self.at += 1,
                Kind::Sign('{') => {
                    is_group = true;
                    self.at += 1;
                    while !matches!(self.kind(0), None | Some(Kind::Sign('}'))) {
                        let before = self.at;
                        self.use_tree(&path, out);
                        // Not Rust, such as a conflict's marker, is passed over.
                        if self.kind(0) == Some(&Kind::Sign(',')) || self.at == before {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                }
                _ => break,
            }
        }
        if !is_group && !path.is_empty() {
            out.push((line, path));
        } else if self.kind(0).is_some_and(|kind| !matches!(kind, Kind::Sign(',' | '}' | ';'))) {
            self.at += 1; // not Rust; go on rather than stand still
        }
    }

    fn mention(&mut self, line: usize, path: Vec<String>, module: &[String]) {
        let mut base: Vec<String> = module.to_vec();
        base.extend(self.inline.iter().map(|(name, _)| name.clone()));
        let is_local = matches!(path[0].as_str(), "self" | "super");
        let mut rest = path.into_iter().peekable();
        while let Some(word) = rest.next_if(|word| word == "self" || word == "super") {
            if word == "super" {
                base.pop();
            }
        }
        let mut resolved: Vec<String> = Vec::new();
        if is_local {
            resolved.push("crate".to_owned());
            resolved.extend(base);
        }
        resolved.extend(rest.filter(|word| word != "self"));
        self.found.mentions.push(Mention { line, path: resolved });
    }

    /// `#[cfg(test)]`, `#[cfg(all(test, …))]`; not `#[cfg(not(test))]`.
    fn is_test_attribute(&self) -> bool {
        let end = self.end_of_group(self.at + 1);
        let words: Vec<&str> = self.tokens[self.at..end]
            .iter()
            .filter_map(|token| match &token.kind {
                Kind::Word(word) => Some(word.as_str()),
                _ => None,
            })
            .collect();
        words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not")
    }

    /// Skips attributes and the item that they belong to.
    fn skip_item(&mut self) {
        while self.kind(0) == Some(&Kind::Sign('#')) {
            self.at = self.end_of_group(self.at + 1);
        }
        let start = self.at;
        let is_use = self.kind(0) == Some(&Kind::Word("use".to_owned()));
        while let Some(kind) = self.kind(0).cloned() {
            match kind {
                Kind::Sign(';') => {
                    self.at += 1;
                    break;
                }
                Kind::Sign('{' | '(' | '[') => {
                    self.at = self.end_of_group(self.at);
                    if kind == Kind::Sign('{') && !is_use {
                        break;
                    }
                }
                _ => self.at += 1,
            }
        }
        let words = self.tokens[start..self.at].iter().map(|token| &token.kind);
        let mut words = words.skip_while(|kind| **kind != Kind::Word("mod".to_owned()));
        if let (Some(_), Some(Kind::Word(name)), Some(Kind::Sign(';'))) =
            (words.next(), words.next(), words.next())
        {
            self.found.test_modules.push(name.clone());
        }
    }

    /// The index behind the bracket that closes the one at or after `from`.
    fn end_of_group(&self, from: usize) -> usize {
        let mut depth = 0_usize;
        for (index, token) in self.tokens.iter().enumerate().skip(from) {
            match token.kind {
                Kind::Sign('(' | '[' | '{') => depth += 1,
                Kind::Sign(')' | ']' | '}') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return index + 1;
                    }
                }
                _ => {}
            }
        }
        self.tokens.len()
    }
}

/// Words and signs. Comments, texts, characters and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let peek = |index: usize| chars.get(index).copied().unwrap_or('\0');
    while at < chars.len() {
        let start = at;
        let here = chars[at];
        if here == '/' && peek(at + 1) == '/' {
            at = find(&chars, at, |index| peek(index) == '\n');
        } else if here == '/' && peek(at + 1) == '*' {
            at = end_of_comment(&chars, at);
        } else if let Some(end) = end_of_text(&chars, at) {
            at = end;
        } else if here == '\'' {
            at = end_of_char_or_lifetime(&chars, at);
        } else if here == '_' || here.is_alphanumeric() {
            if here == 'r' && peek(at + 1) == '#' && is_word(peek(at + 2)) {
                at += 2; // a raw identifier
            }
            let first = at;
            at = find(&chars, at, |index| !is_word(peek(index)));
            let word: String = chars[first..at].iter().collect();
            if !word.starts_with(|c: char| c.is_ascii_digit()) {
                tokens.push(Token { kind: Kind::Word(word), line });
            }
        } else if here == ':' && peek(at + 1) == ':' {
            tokens.push(Token { kind: Kind::Separator, line });
            at += 2;
        } else {
            if !here.is_whitespace() {
                tokens.push(Token { kind: Kind::Sign(here), line });
            }
            at += 1;
        }
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn find(chars: &[char], from: usize, end: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|index| end(*index)).unwrap_or(chars.len())
}

fn end_of_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_usize, from);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// The end of `"…"`, `b"…"`, `c"…"`, `r#"…"#` and their kin, if one starts here.
fn end_of_text(chars: &[char], from: usize) -> Option<usize> {
    let prefix = chars[from..].iter().take(2).take_while(|c| matches!(c, 'b' | 'c' | 'r')).count();
    let is_raw = prefix > 0 && chars[from + prefix - 1] == 'r';
    let hashes = match is_raw {
        true => chars[from + prefix..].iter().take_while(|c| **c == '#').count(),
        false => 0,
    };
    let mut at = from + prefix + hashes;
    if chars.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < chars.len() {
        match chars[at] {
            '\\' if !is_raw => at += 2,
            '"' if chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes => {
                return Some(at + 1 + hashes);
            }
            _ => at += 1,
        }
    }
    Some(chars.len())
}

/// `'x'` and `'\n'` are characters, `'a` is a lifetime.
fn end_of_char_or_lifetime(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => (find(chars, from + 3, |index| chars[index] == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => from + 3,
        _ => find(chars, from + 1, |index| !is_word(chars[index])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let scan = scan(text, &["load".to_owned(), "http".to_owned()]);
        scan.mentions.into_iter().map(|mention| mention.path.join("::")).collect()
    }

    #[test]
    fn use_tree_is_unfolded() {
        assert_eq!(
            paths("pub(crate) use crate::{a, b::{self, C as D}, e::*};"),
            ["crate::a", "crate::b", "crate::b::C", "crate::e"]
        );
        assert_eq!(paths("use ::std::{fs::File, io};"), ["std::fs::File", "std::io"]);
        assert_eq!(paths("use tokio; fn f() {}"), ["tokio"]);
    }

    #[test]
    fn super_and_self_are_resolved_in_files_and_inline_modules() {
        assert_eq!(paths("use super::sse::Frame;"), ["crate::load::sse::Frame"]);
        assert_eq!(
            paths("mod inner { use super::super::x; } use self::y;"),
            ["crate::load::x", "crate::load::http::y"]
        );
    }

    #[test]
    fn paths_in_code_are_seen_and_fields_are_not() {
        assert_eq!(
            paths("fn f() -> crate::event::Log { a.b::<u8>(tokio::spawn(x)) }"),
            ["crate::event::Log", "tokio::spawn"]
        );
        assert_eq!(paths("#[derive(serde::Serialize)] struct S;"), ["serde::Serialize"]);
        assert_eq!(paths("fn f<'a>(c: char) -> bool { c == '\"' || a::b('\\'') }"), ["a::b"]);
        assert_eq!(paths("fn f<'a>() -> impl Fn() + use<'a> { std::fs::read }"), ["std::fs::read"]);
    }

    #[test]
    fn comments_and_texts_are_not_code() {
        assert_eq!(
            paths("// a::b\n/* c::d /* e::f */ g::h */ \"i::j\" r#\"k::\"l\"# b\"m::n\" b'x'"),
            [""; 0]
        );
    }

    #[test]
    fn tests_are_passed_over() {
        let text = "#[cfg(test)] mod tests { use tokio::x; fn f() { a::b(); } }\n\
            #[cfg(test)]\n#[path = \"t.rs\"]\npub(crate) mod fixture;\n\
            #[cfg(test)] use std::{fs, io};\n#[cfg(not(test))] use real::one;";
        assert_eq!(paths(text), ["real::one"]);
        assert_eq!(scan(text, &[]).test_modules, ["fixture"]);
    }

    #[test]
    fn lines_are_counted_through_texts_and_comments() {
        let scan = scan("/* 1\n2 */\nlet x = \"3\n4\";\nuse a::{\n  b,\n  c::d,\n};\n", &[]);
        let lines: Vec<usize> = scan.mentions.iter().map(|mention| mention.line).collect();
        assert_eq!(lines, [6, 7]);
    }
}

//! The redaction of a command line.
//!
//! Owns the parsing of a command line, argument by argument: a flag, a flag's value, or an argument by itself. The
//! program, the names of flags and harmless values stay; everything else becomes `***`. Pure.

mod values;

use super::MASK;
use super::flags::{Kind, Program, in_tables, long, short_elsewhere};
use super::harmless::{is_application, is_number, is_path, is_word, looks_like_path, url};
use super::shape::is_secret_name;

use values::{ROLES, is_assignment, is_command, is_flag_name, shown, variable};

/// Redacts the command line of any program.
#[must_use]
pub fn arguments(argv: &[String]) -> Vec<String> {
    let Some((first, rest)) = argv.split_first() else { return Vec::new() };
    // A server that writes its title over its arguments has all of them in the first one.
    let mut words = first.split_whitespace();
    let mut reader = Reader::of(Program::of(words.next().unwrap_or_default()));
    let mut shown = vec![if first.contains(char::is_whitespace) { title(first) } else { program(first) }];
    shown.extend(rest.iter().map(|arg| reader.next(arg)));
    shown
}

/// Redacts the command line of inferscope itself. What follows `--` is another program's.
#[must_use]
pub fn own_arguments(argv: &[String]) -> Vec<String> {
    let end = argv.iter().position(|arg| arg == "--").map_or(argv.len(), |at| at + 1);
    let mut reader = Reader::of(Program::Inferscope);
    let mut shown: Vec<String> = argv[..end.min(1)].iter().map(|first| program(first)).collect();
    shown.extend(argv[..end].iter().skip(1).map(|arg| reader.next(arg)));
    shown.extend(arguments(&argv[end..]));
    shown
}

fn program(name: &str) -> String {
    if is_path(name) { name.to_owned() } else { MASK.to_owned() }
}

/// Redacts `nginx: worker process`, `gunicorn: master [app:app]`, or a whole command line.
fn title(text: &str) -> String {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    let mut reader = Reader::of(Program::of(first));
    let titled = first.ends_with(':');
    let of_title = |word: &str| {
        let inner = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
        ROLES.contains(&word) || inner.is_some_and(is_application)
    };
    let word = |word: &str| match titled {
        true if of_title(word) => word.to_owned(),
        true => MASK.to_owned(),
        false => reader.next(word),
    };
    std::iter::once(program(first)).chain(words.map(word)).collect::<Vec<_>>().join(" ")
}

struct Reader {
    program: Program,
    /// The kind of the last flag, if it has no value yet.
    awaited: Option<Kind>,
    /// Further words may follow the flag's first.
    several: bool,
    /// The kind of the last flag, if its value was the last argument: the next argument may be a further value.
    after: Option<Kind>,
    /// Arguments so far that were neither flags nor values of flags.
    standing: usize,
}

impl Reader {
    const fn of(program: Program) -> Self {
        Self { program, awaited: None, several: false, after: None, standing: 0 }
    }

    fn next(&mut self, arg: &str) -> String {
        if let Some(kind) = self.awaited.take()
            && self.is_value(kind, arg)
        {
            self.several = kind == Kind::Words;
            self.after = Some(kind);
            return self.value(kind, arg);
        }
        if arg == "--" || arg == "-" {
            return arg.to_owned();
        }
        if let Some(name) = arg.strip_prefix("--") {
            (self.several, self.after) = (false, None);
            return self.long_flag(arg, name);
        }
        if let Some(name) = arg.strip_prefix('-') {
            (self.several, self.after) = (false, None);
            return self.short_flag(arg, name);
        }
        self.standing(arg)
    }

    /// `arg` is the value of the last flag, and no further flag.
    fn is_value(&self, kind: Kind, arg: &str) -> bool {
        if !arg.starts_with('-') {
            return true;
        }
        match kind {
            Kind::Number => is_number(arg),
            // A password may begin with a dash. A known flag is no password.
            Kind::Secret | Kind::Header => !self.is_known(arg),
            _ => false,
        }
    }

    fn is_known(&self, arg: &str) -> bool {
        let name = arg.split('=').next().unwrap_or(arg);
        match name.strip_prefix("--") {
            Some(name) => in_tables(&name.replace('_', "-")).is_some(),
            None => self.program.short(&name[1..]).is_some(),
        }
    }

    fn value(&mut self, kind: Kind, value: &str) -> String {
        if kind == Kind::Module && is_application(value) {
            let root = value.split('.').next().unwrap_or(value);
            *self = Self::of(match Program::of(value) {
                Program::Other => Program::of(root),
                known => known,
            });
            return value.to_owned();
        }
        // What follows code are its parameters, and no script.
        if kind == Kind::Secret && matches!(self.program, Program::Python | Program::Shell) {
            self.program = Program::Other;
        }
        shown(kind, value)
    }

    fn long_flag(&mut self, arg: &str, name: &str) -> String {
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        let kind = long(self.program, name);
        if matches!(kind, Kind::Unknown | Kind::New | Kind::Secret) && !is_flag_name(name) {
            return MASK.to_owned();
        }
        match value {
            Some(value) => {
                self.after = Some(kind);
                format!("--{name}={}", shown(if kind == Kind::Switch { Kind::Number } else { kind }, value))
            }
            None => {
                self.awaited = Some(kind).filter(|kind| *kind != Kind::Switch);
                arg.to_owned()
            }
        }
    }

    fn short_flag(&mut self, arg: &str, name: &str) -> String {
        let single = name.chars().count() == 1;
        // Go's long flags have one dash.
        let by_name = self.program.short(name).or_else(|| in_tables(name).filter(|_| name.len() > 2));
        if let Some(kind) = by_name {
            self.awaited = Some(kind).filter(|kind| *kind != Kind::Switch);
            return arg.to_owned();
        }
        if single {
            self.awaited = Some(short_elsewhere(name)).filter(|kind| *kind != Kind::Switch);
            return if name.chars().all(|c| c.is_ascii_alphanumeric()) {
                arg.to_owned()
            } else {
                MASK.to_owned()
            };
        }
        if let Some(shown) = self.cluster(arg, name) {
            return shown;
        }
        if let Some((name, value)) = name.split_once('=') {
            let exact = matches!(
                name,
                "password" | "passwd" | "token" | "secret" | "key" | "api-key" | "apikey" | "auth"
            );
            if exact {
                return format!("-{name}={MASK}");
            }
            if let Some(kind) = in_tables(name).filter(|_| name.len() > 2) {
                return format!("-{name}={}", shown(kind, value));
            }
        }
        if is_secret_name(name) && !name.contains('=') {
            self.awaited = Some(Kind::Secret);
        }
        // This is a letter with its value: `-w4`, `-pPASSWORD`.
        let first = name.chars().next().filter(char::is_ascii_alphabetic).map_or(String::new(), String::from);
        let joined = &name[first.len()..];
        match self.program.short(&first) {
            Some(kind) if kind != Kind::Switch => format!("-{first}{}", shown(kind, joined)),
            _ => format!("-{first}{MASK}"),
        }
    }

    /// Several letters of an interpreter in one flag: `-lc`, `-Ic`.
    fn cluster(&mut self, arg: &str, name: &str) -> Option<String> {
        let letters = match self.program {
            Program::Shell => "abcefhiklmnoprtuvx",
            Program::Python => "bBcdEiImOPqsSuvx",
            _ => return None,
        };
        if name.len() > 5 || !name.chars().all(|c| letters.contains(c)) {
            return None;
        }
        self.awaited = match name.chars().next_back() {
            Some('m') if self.program == Program::Python => Some(Kind::Module),
            _ if name.contains('c') => Some(Kind::Secret),
            _ => None,
        };
        Some(arg.to_owned())
    }

    /// Redacts what is neither a flag nor a flag's value.
    fn standing(&mut self, arg: &str) -> String {
        if self.several && (is_word(arg) || is_path(arg)) {
            return shown(Kind::Word, arg);
        }
        self.standing += 1;
        if self.belongs_to_the_flag_before(arg) {
            return MASK.to_owned();
        }
        if arg.contains("://") {
            return url(arg).unwrap_or_else(|| MASK.to_owned());
        }
        if let Some((name, value)) = arg.split_once('=').filter(|(name, value)| is_assignment(name, value)) {
            return format!("{name}={}", variable(name, value));
        }
        if let Some((name, value)) = arg.split_once('=').filter(|_| self.program == Program::Wrapper) {
            // A wrapped program has no `=` in its name.
            let named = is_flag_name(name) && !value.trim_matches('=').is_empty();
            return if named { format!("{name}={MASK}") } else { MASK.to_owned() };
        }
        let first = self.standing == 1;
        let harmless = match self.program {
            Program::Python | Program::Shell if first => {
                // The rest of the line belongs to the script.
                *self = Self::of(match Program::of(arg) {
                    Program::Python | Program::Shell => Program::Other,
                    known => known,
                });
                return program(arg);
            }
            Program::Wrapper if !is_number(arg) && (is_word(arg) || looks_like_path(arg)) => {
                *self = Self::of(Program::of(arg));
                return program(arg);
            }
            Program::Wrapper | Program::Sleep | Program::Inferscope => is_number(arg) || is_command(arg),
            Program::Model => self.standing <= 3 && is_word(arg),
            Program::App => is_application(arg) || is_command(arg),
            Program::Make => is_command(arg),
            _ => first && is_command(arg),
        };
        if harmless { arg.to_owned() } else { shown(Kind::Unknown, arg) }
    }
}

impl Reader {
    /// `arg` may be a further value of a secret, or of a flag with an unknown number of values.
    fn belongs_to_the_flag_before(&self, arg: &str) -> bool {
        let secret = matches!(self.after, Some(Kind::Secret | Kind::Header));
        let unknown = matches!(self.after, Some(Kind::Unknown | Kind::New));
        match self.program {
            Program::Python | Program::Shell | Program::Wrapper => false,
            // Skip the arguments behind a user or a file of its own.
            Program::App => secret && !(self.standing == 1 && arg.contains(':')),
            // A model may follow.
            Program::Model => secret || unknown && (self.standing > 2 || !arg.contains('/')),
            _ => secret,
        }
    }
}

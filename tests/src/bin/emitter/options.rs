//! The command line.
//!
//! Owns what can be asked of the emitter. Pure. Read by everything else here.

use std::path::PathBuf;
use std::time::Duration;

use crate::hostile::Kind;

pub(crate) const USAGE: &str = "\
usage: emitter [--port 0] [--lifetime 60s] [--log FILE] [--seed N]
  [--mode steady|jitter|chunks|role-first|reasoning-first|slow-start|stalls|stream-error|disconnect|garbage:KIND|garbage:all]
  [--first-token 50ms] [--interval 20ms] [--tokens 32] [--tokens-per-chunk 4] [--jitter 30ms]
  [--stall-every 8] [--stall 150ms] [--slots N] [--usage last|none|continuous] [--tls CERTIFICATE-FILE]";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Steady,
    /// Up to `jitter` more before each token.
    Jitter,
    /// Several tokens a chunk, the last chunk with what is left.
    Chunks,
    /// A chunk with the role and no content half-way to the first token.
    RoleFirst,
    /// The first half of the tokens is reasoning.
    ReasoningFirst,
    /// The first token comes after eight times as long, and the answer's head with it.
    SlowStart,
    /// Each `stall_every`th token comes late.
    Stalls,
    /// An error object in the place of the second half.
    StreamError,
    /// The connection is closed in the place of the second half.
    Disconnect,
    Garbage(Kind),
    /// Each kind once and again, a good answer before each.
    AllGarbage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Last,
    None,
    Continuous,
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) mode: Mode,
    pub(crate) first_token: Duration,
    pub(crate) interval: Duration,
    pub(crate) tokens: u32,
    pub(crate) tokens_per_chunk: u32,
    pub(crate) jitter: Duration,
    pub(crate) seed: u64,
    pub(crate) stall_every: u32,
    pub(crate) stall: Duration,
    /// At most so many answers at once; the other requests wait in order.
    pub(crate) slots: Option<usize>,
    pub(crate) usage: Usage,
    pub(crate) lifetime: Duration,
    pub(crate) log: Option<PathBuf>,
    /// Https, with a certificate that is written here.
    pub(crate) tls: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            mode: Mode::Steady,
            first_token: Duration::from_millis(50),
            interval: Duration::from_millis(20),
            tokens: 32,
            tokens_per_chunk: 4,
            jitter: Duration::from_millis(30),
            seed: 1,
            stall_every: 8,
            stall: Duration::from_millis(150),
            slots: None,
            usage: Usage::Last,
            lifetime: Duration::from_secs(60),
            log: None,
            tls: None,
        }
    }
}

impl Options {
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let known = options.set(&flag, &value).map_err(|why| format!("{flag} {value}: {why}"))?;
            if !known {
                return Err(format!("{flag} is not known"));
            }
        }
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<bool, String> {
        match flag {
            "--port" => self.port = number(value)?,
            "--mode" => self.mode = mode(value)?,
            "--first-token" => self.first_token = duration(value)?,
            "--interval" => self.interval = duration(value)?,
            "--tokens" => self.tokens = at_least_one(value)?,
            "--tokens-per-chunk" => self.tokens_per_chunk = at_least_one(value)?,
            "--jitter" => self.jitter = duration(value)?,
            "--seed" => self.seed = number(value)?,
            "--stall-every" => self.stall_every = at_least_one(value)?,
            "--stall" => self.stall = duration(value)?,
            "--slots" => self.slots = Some(at_least_one(value)? as usize),
            "--usage" => {
                self.usage = match value {
                    "last" => Usage::Last,
                    "none" => Usage::None,
                    "continuous" => Usage::Continuous,
                    _ => return Err("last, none or continuous".to_owned()),
                }
            }
            "--lifetime" => self.lifetime = duration(value)?,
            "--tls" => self.tls = Some(value.into()),
            "--log" => self.log = Some(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn mode(value: &str) -> Result<Mode, String> {
    Ok(match value {
        "steady" => Mode::Steady,
        "jitter" => Mode::Jitter,
        "chunks" => Mode::Chunks,
        "role-first" => Mode::RoleFirst,
        "reasoning-first" => Mode::ReasoningFirst,
        "slow-start" => Mode::SlowStart,
        "stalls" => Mode::Stalls,
        "stream-error" => Mode::StreamError,
        "disconnect" => Mode::Disconnect,
        "garbage:all" => Mode::AllGarbage,
        _ => {
            let kind = value.strip_prefix("garbage:").ok_or("no such mode")?;
            let known = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
            Mode::Garbage(Kind::named(kind).ok_or_else(|| format!("the kinds are all, {}", known()))?)
        }
    })
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "not such a number".to_owned())
}

fn at_least_one(value: &str) -> Result<u32, String> {
    number(value).and_then(|n| if n == 0 { Err("at least 1".to_owned()) } else { Ok(n) })
}

/// `150ms`, `1.5s`, `200us`.
fn duration(value: &str) -> Result<Duration, String> {
    let at = value.find(|c: char| c.is_ascii_alphabetic()).ok_or("a number with ns, us, ms or s")?;
    let (number, unit) = value.split_at(at);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err("a number with ns, us, ms or s".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_flag_is_understood_and_what_is_wrong_is_said() {
        let options = parse("--mode garbage:nul-bytes --first-token 1.5s --stall 200us --slots 3").unwrap();
        assert_eq!(options.mode, Mode::Garbage(Kind::NulBytes));
        assert_eq!(options.first_token, Duration::from_millis(1500));
        assert_eq!(options.stall, Duration::from_micros(200));
        assert_eq!(options.slots, Some(3));
        for wrong in
            ["--mode x", "--mode garbage:x", "--tokens 0", "--stall 5", "--port", "--x 1", "--stall -1s"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

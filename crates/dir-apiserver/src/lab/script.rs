//! The lab's language: one command a line, the same from a terminal and from a file.

use crate::config::parse_duration;
use std::time::Duration;

/// What `help` prints.
pub(super) const HELP: &str = "  kill NAME              end the server of NAME as a crash does
  start NAME             start it again
  expire NAME            the same for good: its bundle grows too old for its partners (see --max-stale)
  revoke NAME            take the identity of NAME's agent away
  restore NAME           give it back
  rotate NAME            new SVIDs for NAME at once
  rotate-ca NAME         a new CA for NAME: announced, fetched by the partners, then signing
  forbid FROM TO         TO's policy no longer lets agents of FROM in (taken without a restart)
  allow FROM TO          it does again
  expect FROM TO STATE   wait until calls of FROM's agent to TO's server are STATE: ok, denied, untrusted, down, no-identity
  expect-push FROM TO STATE   the same for one push
  rotations NAME N       wait until the server of NAME has taken N further SVIDs
  mark | no-failures     note the failed calls so far | fail if calls failed since
  wait DURATION          do nothing for a while
  status                 who reaches whom
  help | quit";

/// How calls from one agent to one server end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Answered.
    Ok,
    /// The policy says no.
    Denied,
    /// One end does not trust the other's identity.
    Untrusted,
    /// Nobody answers.
    Down,
    /// The agent has no SVID.
    NoIdentity,
    /// Anything else.
    Failed,
}

impl State {
    const NAMES: [(&'static str, State); 6] = [
        ("ok", State::Ok),
        ("denied", State::Denied),
        ("untrusted", State::Untrusted),
        ("down", State::Down),
        ("no-identity", State::NoIdentity),
        ("failed", State::Failed),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, s)| *s == self).map_or("failed", |(n, _)| n)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let names = || Self::NAMES.map(|(n, _)| n).join(", ");
        let found = Self::NAMES.iter().find(|(n, _)| *n == text).map(|(_, s)| *s);
        found.ok_or_else(|| format!("{text:?} is none of {}", names()))
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Kill(usize),
    Start(usize),
    Expire(usize),
    Revoke(usize),
    Restore(usize),
    Rotate(usize),
    RotateCa(usize),
    Forbid(usize, usize),
    Allow(usize, usize),
    Expect(usize, usize, State),
    ExpectPush(usize, usize, State),
    Rotations(usize, u64),
    Mark,
    NoFailures,
    Wait(Duration),
    Status,
    Help,
    Quit,
}

/// Parses one line; `None` is an empty one or a comment. `names` are those of the organisations, in order.
pub(super) fn parse(line: &str, names: &[String]) -> Result<Option<Command>, String> {
    let line = line.split('#').next().unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    let who = |name: &str| {
        let found = names.iter().position(|n| n == name);
        found.ok_or_else(|| format!("{name:?} is no organisation of this lab ({})", names.join(", ")))
    };
    Ok(Some(match words.as_slice() {
        [] => return Ok(None),
        ["kill", a] => Command::Kill(who(a)?),
        ["start", a] => Command::Start(who(a)?),
        ["expire", a] => Command::Expire(who(a)?),
        ["revoke", a] => Command::Revoke(who(a)?),
        ["restore", a] => Command::Restore(who(a)?),
        ["rotate", a] => Command::Rotate(who(a)?),
        ["rotate-ca", a] => Command::RotateCa(who(a)?),
        ["forbid", a, b] => Command::Forbid(who(a)?, who(b)?),
        ["allow", a, b] => Command::Allow(who(a)?, who(b)?),
        ["expect", a, b, state] => Command::Expect(who(a)?, who(b)?, State::parse(state)?),
        ["expect-push", a, b, state] => Command::ExpectPush(who(a)?, who(b)?, State::parse(state)?),
        ["rotations", a, n] => {
            Command::Rotations(who(a)?, n.parse().map_err(|_bad| format!("{n:?} is no number"))?)
        }
        ["mark"] => Command::Mark,
        ["no-failures"] => Command::NoFailures,
        ["wait", time] => Command::Wait(parse_duration(time)?),
        ["status"] => Command::Status,
        ["help"] => Command::Help,
        ["quit" | "exit"] => Command::Quit,
        [word, ..] => {
            return Err(format!("{word:?} is no command, or its words are wrong; `help` lists them"));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let names = ["alpha".to_owned(), "beta".to_owned()];
        let read = |line: &str| parse(line, &names);
        assert_eq!(read("  # nothing"), Ok(None));
        assert_eq!(read("kill beta # hard"), Ok(Some(Command::Kill(1))));
        assert_eq!(read("expect alpha beta down"), Ok(Some(Command::Expect(0, 1, State::Down))));
        assert_eq!(read("wait 2s"), Ok(Some(Command::Wait(Duration::from_secs(2)))));
        assert_eq!(read("rotations alpha 3"), Ok(Some(Command::Rotations(0, 3))));
        assert!(read("kill gamma").unwrap_err().contains("(alpha, beta)"));
        assert!(read("expect alpha beta fine").unwrap_err().contains("ok, denied"));
        for wrong in ["kill", "dance", "wait", "rotations alpha x", "wait x", "expect alpha beta"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// Every command that the help names can be written, and every one that can be written is named.
    #[test]
    fn the_help_is_complete() {
        for word in "kill start expire revoke restore rotate rotate-ca forbid allow expect expect-push rotations mark \
            no-failures wait status help quit"
            .split_whitespace()
        {
            assert!(HELP.contains(&format!(" {word} ")) || HELP.ends_with(word), "{word}");
        }
    }
}

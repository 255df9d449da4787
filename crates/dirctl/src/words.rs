//! Commands that people try and that are not there: what does it instead.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Words, the command that does it (empty: none does), and what is said of it.
const WORDS: [(&[&str], &str, &str); 11] = [
    (
        &["resolve", "naming", "lookup", "show", "describe"],
        "info",
        "shows the newest record of a NAME, or the one of NAME:VERSION",
    ),
    (&["count"], "search --count", "prints how many records match"),
    (&["list", "ls", "find", "query", "records"], "search", "finds records, all of them without a filter"),
    (
        &["events", "event", "listen", "changes", "follow", "tail", "subscribe"],
        "watch",
        "follows what changes, or replays it with --since 0",
    ),
    (&["get", "fetch", "export", "download", "cat"], "pull", "fetches records by CID or name"),
    (&["add", "put", "store", "upload", "import"], "push", "stores records from files, folders or stdin"),
    (&["rm", "remove", "unpush"], "delete", "deletes records by CID"),
    (&["ping"], "health", "asks whether the server serves"),
    (&["whoami", "login", "identity"], "status", "shows as whom the server is called, and how"),
    (&["can", "can-i", "allowed", "policy"], "access explain", "asks the server who may call what"),
    (
        &["sign", "routing", "publish", "unpublish", "sync"],
        "",
        "this version signs, publishes and synchronises no records",
    ),
];

/// The same error with a tip that fits, where the word is known; clap's own is by spelling.
pub(crate) fn pointed(mut error: Error) -> Error {
    let Some(tip) = tip(&error) else { return error };
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

fn tip(error: &Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    // The same words below another command mean something else.
    match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) if usage.to_string().contains("dirctl [OPTIONS]") => {}
        _ => return None,
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let (_, command, does) = WORDS.iter().find(|(words, ..)| words.contains(&word.as_str()))?;
    Some(if command.is_empty() { (*does).to_owned() } else { format!("`dirctl {command}` {does}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};

    fn told(args: &[&str]) -> String {
        pointed(Cli::try_parse_from([&["dirctl"], args].concat()).unwrap_err()).to_string()
    }

    #[test]
    fn words_are_no_commands_and_point_to_one() {
        let root = Cli::command();
        for (words, command, does) in WORDS {
            for word in words {
                assert!(root.find_subcommand(word).is_none(), "{word} is a command");
                let told = told(&["--json", word, "x"]);
                assert!(told.contains(&format!("unrecognized subcommand '{word}'")), "{told}");
                assert!(told.contains(does) && told.matches("tip:").count() == 1, "{told}");
            }
            let mut at = &root;
            for part in command.split_whitespace() {
                match part.strip_prefix("--") {
                    Some(flag) => {
                        assert!(at.get_arguments().any(|a| a.get_long() == Some(flag)), "{command}");
                    }
                    None => at = at.find_subcommand(part).expect(command),
                }
            }
        }
    }

    #[test]
    fn other_words_get_what_is_spelt_alike() {
        assert!(told(&["serach"]).contains("'search'"));
        let below = told(&["profile", "get"]);
        assert!(!below.contains("pull"), "{below}");
    }
}

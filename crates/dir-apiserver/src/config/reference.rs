//! The reference page and the table of variables, made from the list of keys.

use super::section::{Flag, Key};
use super::{DEFAULT_FILE, ENV_PREFIX, all_keys};
use std::fmt::Write;

/// What a build does with a key, in words.
pub fn status(key: &Key) -> &'static str {
    if key.has(Flag::NoEffect) {
        "no effect"
    } else if key.has(Flag::Absent) || key.has(Flag::Inert) {
        "not in this build"
    } else if key.has(Flag::Reload) {
        "reloaded at SIGHUP"
    } else {
        "at start"
    }
}

/// The default as shown: empty becomes a dash.
pub fn shown_default(key: &Key) -> &str {
    if key.default.is_empty() { "–" } else { key.default }
}

/// Whether a node can start without the key.
pub fn required(key: &Key) -> &'static str {
    match key.path.as_str() {
        "authn.socket_path" => "with authn.enabled",
        "authn.trust_domain" => "in production",
        _ => "no",
    }
}

/// `docs/reference/config.md`.
pub fn markdown() -> String {
    let mut page = String::from("# Server configuration\n\n");
    page.push_str(
        "This page is generated from the server's list of keys: `dir-apiserver config env --markdown`.\n\n",
    );
    let _ = writeln!(
        page,
        "A value comes from a flag, else from a variable, else from the file (`{DEFAULT_FILE}`, or `--config FILE`), else\n\
         it is the default. `config show` names the source of each value, `config explain KEY` tells about one key,\n\
         `config check` finds every fault at once.\n\n\
         The variable of a key is `{ENV_PREFIX}` and the key in capitals, with `_` for `.`; a variable set to the empty\n\
         string counts. A secret may also be named by a variable ending in `_FILE`, whose value is the path of a file.\n\
         Durations are written `30s`, `5m`, `1h30m` (there is no `d`); lists in a variable are comma-separated.\n\
         Any key can be given as `--set KEY=VALUE`. Unknown keys and variables are errors.\n\n\
         *Taken*: `at start` needs a restart; `not in this build` parses and is validated, because existing files carry\n\
         it, and switching such a part on is a warning.\n"
    );
    let mut group = None;
    for key in all_keys() {
        let name = key.path.split_once('.').map_or("", |(group, _)| group).to_owned();
        if group.as_ref() != Some(&name) {
            let title = if name.is_empty() { "Node".to_owned() } else { format!("`{name}`") };
            let _ =
                writeln!(page, "\n## {title}\n\n| key | type | default | taken | |\n|---|---|---|---|---|");
            group = Some(name);
        }
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            key.path,
            key.kind,
            code(shown_default(&key)),
            status(&key),
            key.help.replace('|', "\\|")
        );
    }
    page.push_str("\n## Logging\n\n| variable | default | |\n|---|---|---|\n");
    page.push_str("| `DIRECTORY_LOGGER_LOG_LEVEL` | `INFO` | `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`, or a filter such as `info,dir_api=debug` |\n");
    page.push_str("| `DIRECTORY_LOGGER_LOG_FORMAT` | `text` | `text` or `json` |\n");
    page.push_str("| `DIRECTORY_LOGGER_LOG_FILE` | – | file to append to; opened again at SIGHUP; empty is standard output |\n");
    page.push_str("\n## Variables\n\n");
    page.push_str(&variables_markdown());
    page
}

/// The table of variables.
pub fn variables_markdown() -> String {
    let mut table =
        String::from("| variable | required | default | secret | reload |\n|---|---|---|---|---|\n");
    for key in all_keys() {
        let yes = |flag| if key.has(flag) { "yes" } else { "no" };
        let default = code(shown_default(&key));
        let _ = writeln!(
            table,
            "| `{}` | {} | {default} | {} | {} |",
            key.env(),
            required(&key),
            yes(Flag::Secret),
            yes(Flag::Reload)
        );
        if key.has(Flag::Secret) {
            let _ = writeln!(table, "| `{}_FILE` | no | – | path | no |", key.env());
        }
    }
    table
}

fn code(text: &str) -> String {
    if text == "–" { text.to_owned() } else { format!("`{text}`") }
}

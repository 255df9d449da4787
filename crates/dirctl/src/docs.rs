//! `docs/reference/cli.md` is made from the commands themselves; this test holds it to them.

use crate::cli::Cli;
use clap::{Command, CommandFactory};
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "\
# dirctl

<!-- Made from the program by `UPDATE_DOCS=1 cargo test -p dirctl docs`; a test fails when it differs. -->

Settings are taken from flags, then from the environment, then from the profile, then from defaults. Data goes to stdout,
everything else to stderr. Every command takes the global options listed first.
";

fn reference() -> String {
    let mut root = Cli::command().term_width(100).version("VERSION (TARGET)");
    root.build();
    let mut text = HEAD.to_owned();
    section(&mut text, &mut root.clone(), "dirctl", 2);
    below(&mut text, &root, "dirctl", 2);
    text
}

/// The subcommands, in depth.
fn below(text: &mut String, parent: &Command, path: &str, level: usize) {
    for command in parent.get_subcommands().filter(|c| c.get_name() != "help") {
        let path = format!("{path} {}", command.get_name());
        // The options of every command are told once, at the top.
        let globals = command.get_arguments().filter(|a| a.is_global_set()).map(|a| a.get_id().to_string());
        let mut own = globals
            .collect::<Vec<_>>()
            .into_iter()
            .fold(command.clone(), |own, id| own.mut_arg(id, |a| a.hide(true)));
        section(text, &mut own, &path, level);
        below(text, command, &path, level + 1);
    }
}

fn section(text: &mut String, command: &mut Command, title: &str, level: usize) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let body = lines.join("\n");
    write!(text, "\n{} {title}\n\n```text\n{}\n```\n", "#".repeat(level), body.trim()).unwrap();
}

#[test]
fn docs_reference_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} differs; run UPDATE_DOCS=1 cargo test -p dirctl docs", path.display());
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

//! `dir-admin audit`

use super::print;
use crate::cli::{Format, GlobalArgs};
use clap::{Args, Subcommand};
use dir_client::exit;
use dir_core::chain::{Fault, Head, NoHead, Verifier};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

/// Faults that are told one by one; more are counted.
const FAULTS_MAX: usize = 20;

/// The audit log of a server
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    Verify(VerifyArgs),
}

const EXAMPLES: &str = "\
Examples:
  dir-admin audit verify audit.log.1 audit.log
  kubectl logs deploy/directory | dir-admin audit verify --mixed -
  dir-admin audit verify --head 812:5f70… audit.log";

/// Prove that no line of a hash-chained audit log (audit.hash_chain) was changed, removed, added or moved
///
/// Files are read in the order given, oldest first. The end of the chain cannot vouch for itself: give a head that
/// the server has logged ("audit log opened anew", "audit log written out") or that an earlier run has printed.
/// Exit code 1 when there is a fault, 4 when a file cannot be read.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// A line that must be in the chain
    #[arg(long, value_name = "NUMBER:DIGEST", value_parser = head)]
    head: Option<Head>,
    /// Pass over lines that are no audit lines: the log of the process shares the file
    #[arg(long)]
    mixed: bool,
    /// Files, oldest first; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn head(text: &str) -> Result<Head, NoHead> {
    text.parse()
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// `ok` or `failed`.
    status: &'static str,
    lines: u64,
    /// Number of the first line in its chain.
    first: Option<u64>,
    head: Option<String>,
    passed_over: u64,
    faults: Vec<Found>,
    more_faults: u64,
}

#[derive(Debug, Serialize)]
struct Found {
    file: String,
    line: u64,
    fault: String,
}

impl Report {
    fn found(&mut self, file: &str, line: u64, fault: &str) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Found { file: file.to_owned(), line, fault: fault.to_owned() });
        } else {
            self.more_faults += 1;
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Found { file, line, fault } in &self.faults {
            text += &format!("{file}:{line}: {fault}\n");
        }
        let (lines, passed) = (self.lines, self.passed_over);
        match (&self.head, self.first) {
            (Some(head), Some(first)) if self.faults.is_empty() => {
                text += &format!("audit log whole: {lines} line(s) from number {first}, head {head}");
            }
            (Some(head), _) => {
                let count = self.more_faults + u64::try_from(self.faults.len()).unwrap_or(u64::MAX);
                text += &format!("audit log NOT whole: {count} fault(s) in {lines} line(s), head {head}");
            }
            (None, _) => text += "no line of a chain: is audit.hash_chain on?",
        }
        if passed > 0 {
            text += &format!(", {passed} other line(s) passed over");
        }
        text
    }
}

pub(crate) fn run(global: &GlobalArgs, command: &AuditCommand) -> u8 {
    let AuditCommand::Verify(args) = command;
    match verify(args) {
        Ok(report) => {
            print(&match global.output {
                Format::Human => report.text(),
                Format::Json => serde_json::to_string(&report).unwrap_or_default(),
            });
            if report.status == "ok" { exit::OK } else { exit::GENERIC }
        }
        Err((file, error)) => {
            eprintln!("error: cannot read {}: {error}", file.display());
            exit::CONFIG
        }
    }
}

fn verify(args: &VerifyArgs) -> Result<Report, (PathBuf, io::Error)> {
    let mut verifier = Verifier::new(args.head.clone());
    let mut report = Report::default();
    for file in &args.files {
        read(file, args.mixed, &mut verifier, &mut report).map_err(|error| (file.clone(), error))?;
    }
    if let Some(missed) = verifier.missed() {
        let fault = format!("line {} of the chain, which was vouched for, is not there", missed.seq());
        report.found(&args.files[args.files.len() - 1].display().to_string(), 0, &fault);
    }
    report.first = verifier.first();
    report.head = verifier.head().map(ToString::to_string);
    let good = report.faults.is_empty() && report.head.is_some();
    report.status = if good { "ok" } else { "failed" };
    Ok(report)
}

fn read(file: &PathBuf, mixed: bool, verifier: &mut Verifier, report: &mut Report) -> io::Result<()> {
    let name = file.display().to_string();
    let mut input: Box<dyn BufRead> =
        if name == "-" { Box::new(io::stdin().lock()) } else { Box::new(BufReader::new(File::open(file)?)) };
    let (mut line, mut number) = (Vec::new(), 0);
    while input.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        let whole = line.strip_suffix(b"\n").unwrap_or(&line);
        match verifier.line(whole) {
            Err(Fault::Foreign) if mixed => report.passed_over += 1,
            judged => {
                report.lines += 1;
                if let Err(fault) = judged {
                    report.found(&name, number, &fault.to_string());
                }
            }
        }
        line.clear();
    }
    Ok(())
}

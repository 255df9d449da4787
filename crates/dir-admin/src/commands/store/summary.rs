//! The end of a job in one line, or one JSON document.

use super::tell::Tell;
use crate::cli::Format;
use dir_proto::directory::admin::v1 as pb;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    pub(super) trouble: String,
    pub(super) place: String,
    pub(super) tag: String,
    pub(super) manifest: String,
    pub(super) cid: String,
    pub(super) detail: String,
}

impl Found {
    pub(super) fn line(&self) -> String {
        let name = [&self.tag, &self.cid, &self.manifest].into_iter().find(|name| !name.is_empty());
        let name = name.map_or("?", String::as_str);
        let place = if self.place.is_empty() { String::new() } else { format!(" in {}", self.place) };
        format!("{}: {name}{place}: {}", self.trouble, self.detail)
    }
}

/// Findings of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    pub(super) found: u64,
    pub(super) repaired: u64,
}

/// Index and store compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Drift {
    pub(super) rows: u64,
    pub(super) missing_in_index: u64,
    pub(super) missing_in_store: u64,
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) skipped: u64,
    /// More rows would have gone than may.
    pub(super) held: bool,
}

/// What a job did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Done {
    /// An audit, or a repair.
    Audit {
        records: u64,
        referrers: u64,
        troubles: BTreeMap<String, Count>,
        drift: Option<Drift>,
        #[serde(skip_serializing_if = "String::is_empty")]
        drift_problem: String,
        /// The layout of a conversion that is not finished.
        #[serde(skip_serializing_if = "Option::is_none")]
        converting: Option<&'static str>,
        clean: bool,
    },
    /// A conversion.
    Reshard {
        to: &'static str,
        moved: u64,
        /// `None` when nobody has counted them.
        referrers: Option<u64>,
        left: u64,
        remaining: u64,
        done: bool,
    },
    /// An index made from a directory.
    Reindex { index: String, records: u64, added: u64, removed: u64, skipped: u64, held: bool },
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    /// `ok` or `warning`.
    pub(super) status: &'static str,
    /// `store audit`, ….
    pub(super) job: &'static str,
    /// The server, or the directory.
    pub(super) target: String,
    pub(super) dry_run: bool,
    #[serde(flatten)]
    pub(super) done: Done,
    pub(super) seconds: f64,
    pub(super) findings: Vec<Found>,
    pub(super) more_findings: u64,
}

impl Done {
    pub(super) const fn is_good(&self) -> bool {
        match self {
            Done::Audit { clean, .. } => *clean,
            Done::Reshard { left, done, .. } => *done && *left == 0,
            Done::Reindex { skipped, held, .. } => *skipped == 0 && !*held,
        }
    }

    pub(super) fn audit(report: pb::AuditReport) -> Self {
        let count = |t: pb::TroubleCount| (t.trouble, Count { found: t.found, repaired: t.repaired });
        Done::Audit {
            records: report.records,
            referrers: report.referrers,
            troubles: report.troubles.into_iter().map(count).collect(),
            drift: report.drift.map(|drift| Drift {
                rows: drift.rows,
                missing_in_index: drift.missing_in_index,
                missing_in_store: drift.missing_in_store,
                added: drift.added,
                removed: drift.removed,
                skipped: drift.skipped,
                held: drift.held,
            }),
            drift_problem: report.drift_problem,
            converting: None,
            clean: report.clean,
        }
    }

    fn line(&self, dry_run: bool) -> String {
        match self {
            Done::Audit { records, referrers, troubles, drift, drift_problem, converting, .. } => {
                let mut parts =
                    vec![format!("{records} record(s) and {referrers} referrer(s) as they should be")];
                parts.extend(troubles.iter().map(|(name, n)| match n.repaired {
                    0 => format!("{} {name}", n.found),
                    repaired => format!("{} {name} ({repaired} set right)", n.found),
                }));
                parts.push(match drift {
                    None => format!("index not compared: {drift_problem}"),
                    Some(drift) => drift.line(),
                });
                parts.extend(converting.map(|to| {
                    format!("a conversion to {to} is unfinished (dir-admin store reshard --to {to} ends it)")
                }));
                parts.join(", ")
            }
            Done::Reindex { index, records, added, removed, skipped, held } => {
                let mut line = format!("{records} record(s) in {index}, {added} added, {removed} removed");
                if *skipped > 0 {
                    line += &format!(", {skipped} left out: unreadable or not valid");
                }
                if *held {
                    line +=
                        ", many rows without a record were left: start from an empty index, or repair online";
                }
                line
            }
            Done::Reshard { to, moved, referrers, left, remaining, done } => {
                let verb = if dry_run { "would move" } else { "moved" };
                let mut line = match referrers {
                    Some(referrers) => {
                        format!("{moved} record(s) and {referrers} referrer(s) {verb} to {to}")
                    }
                    None => format!("{moved} record(s), with what refers to them, {verb} to {to}"),
                };
                if *left > 0 {
                    line += &format!(", {left} cannot be moved");
                }
                if !done {
                    line += &format!(", {remaining} still to be looked at: run it again to go on");
                }
                line
            }
        }
    }
}

impl Drift {
    fn line(&self) -> String {
        let Self { rows, missing_in_index, missing_in_store, added, removed, .. } = self;
        if *missing_in_index == 0 && *missing_in_store == 0 {
            return format!("index agrees ({rows} rows)");
        }
        let mut line = format!("index lacks {missing_in_index} ({added} taken in)");
        line += &format!(", {missing_in_store} of {rows} rows without a record ({removed} taken out)");
        if self.held {
            line += ", too many to go unasked: --max-removal-percent";
        }
        line
    }
}

impl Summary {
    pub(super) fn new(
        job: &'static str,
        target: String,
        dry_run: bool,
        done: Done,
        begun: Instant,
        mut tell: Tell,
    ) -> Self {
        tell.end();
        let status = if done.is_good() { "ok" } else { "warning" };
        let (findings, more_findings) = (std::mem::take(&mut tell.findings), tell.more_findings);
        let seconds = begun.elapsed().as_secs_f64();
        Self { status, job, target, dry_run, done, seconds, findings, more_findings }
    }

    pub(super) fn is_good(&self) -> bool {
        self.done.is_good()
    }

    pub(super) fn text(&self, format: Format) -> String {
        match format {
            Format::Json => serde_json::to_string(self).unwrap_or_default(),
            Format::Human => {
                let dry = if self.dry_run { " (dry run)" } else { "" };
                let line = self.done.line(self.dry_run);
                format!("{} {}{dry}: {line}, in {:.1} s", self.job, self.status, self.seconds)
            }
        }
    }
}

/// Seconds as people plan with them.
pub(super) fn left(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(done: Done) -> Summary {
        let status = if done.is_good() { "ok" } else { "warning" };
        let (target, findings) = ("api:8888".to_owned(), Vec::new());
        Summary {
            status,
            job: "store x",
            target,
            dry_run: false,
            done,
            seconds: 1.0,
            findings,
            more_findings: 0,
        }
    }

    #[test]
    fn one_line_each_way_it_can_end() {
        let drift = |missing_in_index, missing_in_store, held| Drift {
            rows: 30,
            missing_in_index,
            missing_in_store,
            added: missing_in_index,
            removed: 0,
            skipped: 0,
            held,
        };
        let audit = |troubles: &[(&str, Count)], drift, clean| Done::Audit {
            records: 30,
            referrers: 2,
            troubles: troubles.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            drift,
            drift_problem: "the store is gone".into(),
            converting: None,
            clean,
        };
        let reshard = |left, remaining, done| Done::Reshard {
            to: "sharded",
            moved: 5,
            referrers: Some(0),
            left,
            remaining,
            done,
        };
        let whole = "store x ok: 30 record(s) and 2 referrer(s) as they should be";
        let part = "store x warning: 30 record(s) and 2 referrer(s) as they should be";
        let orphans =
            [("orphan", Count { found: 3, repaired: 2 }), ("broken", Count { found: 1, repaired: 0 })];
        for (done, text) in [
            (audit(&[], Some(drift(0, 0, false)), true), format!("{whole}, index agrees (30 rows), in 1.0 s")),
            (
                audit(&orphans, None, false),
                format!("{part}, 1 broken, 3 orphan (2 set right), index not compared: the store is gone, in 1.0 s"),
            ),
            (
                audit(&[], Some(drift(1, 12, true)), false),
                format!(
                    "{part}, index lacks 1 (1 taken in), 12 of 30 rows without a record (0 taken out), too many to go \
                     unasked: --max-removal-percent, in 1.0 s"
                ),
            ),
            (
                reshard(0, 0, true),
                "store x ok: 5 record(s) and 0 referrer(s) moved to sharded, in 1.0 s".to_owned(),
            ),
            (
                reshard(2, 7, false),
                "store x warning: 5 record(s) and 0 referrer(s) moved to sharded, 2 cannot be moved, 7 still to be \
                 looked at: run it again to go on, in 1.0 s"
                    .to_owned(),
            ),
        ] {
            assert_eq!(summary(done).text(Format::Human), text);
        }
    }

    #[test]
    fn times_as_people_plan_with_them() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_260, "2 h 1 min")]
        {
            assert_eq!(left(seconds), text);
        }
    }
}

//! `dirctl bundle`

use super::{Context, env};
use crate::fail::Fail;
use crate::output::Format;
use clap::{Args, Subcommand, ValueEnum};
use dir_client::bundle::{self, Bundle, Endpoint, Once, Vouched};
use dir_client::settings::{self, Sources};
use dir_client::{exit, probe};
use dir_core::{Clock, SpiffeId, TrustDomain};
use dir_runtime::SystemClock;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Exit codes:
  0 fetched (and confirmed, where something was given to confirm it by) · 3 unreachable · 4 no bundle document
  7 TLS or identity: another endpoint, another trust domain, another fingerprint · 75 timeout

Examples:
  dirctl bundle fetch https://bundle.partner.example:8443/ --endpoint-id spiffe://partner.example/ns/dir/sa/api
  dirctl bundle fetch https://bundle.partner.example:8443/ --endpoint-id spiffe://partner.example/ns/dir/sa/api \\
    --fingerprint 5F:0C:…:9A --out partner.example.json
  dirctl bundle fetch https://bundle.partner.example/b.json --https-web --trust-domain partner.example --format pem --out -";

/// Trust bundles of partners
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    Fetch(FetchArgs),
}

/// Fetch a partner's trust bundle from its endpoint, show the fingerprints of its authorities, and confirm it
///
/// Before two organisations trust each other nothing proves that the right one answers. Let the partner tell you the
/// fingerprint of an authority over another way (telephone, a signed mail) and give it with --fingerprint: then the
/// endpoint must prove itself by that authority, and the bundle is written. Without anything to confirm it by, the bundle
/// of an https_spiffe endpoint is shown and never written.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FetchArgs {
    /// The endpoint: https://host:port/path
    #[arg(value_name = "URL")]
    url: String,
    /// The endpoint proves itself by an SVID with exactly this SPIFFE ID (https_spiffe)
    #[arg(long, value_name = "ID", required_unless_present = "https_web")]
    endpoint_id: Option<SpiffeId>,
    /// The endpoint proves itself by a certificate of the public kind (https_web)
    #[arg(long, conflicts_with_all = ["endpoint_id", "bootstrap_file"], requires = "trust_domain")]
    https_web: bool,
    /// Whose bundle it is [default: the trust domain of --endpoint-id]
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// SHA-256 of an authority that is known to be the partner's; may be repeated, all of them must be there
    #[arg(long, value_name = "SHA256", value_parser = bundle::fingerprint)]
    fingerprint: Vec<String>,
    /// A bundle of the partner that is trusted already, to judge the endpoint by: a SPIFFE bundle document, or PEM
    #[arg(long, value_name = "FILE")]
    bootstrap_file: Option<PathBuf>,
    /// Roots for --https-web instead of those of this machine, PEM
    #[arg(long, value_name = "FILE", requires = "https_web")]
    ca_file: Option<PathBuf>,
    /// Where to write the bundle; - is stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What is written: the SPIFFE bundle document as it was sent, or the X.509 authorities in PEM
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "spiffe")]
    format: BundleFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BundleFormat {
    Spiffe,
    Pem,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    url: &'a str,
    trust_domain: String,
    /// Why it may be believed: fingerprint, bootstrap, web, or nothing.
    confirmed_by: &'static str,
    sequence: Option<u64>,
    refresh_hint_seconds: Option<u64>,
    authorities: Vec<Authority>,
    jwt_keys: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
}

#[derive(Debug, Serialize)]
struct Authority {
    sha256: String,
    /// Its fingerprint was given.
    confirmed: bool,
    subject: String,
    not_before: String,
    not_after: String,
    expired: bool,
}

pub(crate) async fn run(context: &Context, command: BundleCommand) -> Result<u8, Fail> {
    let BundleCommand::Fetch(args) = command;
    args.check()?;
    let once = args.once(context)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let fetched = bundle::fetch(&once, &clock).await?;
    let written = args.write(context, &once, &fetched)?;
    let report = report(&once, &fetched, written);
    if args.to_stdout() {
        // stdout is the bundle.
        report.lines().iter().for_each(|line| context.talk.note(line));
        return Ok(exit::OK);
    }
    match context.out.format {
        Format::Human => report.lines().iter().try_for_each(|line| context.out.line(line))?,
        Format::Json | Format::Yaml => context.out.value(&report)?,
    }
    if fetched.vouched == Vouched::Nothing {
        context.talk.note(
            "not confirmed: compare a fingerprint with the partner over a way you trust, then run it again with \
             --fingerprint and --out",
        );
    }
    Ok(exit::OK)
}

impl FetchArgs {
    fn to_stdout(&self) -> bool {
        self.out.as_deref() == Some(Path::new("-"))
    }

    /// Nothing is written that nothing vouches for.
    fn check(&self) -> Result<(), Fail> {
        let vouched = self.https_web || self.bootstrap_file.is_some() || !self.fingerprint.is_empty();
        if self.out.is_none() || vouched {
            return Ok(());
        }
        Err(Fail::usage(
            "--out needs something to confirm the bundle by",
            "give --fingerprint with what the partner told you over a way you trust, or --bootstrap-file with a bundle that \
             you trust already; without --out the fingerprints are shown",
        ))
    }

    fn once(&self, context: &Context) -> Result<Once, Fail> {
        let profile = context.profile()?;
        let sources = Sources { flags: &context.flags(), env: &env, profile: profile.as_ref() };
        let (endpoint, domain) = match &self.endpoint_id {
            Some(id) => (Endpoint::HttpsSpiffe { id: id.clone() }, Some(id.trust_domain().clone())),
            None => (Endpoint::HttpsWeb { ca_file: self.ca_file.clone() }, None),
        };
        let trust_domain = self.trust_domain.clone().or(domain.clone());
        let trust_domain = trust_domain
            .ok_or_else(|| Fail::usage("no trust domain is named", "name it with --trust-domain"))?;
        if domain.is_some_and(|of_endpoint| of_endpoint != trust_domain) && self.bootstrap_file.is_none() {
            // A fingerprint speaks for the bundle of the trust domain, and the endpoint is of another one.
            return Err(Fail::usage(
                "the endpoint belongs to another trust domain than the bundle",
                "give the bundle of the endpoint's trust domain with --bootstrap-file",
            ));
        }
        Ok(Once {
            url: self.url.clone(),
            trust_domain,
            endpoint,
            bootstrap_file: self.bootstrap_file.clone(),
            fingerprints: self.fingerprint.iter().cloned().collect(),
            limit: settings::timeout(&sources)?,
        })
    }

    /// Writes the bundle, whole or not at all; the answer names the file.
    fn write(&self, context: &Context, once: &Once, fetched: &Bundle) -> Result<Option<String>, Fail> {
        let Some(path) = &self.out else { return Ok(None) };
        if fetched.document.x509_roots.is_empty() {
            let what = format!("the bundle of {} has no X.509 authority", once.trust_domain);
            return Err(Fail::config(what, "nothing was written: ask the partner what it publishes"));
        }
        let text = match self.format {
            BundleFormat::Spiffe => fetched.text.clone(),
            BundleFormat::Pem => bundle::pem(fetched).into_bytes(),
        };
        if self.to_stdout() {
            context.out.line(text.trim_ascii_end())?;
            return Ok(None);
        }
        replace(path, &text).map_err(|e| Fail::local(format!("write {}", path.display()), e))?;
        Ok(Some(path.display().to_string()))
    }
}

/// A new file in the place of an old one, at once.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("this is no file name"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(beside);
    let written = std::fs::File::create_new(&temporary).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    let done = written.and_then(|()| std::fs::rename(&temporary, path));
    if done.is_err() {
        // Nothing is left behind where that can be helped.
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

fn report<'a>(once: &'a Once, fetched: &'a Bundle, written: Option<String>) -> Report<'a> {
    let now = SystemClock.now();
    let authorities = fetched.document.x509_roots.iter().map(|der| {
        let sha256 = bundle::root_fingerprint(der);
        let seen = probe::inspect(der);
        let text = |of: &dyn Fn(&probe::Seen) -> String| seen.as_ref().map(of).unwrap_or_default();
        Authority {
            confirmed: once.fingerprints.contains(&sha256),
            sha256,
            subject: text(&|s| s.presented.subject.clone()),
            not_before: text(&|s| s.not_before.to_string()),
            not_after: text(&|s| s.not_after.to_string()),
            expired: seen.as_ref().is_some_and(|s| s.not_after < now),
        }
    });
    Report {
        url: &once.url,
        trust_domain: once.trust_domain.to_string(),
        confirmed_by: match fetched.vouched {
            Vouched::Nothing => "nothing",
            Vouched::Web => "web",
            Vouched::Bootstrap => "bootstrap",
            Vouched::Fingerprint => "fingerprint",
        },
        sequence: fetched.document.sequence,
        refresh_hint_seconds: fetched.document.refresh_hint.map(|hint| hint.as_secs()),
        authorities: authorities.collect(),
        jwt_keys: fetched.document.jwt_keys.keys().map(String::as_str).collect(),
        written,
    }
}

impl Report<'_> {
    fn lines(&self) -> Vec<String> {
        let line = |name: &str, value: String| format!("{name:<14} {value}");
        let or_dash = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
        let mut lines = vec![
            line("trust domain", self.trust_domain.clone()),
            line("confirmed by", self.confirmed_by.to_owned()),
            line(
                "sequence",
                format!("{}, refresh every {} s", or_dash(self.sequence), or_dash(self.refresh_hint_seconds)),
            ),
        ];
        if self.authorities.is_empty() {
            lines.push(line(
                "authorities",
                "none: with this bundle nobody of the trust domain is trusted".to_owned(),
            ));
        }
        for authority in &self.authorities {
            let known = if authority.confirmed { ", as given" } else { "" };
            let expired = if authority.expired { " (EXPIRED)" } else { "" };
            lines.push(line("authority", format!("sha256:{}{known}", authority.sha256)));
            lines.push(line("", format!("{}, until {}{expired}", authority.subject, authority.not_after)));
        }
        if !self.jwt_keys.is_empty() {
            lines.push(line("jwt keys", self.jwt_keys.join(" ")));
        }
        if let Some(path) = &self.written {
            lines.push(line("written to", path.clone()));
        }
        lines
    }
}

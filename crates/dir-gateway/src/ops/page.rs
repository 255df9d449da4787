//! The two forms of the metrics page: the Prometheus text format, and OpenMetrics for those who ask for it.

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

/// A form of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    OpenMetrics,
}

/// Media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text";
/// Ending of a counter's samples, which the name of its family does not have in OpenMetrics.
const TOTAL: &str = "_total";

impl Form {
    /// What `Accept` headers ask for: OpenMetrics when they name it and like nothing else of ours better.
    pub(super) fn wanted<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let (mut open, mut text) = (0.0f32, 0.0f32);
        for range in accept.flat_map(|header| header.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut weight, mut known) = (1.0f32, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.to_ascii_lowercase().as_str() {
                    "q" => weight = value.parse().unwrap_or(0.0),
                    "version" if media.eq_ignore_ascii_case(OPEN_METRICS) => known = value == "1.0.0",
                    _ => {}
                }
            }
            if media.eq_ignore_ascii_case(OPEN_METRICS) {
                if known {
                    open = weight.max(open);
                }
            } else if ["text/plain", "text/*"].iter().any(|plain| media.eq_ignore_ascii_case(plain)) {
                text = weight.max(text);
            }
        }
        if open > 0.0 && open >= text { Form::OpenMetrics } else { Form::Text }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    pub(super) fn write(self, families: &[MetricFamily]) -> Result<String, prometheus::Error> {
        let text = TextEncoder::new().encode_to_string(families)?;
        Ok(match self {
            Form::Text => text,
            Form::OpenMetrics => open_metrics(&text),
        })
    }
}

/// The same samples: only what is said about a family is written differently.
fn open_metrics(text: &str) -> String {
    let mut page = String::with_capacity(text.len() + 8);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let told = line.strip_prefix("# HELP ").and_then(|told| told.split_once(' '));
        let Some((name, help)) = told else {
            page.push_str(&about_counter(line).unwrap_or_else(|| line.to_owned()));
            page.push('\n');
            continue;
        };
        let counter = lines.peek().is_some_and(|next| next.ends_with(" counter"));
        let family = if counter { name.strip_suffix(TOTAL).unwrap_or(name) } else { name };
        page.push_str(&format!("# HELP {family} {}\n", help.replace('"', "\\\"")));
    }
    page.push_str("# EOF\n");
    page
}

/// `# TYPE x_total counter` names the family `x`.
fn about_counter(line: &str) -> Option<String> {
    let family = line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.strip_suffix(TOTAL)?;
    Some(format!("# TYPE {family} counter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scrapers_ask_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, form) in [
            ("", Form::Text),
            ("*/*", Form::Text),
            ("text/plain", Form::Text),
            ("application/openmetrics-text", Form::OpenMetrics),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Form::OpenMetrics),
            ("application/openmetrics-text; version=9.9.9", Form::Text),
            ("application/openmetrics-text;q=0", Form::Text),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.5", Form::Text),
            (prometheus, Form::OpenMetrics),
        ] {
            assert_eq!(Form::wanted([accept].into_iter()), form, "{accept}");
        }
    }

    #[test]
    fn counters_lose_their_ending_and_the_page_has_an_end() {
        let text = "# HELP a_total The \"a\".\n# TYPE a_total counter\na_total{b=\"# TYPE c_total counter\"} 1\n\
                    # HELP g_total A gauge.\n# TYPE g_total gauge\ng_total{b=\"c\"} 2\n";
        let page = "# HELP a The \\\"a\\\".\n# TYPE a counter\na_total{b=\"# TYPE c_total counter\"} 1\n\
                    # HELP g_total A gauge.\n# TYPE g_total gauge\ng_total{b=\"c\"} 2\n# EOF\n";
        assert_eq!(open_metrics(text), page);
    }
}

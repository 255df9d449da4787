//! Every key, one by one: default, file, variable, reference page.

use super::{loaded, value};
use crate::config::layers::Source;
use crate::config::section::{Flag, Key};
use crate::config::{ENV_PREFIX, all_keys, reference};
use serde_json::{Value, json};

/// A value that is not the default and fits the type, as text and as a YAML/JSON value.
fn other(key: &Key) -> (String, Value) {
    let text = match key.kind.as_str() {
        "true or false" => if key.default == "true" { "false" } else { "true" }.to_owned(),
        "duration" => "7h".to_owned(),
        "address" => "127.0.0.1:7777".to_owned(),
        "list of objects" => {
            let item = if key.path.starts_with("federation") {
                json!({"name": "p.x", "bootstrap_file": "/b"})
            } else {
                json!({"peer": "p"})
            };
            let list = json!([item]);
            return (list.to_string(), list);
        }
        "map of objects" => {
            let map = json!({"/a.B/C": {"rps": 1.5, "burst": 2}});
            return (map.to_string(), map);
        }
        kind if kind.starts_with("list of networks") => {
            return ("10.0.0.0/8,::1/128".to_owned(), json!(["10.0.0.0/8", "::1/128"]));
        }
        kind if kind.starts_with("list") => return ("a,b".to_owned(), json!(["a", "b"])),
        kind if kind.contains("number") => "4242".to_owned(),
        kind if kind.starts_with('`') => {
            let mut choices = kind.split(", ").map(|c| c.trim_matches('`'));
            choices.find(|c| *c != key.default).unwrap().to_owned()
        }
        _ => "/other".to_owned(),
    };
    (text.clone(), Value::String(text))
}

/// How the value of [`other`] is shown.
fn shown(key: &Key) -> Value {
    let (text, tree) = other(key);
    match key.kind.as_str() {
        "true or false" => json!(text == "true"),
        "secret" => json!("***"),
        "list of objects" | "map of objects" => Value::Null,
        "a number from 0" => json!(4242.0),
        kind if kind.contains("number") => json!(4242),
        _ => tree,
    }
}

fn nested(path: &str, value: Value) -> String {
    let tree = path.rsplit('.').fold(value, |inner, name| json!({ name: inner }));
    tree.to_string()
}

#[test]
fn the_table_is_whole() {
    let keys = all_keys();
    assert!(keys.len() > 110, "{}", keys.len());
    let mut names: Vec<_> = keys.iter().map(Key::env).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), keys.len(), "two keys share a variable");
    for key in &keys {
        assert!(!key.help.is_empty() && key.help.ends_with('.'), "{}: {:?}", key.path, key.help);
        assert!(key.env().starts_with(ENV_PREFIX) && !key.env().contains(['.', '-']), "{}", key.env());
        assert_eq!(key.has(Flag::Secret), key.kind == "secret", "{}", key.path);
    }
}

#[test]
fn defaults() {
    let standard = loaded("", &[]);
    assert!(standard.entries.iter().all(|e| e.source == Source::Default));
    for (key, default) in [
        ("listen_address", json!("0.0.0.0:8888")),
        ("connection.max_recv_msg_size", json!(4_194_304)),
        ("connection.keepalive.max_connection_age", json!("30m")),
        ("database.type", json!("embedded")),
        ("database.embedded.path", json!("/home/u/.dir/index")),
        ("state_dir", json!("/home/u/.dir")),
        ("metrics.address", json!(":9090")),
        ("naming.ttl", json!("168h")),
        ("store.oci.auth_config.insecure", json!(true)),
    ] {
        assert_eq!(value(&standard, key), default, "{key}");
    }
}

#[test]
fn every_key_can_stand_in_the_file() {
    for key in all_keys() {
        let (_, tree) = other(&key);
        let read = loaded(&nested(&key.path, tree), &[]);
        let entry = read.entries.iter().find(|e| e.key == key.path).unwrap();
        assert!(matches!(entry.source, Source::File(_)), "{}: {:?}", key.path, read.problems);
        if !shown(&key).is_null() {
            assert_eq!(entry.value, shown(&key), "{}", key.path);
        }
    }
}

#[test]
fn every_key_can_be_a_variable() {
    for key in all_keys() {
        let (text, _) = other(&key);
        let read = loaded("", &[(&key.env(), &text)]);
        let entry = read.entries.iter().find(|e| e.key == key.path).unwrap();
        assert_eq!(entry.source, Source::Env(key.env()), "{}: {:?}", key.path, read.problems);
        if !shown(&key).is_null() {
            assert_eq!(entry.value, shown(&key), "{}", key.path);
        }
    }
}

#[test]
fn an_empty_variable_counts() {
    let yaml = "authn: {enabled: true, mode: x509, socket_path: /s, public_hostnames: [a]}\n";
    let read = loaded(
        yaml,
        &[
            ("DIRECTORY_SERVER_AUTHN_ENABLED", ""),
            ("DIRECTORY_SERVER_AUTHN_PUBLIC_HOSTNAMES", ""),
            ("DIRECTORY_SERVER_RATELIMIT_AUTH_RPM", ""),
        ],
    );
    assert_eq!(value(&read, "authn.enabled"), json!(false));
    assert_eq!(value(&read, "authn.public_hostnames"), json!([]));
    assert_eq!(value(&read, "ratelimit.auth_rpm"), json!(0));
    assert_eq!(value(&read, "authn.socket_path"), json!("/s"));
}

#[test]
fn the_reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/config.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == reference::markdown(),
        "docs/reference/config.md is out of date: run `dir-apiserver config env --markdown > docs/reference/config.md`"
    );
    for key in all_keys() {
        assert!(committed.contains(&format!("| `{}` |", key.path)), "{}", key.path);
    }
    for line in committed.lines().filter_map(|l| l.strip_prefix("| `")) {
        let name = line.split('`').next().unwrap();
        let known = all_keys().iter().any(|k| {
            k.path == name || k.env() == name || name.strip_suffix("_FILE").is_some_and(|n| k.env() == n)
        });
        assert!(known || name.starts_with("DIRECTORY_LOGGER_"), "{name} is no key");
    }
}

/// Names that sound like a credential, of keys and of the fields of structured values, whose type is none: each would
/// be shown by `config show`.
fn open_credentials(names: &[(String, String)]) -> Vec<&str> {
    const SOUNDS: [&str; 9] =
        ["password", "passwd", "passphrase", "secret", "token", "credential", "private", "api_key", "apikey"];
    let sounds = |path: &str| {
        let name = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        SOUNDS.iter().any(|sound| name.contains(sound)) || name == "key" || name.ends_with("_key")
    };
    // A number, a choice or a path holds no credential.
    let texts = |kind: &str| kind == "text" || kind == "field" || kind.starts_with("list (");
    let open = names.iter().filter(|(path, kind)| sounds(path) && texts(kind));
    open.map(|(path, _)| path.as_str()).collect()
}

#[test]
fn l_every_key_that_sounds_like_a_credential_is_a_secret() {
    let mut names: Vec<(String, String)> = all_keys().into_iter().map(|k| (k.path, k.kind)).collect();
    let fields_before = names.len();
    for key in all_keys().iter().filter(|k| k.kind.ends_with("of objects")) {
        let read = loaded(&nested(&key.path, other(key).1), &[]);
        let objects = match value(&read, &key.path) {
            Value::Array(items) => items,
            Value::Object(map) => map.into_values().collect(),
            other => panic!("{}: {other}", key.path),
        };
        for (field, _) in objects.iter().filter_map(Value::as_object).flatten() {
            names.push((format!("{}.{field}", key.path), "field".to_owned()));
        }
    }
    assert!(names.len() > fields_before + 5, "fields of objects are looked at");
    assert_eq!(open_credentials(&names), Vec::<&str>::new());
    assert!(names.iter().filter(|(_, kind)| kind == "secret").count() >= 7);
    // What a new key would have to be called to get through is not one of these.
    let new = |path: &str, kind: &str| (path.to_owned(), kind.to_owned());
    for caught in ["naming.api_token", "federation.trust_domains.password", "x.signing_key"] {
        assert_eq!(open_credentials(&[new(caught, "text")]), [caught]);
    }
    assert!(open_credentials(&[new("x.tls_key", "path"), new("x.token", "secret")]).is_empty());
}

//! `config explain KEY`.

use crate::config::section::Flag;
use crate::config::{Loaded, all_keys, reference};
use crate::exit::{Failure, Status};

pub(crate) fn run(loaded: &Loaded, wanted: &str) -> anyhow::Result<Status> {
    let keys = all_keys();
    let Some(key) = keys.iter().find(|k| k.path == wanted || k.env() == wanted) else {
        let near = crate::config::nearest_key(wanted, &keys);
        let hint = near.map_or_else(
            || "`dir-apiserver config env` lists every key".to_owned(),
            |n| format!("did you mean {n}?"),
        );
        return Err(Failure::new(Status::Usage, format!("there is no key {wanted}; {hint}")).into());
    };
    let secret = if key.has(Flag::Secret) { format!(" or {}_FILE", key.env()) } else { String::new() };
    let mut text = format!("{}\n  {}\n\n", key.path, key.help);
    text.push_str(&format!("  type      {}\n", key.kind));
    text.push_str(&format!("  default   {}\n", reference::shown_default(key)));
    text.push_str(&format!("  variable  {}{secret}\n", key.env()));
    text.push_str(&format!("  required  {}\n", reference::required(key)));
    text.push_str(&format!("  taken     {}\n", reference::status(key)));
    if let Some(entry) = loaded.entries.iter().find(|e| e.key == key.path) {
        text.push_str(&format!("  now       {} ({})\n", entry.value, entry.source));
    }
    super::print(&text)?;
    Ok(Status::Ok)
}

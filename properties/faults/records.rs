//! Faults 80-90: records, reports and specifications that are read for what they are not.

use normative::op::Registry;
use normative::spec::{File, Placement};

use crate::{Fault, Judged};

pub fn faults() -> Vec<Fault> {
    vec![misspelt_key()]
}

/// 90: `esp` for `eps` must not fall silent.
fn misspelt_key() -> Fault {
    const TEXT: &str = "name = \"mine\"\nlayer = \"x = norm(x + ffn(x))\"\n[setting]\nesp = 0.5\n";
    let read = |text: &str| -> Result<(), String> {
        let file = File::parse("mine.toml", text).map_err(|error| error.to_string())?;
        Placement::new(file, &Registry::builtin().vocabulary()).map(|_| ()).map_err(|error| error.to_string())
    };
    // Drops every line of a table that the reader does not know.
    let lenient = move |text: &str| {
        let known = |line: &&str| read(TEXT).is_ok() || !line.starts_with("esp");
        read(&text.lines().filter(known).collect::<Vec<_>>().join("\n"))
    };
    let judge = |read: &dyn Fn(&str) -> Result<(), String>| -> Judged {
        match read(TEXT) {
            Err(message) if message.contains("esp") => Ok(()),
            Err(message) => Err(format!("the error does not name the key: {message}")),
            Ok(()) => Err("a file with the key esp is read as if it were not there".into()),
        }
    };
    Fault::new(90, "unknown key of a file ignored", "misspelt key", move || judge(&read), move || judge(&lenient))
}

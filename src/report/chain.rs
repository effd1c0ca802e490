//! The seal of a line of records: damage, removal and insertion of lines are found.
//!
//! A line is a JSON object whose last two keys are the CRC-32 of what stands before them, and the SHA-256 of the previous
//! line's SHA-256 and the same bytes.

use crate::report::environment::sha256;

const CRC: &str = ",\"crc\":\"";
const SHA: &str = "\",\"sha256\":\"";
const END: &str = "\"}";
/// Bytes of a seal: both keys, 8 and 64 digits, the closing brace.
const LENGTH: usize = CRC.len() + 8 + SHA.len() + 64 + END.len();

/// Links lines: seals each with the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The SHA-256 of the last line; empty before the first.
    last: String,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The line is not as it was written.
    Damaged,
    /// The line is as it was written, and does not follow the one before it.
    OutOfPlace,
}

impl Broken {
    pub fn words(self) -> &'static str {
        match self {
            Broken::Damaged => "is not as it was written: its checksum differs",
            Broken::OutOfPlace => "does not follow the line before it: lines were removed, added or moved",
        }
    }
}

impl Chain {
    /// The line of a JSON object, without its end of line.
    pub fn seal(&mut self, object: &str) -> String {
        let body = object.strip_suffix('}').unwrap_or(object);
        let line = sealed(body, &self.link(body));
        self.last = self.link(body);
        line
    }

    /// The JSON object of the next line.
    pub fn open(&mut self, line: &[u8]) -> Result<String, Broken> {
        let body = line.len().checked_sub(LENGTH).map(|at| &line[..at]).ok_or(Broken::Damaged)?;
        let body = std::str::from_utf8(body).map_err(|_| Broken::Damaged)?;
        let said = line.len() - END.len() - 64;
        let link = std::str::from_utf8(&line[said..line.len() - END.len()]).map_err(|_| Broken::Damaged)?;
        let hexadecimal = link.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hexadecimal || sealed(body, link).as_bytes() != line {
            return Err(Broken::Damaged);
        }
        if link != self.link(body) {
            return Err(Broken::OutOfPlace);
        }
        self.last = link.to_owned();
        Ok(format!("{body}}}"))
    }

    fn link(&self, body: &str) -> String {
        sha256(format!("{}\n{body}", self.last).as_bytes())
    }
}

fn sealed(body: &str, link: &str) -> String {
    format!("{body}{CRC}{:08x}{SHA}{link}{END}", crc32fast::hash(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<String> {
        let mut chain = Chain::default();
        ["{\"a\":1}", "{\"b\":2}", "{\"c\":\"é\"}"].map(|object| chain.seal(object)).to_vec()
    }

    fn read(lines: &[String]) -> Result<Vec<String>, Broken> {
        let mut chain = Chain::default();
        lines.iter().map(|line| chain.open(line.as_bytes())).collect()
    }

    #[test]
    fn lines_open_as_they_were_sealed() {
        assert_eq!(read(&three()).unwrap(), ["{\"a\":1}", "{\"b\":2}", "{\"c\":\"é\"}"]);
        let line: serde_json::Value = serde_json::from_str(&three()[1]).expect("a sealed line is JSON");
        assert_eq!(line["b"], 2);
    }

    #[test]
    fn a_missing_repeated_or_moved_line_is_out_of_place() {
        let [a, b, c] = three().try_into().expect("there are three");
        for lines in [vec![a.clone(), c.clone()], vec![a.clone(), a.clone()], vec![b.clone(), a.clone()], vec![c]] {
            assert_eq!(read(&lines), Err(Broken::OutOfPlace));
        }
        assert_eq!(read(&[a, b.replace('2', "3")]), Err(Broken::Damaged));
    }
}

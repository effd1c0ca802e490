//! Records survive what happens to files: a process that is killed, a torn tail, a second writer, a flipped bit.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use normative::random::{Stream, name_key};
use normative::report::{FILE, Records};

/// A run of a few seconds: two placements, the closed form at two shapes each, and their curves.
const RUN: [&str; 14] = [
    "verify",
    "pre-ln",
    "post-ln",
    "--claim",
    "prediction.*",
    "--width",
    "32",
    "--blocks",
    "2",
    "--tokens",
    "4",
    "--seeds",
    "8",
    "--shapes=2",
];

/// The files of a report that people read.
const FILES: [&str; 4] = ["index.html", "report.md", "report.json", "junit.xml"];

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_normative"));
    command.args(RUN).arg("--report").arg(folder).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn ends_with(code: i32, command: &mut Command) -> String {
    let output = command.output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Runs to the end, whatever the verdicts are: so few seeds leave some undecided.
#[track_caller]
fn finished(folder: &Path) -> PathBuf {
    let output = command(folder).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    folder.join(FILE)
}

fn read(folder: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|file| std::fs::read(folder.join(file)).expect(file)).collect()
}

/// How many kills, bit flips and the like: few in every run, more where the variable says so.
fn repetitions(few: usize) -> usize {
    std::env::var("NORMATIVE_REPETITIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(few)
}

/// How many lines close an item.
fn closed(folder: &Path) -> usize {
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("{\"done\"")).count()
}

#[test]
fn a_run_that_is_killed_at_any_moment_ends_in_the_same_report() {
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("whole");
    let start = std::time::Instant::now();
    finished(&whole);
    let length = start.elapsed();
    let expected = read(&whole);
    let mut moments = Stream::new(0, &[name_key("kills")]);
    let mut cut_off = 0;
    let (mut kills, mut folders) = (0, 0);
    while kills < repetitions(8) {
        let folder = place.path().join(format!("killed-{folders}"));
        folders += 1;
        // One run is killed again and again, until it ends before its moment comes.
        loop {
            let mut child: Child = command(&folder).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(length.mul_f64(moments.uniforms(1)[0]));
            let before = closed(&folder);
            let ended = child.try_wait().unwrap().is_some();
            child.kill().unwrap();
            child.wait().unwrap();
            // Nothing that was closed is lost.
            assert!(closed(&folder) >= before);
            if ended {
                break;
            }
            kills += 1;
            cut_off += usize::from(Records::read(&folder).is_ok_and(|records| records.missing().next().is_some()));
        }
        finished(&folder);
        for (file, (ours, whole)) in FILES.iter().zip(read(&folder).iter().zip(&expected)) {
            assert!(ours == whole, "{file} differs after kills");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    println!("{kills} kills, {cut_off} of them left items to judge");
    assert!(cut_off > 0, "no kill met a run at work");
}

#[test]
fn every_flipped_bit_is_found() {
    let place = tempfile::tempdir().unwrap();
    let path = finished(place.path());
    let sound = std::fs::read(&path).unwrap();
    assert!(Records::read(place.path()).is_ok());
    let mut bits = Stream::new(0, &[name_key("bits")]);
    let flips = repetitions(1000).max(1000);
    let bits = bits.uniforms(flips).into_iter().map(|u| (u * (8 * sound.len()) as f64) as usize);
    let last = sound.len() * 8 - 8;
    // The end of the last line tells a whole record from one that was cut off.
    for bit in bits.chain(last..sound.len() * 8) {
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &damaged).unwrap();
        let found = match Records::read(place.path()) {
            Err(error) => error.to_string().contains("line"),
            // Then the footer is gone: the run counts as cut off, and says so.
            Ok(records) => bit >= last && records.missing().next().is_none() && !records.complete,
        };
        assert!(found, "bit {} of byte {} of {}", bit % 8, bit / 8, sound.len());
    }
}

#[test]
fn lines_that_are_removed_swapped_or_repeated_are_found() {
    let place = tempfile::tempdir().unwrap();
    let path = finished(place.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let write = |lines: &[&str]| std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    for at in 1..lines.len() - 1 {
        let mut removed = lines.clone();
        removed.remove(at);
        let mut swapped = lines.clone();
        swapped.swap(at, at + 1);
        let mut repeated = lines.clone();
        repeated.insert(at, lines[at]);
        for wrong in [removed, swapped, repeated] {
            write(&wrong);
            let error = Records::read(place.path()).expect_err("the chain is broken").to_string();
            assert!(error.contains("line"), "{error}");
        }
    }
}

#[test]
fn a_torn_tail_costs_the_item_in_flight_only() {
    let place = tempfile::tempdir().unwrap();
    let path = finished(place.path());
    let (expected, sound) = (read(place.path()), std::fs::read(&path).unwrap());
    let items = Records::read(place.path()).unwrap().header.items.len();
    let mut cuts = Stream::new(0, &[name_key("cuts")]);
    for u in cuts.uniforms(6) {
        let cut = 1 + (u * (sound.len() - 1) as f64) as usize;
        std::fs::write(&path, &sound[..cut]).unwrap();
        let closed = sound[..cut].split_inclusive(|b| *b == b'\n');
        let closed = closed.filter(|line| line.ends_with(b"\n") && line.starts_with(b"{\"done\"")).count();
        if let Ok(records) = Records::read(place.path()) {
            assert_eq!(records.missing().count(), items - closed);
        }
        finished(place.path());
        assert!(read(place.path()) == expected, "cut at {cut}");
    }
}

#[test]
fn a_second_writer_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = finished(place.path());
    let held = std::fs::File::open(&path).unwrap();
    held.lock().unwrap();
    let said = ends_with(2, &mut command(place.path()));
    assert!(said.contains("another run is writing"), "{said}");
}

#[test]
fn the_records_of_another_run_are_refused_and_kept() {
    let place = tempfile::tempdir().unwrap();
    let path = finished(place.path());
    let before = std::fs::read(&path).unwrap();
    let said = ends_with(2, command(place.path()).args(["--seed", "1"]));
    assert!(said.contains("another run"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_place_that_cannot_be_written_ends_in_one_message() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    // No user, root neither, can make a folder below a file, or write in /proc.
    for folder in [file.join("report"), PathBuf::from("/proc/normative")] {
        let said = ends_with(2, &mut command(&folder));
        assert!(said.contains("choose a folder that can be written"), "{said}");
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing_that_was_written() {
    let place = tempfile::tempdir().unwrap();
    let [whole, full] = ["whole", "full"].map(|name| place.path().join(name));
    let kibibytes = std::fs::metadata(finished(&whole)).unwrap().len() / 1024;
    // The system refuses to let a file grow beyond half of what it needs, as a full disk would.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kibibytes / 2);
    let mut limited = Command::new("bash");
    limited.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_normative")]);
    limited.args(RUN).arg("--report").arg(&full).stdout(Stdio::null());
    let said = ends_with(2, &mut limited);
    assert!(said.contains("File too large") && said.contains("it goes on from here"), "{said}");
    assert!(Records::read(&full).unwrap().missing().next().is_some());
    finished(&full);
    assert!(read(&full) == read(&whole));
}

#[test]
fn a_verdict_that_does_not_follow_from_its_raw_numbers_is_found() {
    let place = tempfile::tempdir().unwrap();
    finished(place.path());
    let mut check = Command::new(env!("CARGO_BIN_EXE_normative"));
    check.args(["report", "--check"]).arg(place.path()).stdout(Stdio::null());
    ends_with(0, &mut check);
    let mut records = Records::read(place.path()).unwrap();
    assert_eq!(normative::report::check(&records).differences, Vec::<String>::new());
    let mut changed = 0;
    for outcome in records.outcomes.values_mut() {
        let normative::report::Outcome::Done(entries) = outcome else { continue };
        for entry in entries {
            let normative::report::Entry::Finding(finding) = entry else { continue };
            for evidence in &mut finding.evidence {
                evidence.interval.to += evidence.interval.to.abs().max(1.0) / 1000.0;
                changed += 1;
            }
        }
    }
    assert!(changed > 0);
    assert_eq!(normative::report::check(&records).differences.len(), changed);
}

//! `cargo xtask tools`: each form of `parity/tools.txt` in a namespace of this machine's kernel and under `belljar exec`, and the
//! table `docs/tools.md` of what came of it.
//!
//! Two outputs are the same when their lines are, numbers and the width of columns aside, and the exit codes as well.
use crate::tally::Tally;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const FORMS: &str = "parity/tools.txt";
const TABLE: &str = "docs/tools.md";
/// Seconds that one form may take.
const LIMIT: u32 = 10;

/// What a form printed, and its exit code behind it.
type Said = Vec<String>;

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// The first line that is otherwise: there, here.
    Differs(String, String),
    /// Linux does it; here it ends with an error.
    NotServed(String),
}

pub fn run(root: &Path) -> Tally {
    match compare(root) {
        Ok(rows) => {
            let same = rows.iter().filter(|r| r.1 == Verdict::Same).count();
            for (form, v) in rows.iter().filter(|r| r.1 != Verdict::Same) {
                println!("{form}\n    {v:?}");
            }
            println!("tools: {same} of {} forms print what they print on Linux", rows.len());
            let written = std::fs::write(root.join(TABLE), table(&rows));
            Tally::one(written.is_ok(), &format!("tools: {TABLE}: {written:?}"))
        }
        Err(e) => Tally::one(false, &format!("tools: {e}")),
    }
}

fn compare(root: &Path) -> Result<Vec<(String, Verdict)>, String> {
    let text = std::fs::read_to_string(root.join(FORMS)).map_err(|e| format!("{FORMS}: {e}"))?;
    let (setup, forms) = text.split_once("\n%%\n").ok_or("no line `%%` before the forms")?;
    let forms: Vec<&str> = forms.lines().filter(|l| !l.is_empty()).collect();
    let script = script(setup, &forms);
    let there = linux(&script)?;
    let here = belljar(root, &script)?;
    let rows = forms.iter().zip(there.iter().zip(&here)).map(|(f, (t, h))| ((*f).to_owned(), judge(t, h)));
    Ok(rows.collect())
}

/// All forms in one script, each between marks.
fn script(setup: &str, forms: &[&str]) -> String {
    let mut s = format!("export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin\n{setup}\n");
    for (n, form) in forms.iter().enumerate() {
        let quoted = form.replace('\'', r"'\''");
        let _ = writeln!(s, "echo '@@ {n}'\ntimeout {LIMIT} sh -c '{quoted}' 2>&1\necho \"@@ exit $?\"");
    }
    // What runs in the background ends with the namespace.
    s + "kill $! 2>/dev/null\n"
}

fn linux(script: &str) -> Result<Vec<Said>, String> {
    let out = Command::new("unshare")
        .args(["-mn", "sh", "-c", &format!("mount -t tmpfs t /run; mount -t sysfs s /sys\n{script}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| format!("unshare: {e}"))?;
    said(&out.stdout)
}

fn belljar(root: &Path, script: &str) -> Result<Vec<Said>, String> {
    let program = match std::env::var_os("BELLJAR_BIN") {
        Some(p) => p.into(),
        None => root.join("target/debug/belljar"),
    };
    // Where runtime directories are on Linux: programs count on the order in which such a file system lists a directory.
    let memory = Path::new("/dev/shm");
    let at = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let runtime = at.join(format!("belljar-tools-{}", std::process::id()));
    std::fs::create_dir_all(&runtime).map_err(|e| e.to_string())?;
    let command = |words: &[&str]| {
        let mut c = Command::new(&program);
        c.args(words).env("XDG_RUNTIME_DIR", &runtime).stdin(Stdio::null()).stderr(Stdio::null());
        c
    };
    // As many CPUs as there: files tell of each.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let mut jar = command(&["run", "--name", "tools", "--net", "none", "--cpus", &cpus, "--", "sleep", "1000"])
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("{}: {e}", program.to_string_lossy()))?;
    let there = || command(&["ps"]).output().is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("tools"));
    for _ in 0..100 {
        if there() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let out = command(&["exec", "tools", "--", "sh", "-c", script]).output().map_err(|e| e.to_string());
    let _ = jar.kill();
    let _ = jar.wait();
    let _ = command(&["ps"]).output();
    let _ = std::fs::remove_dir_all(&runtime);
    said(&out?.stdout)
}

fn said(out: &[u8]) -> Result<Vec<Said>, String> {
    let text = String::from_utf8_lossy(out);
    let mut all: Vec<Said> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("@@ ") {
            Some(n) if n.parse::<usize>().is_ok() => all.push(Vec::new()),
            _ => all.last_mut().map_or((), |s| s.push(line.to_owned())),
        }
    }
    if all.is_empty() { Err(format!("nothing was printed: {text}")) } else { Ok(all) }
}

/// Without numbers and the room between columns.
fn plain(line: &str) -> String {
    let mut out = String::new();
    for word in line.split_whitespace() {
        let mut number = false;
        for c in word.chars() {
            if c.is_ascii_digit() {
                if !number {
                    out.push('0');
                }
                number = true;
            } else {
                number = false;
                out.push(c);
            }
        }
        out.push(' ');
    }
    out.trim_end().to_owned()
}

fn judge(there: &[String], here: &[String]) -> Verdict {
    let code = |s: &[String]| s.last().and_then(|l| l.strip_prefix("@@ exit ")).map(str::to_owned);
    let ends = there.iter().map(Some).chain(std::iter::repeat(None));
    let pairs = ends.zip(here.iter().map(Some).chain(std::iter::repeat(None)));
    let first = pairs.take(there.len().max(here.len())).find(|(t, h)| {
        if t.is_some_and(|l| l.starts_with("@@")) && h.is_some_and(|l| l.starts_with("@@")) {
            return t != h;
        }
        t.map(|l| plain(l)) != h.map(|l| plain(l))
    });
    let text = |l: Option<&String>| l.map_or_else(String::new, |l| l.trim().to_owned());
    match first {
        None => Verdict::Same,
        Some((_, h)) if code(there).as_deref() == Some("0") && code(here).as_deref() != Some("0") => {
            Verdict::NotServed(text(h))
        }
        Some((t, h)) => Verdict::Differs(text(t), text(h)),
    }
}

fn table(rows: &[(String, Verdict)]) -> String {
    let cell = |s: &str| {
        let cut: String = s.chars().take(90).collect();
        if cut.is_empty() { "nothing".to_owned() } else { format!("`{}`", cut.replace('|', "\\|").replace('`', "'")) }
    };
    let same = rows.iter().filter(|r| r.1 == Verdict::Same).count();
    let mut s = format!(
        "# Tools of the distribution, here and on Linux\n\nEach form was run in a namespace of Linux and under `belljar exec`, in this \
         order and in the same network\n(`parity/tools.txt`; `cargo xtask tools` writes this table). *Same*: the same lines and exit \
         code, numbers and widths of\ncolumns aside. {same} of {} are.\n\n| form | |\n|---|---|\n",
        rows.len()
    );
    for (form, v) in rows {
        let said = match v {
            Verdict::Same => "same".to_owned(),
            Verdict::Differs(t, h) => format!("differs: Linux {}, here {}", cell(t), cell(h)),
            Verdict::NotServed(h) => format!("not served: {}", cell(h)),
        };
        let _ = writeln!(s, "| `{}` | {said} |", form.replace('|', "\\|"));
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_widths_do_not_count() {
        let v = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Said>();
        let there = v(&["a  10 b", "@@ exit 0"]);
        assert_eq!(judge(&there, &v(&["a 9    b ", "@@ exit 0"])), Verdict::Same);
        assert_eq!(judge(&there, &v(&["a b", "@@ exit 0"])), Verdict::Differs("a  10 b".into(), "a b".into()));
        assert_eq!(judge(&there, &v(&["no", "@@ exit 1"])), Verdict::NotServed("no".into()));
        assert!(script("true", &["echo 'x'"]).contains(r"sh -c 'echo '\''x'\'''"));
    }
}

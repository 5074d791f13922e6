//! Where a report goes: looked at before the run, written whole or not at all after it.
use crate::out::Fail;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A place that can be written.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    /// Beside it, under a name of our own, until it is complete; a device or pipe is written as it is.
    part: Option<PathBuf>,
}

fn failed(path: &Path, e: &io::Error) -> Fail {
    Fail::new(format!("{}: cannot be written: {}", path.display(), belljar_host::words(e))).code(125)
}

impl Target {
    /// Tries it out and leaves nothing behind.
    pub fn check(path: &Path) -> Result<Target, Fail> {
        let fail = |e: io::Error| failed(path, &e);
        // Through a link to what it names: the link stays.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(m) if m.is_dir() => return Err(fail(io::ErrorKind::IsADirectory.into())),
            Ok(m) if !m.is_file() => {
                File::options().write(true).open(&path).map_err(fail)?;
                return Ok(Target { path, part: None });
            }
            Ok(_) => drop(File::options().write(true).open(&path).map_err(fail)?),
            Err(_) => {}
        }
        let mut name = path.file_name().ok_or_else(|| fail(io::ErrorKind::IsADirectory.into()))?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        File::options().write(true).create_new(true).open(&part).map_err(fail)?;
        fs::remove_file(&part).map_err(fail)?;
        Ok(Target { path, part: Some(part) })
    }

    pub fn write(&self, text: &str) -> Result<(), Fail> {
        let Some(part) = &self.part else {
            let mut f = File::options().write(true).open(&self.path).map_err(|e| failed(&self.path, &e))?;
            return f.write_all(text.as_bytes()).map_err(|e| failed(&self.path, &e));
        };
        let whole = || {
            let mut f = File::options().write(true).create_new(true).open(part)?;
            f.write_all(text.as_bytes())?;
            fs::rename(part, &self.path)
        };
        whole().map_err(|e| {
            let _ = fs::remove_file(part);
            failed(&self.path, &e)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("belljar-report-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("r.html");
        let t = Target::check(&path).unwrap();
        assert!(fs::read_dir(&dir).unwrap().next().is_none());
        t.write("one").unwrap();
        Target::check(&path).unwrap().write("two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        std::os::unix::fs::symlink(&path, dir.join("link")).unwrap();
        Target::check(&dir.join("link")).unwrap().write("three").unwrap();
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), fs::read_dir(&dir).unwrap().count()), ("three", 2));
        let e = Target::check(&dir.join("no/such.html")).unwrap_err();
        assert_eq!((e.code, format!("{e:?}").contains("such.html: cannot be written: No such file")), (125, true));
        assert!(format!("{:?}", Target::check(&dir).unwrap_err()).contains("irectory"));
        Target::check(Path::new("/dev/null")).unwrap().write("x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        // Its directory goes away while the program runs.
        let t = Target::check(&path).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(t.write("x").unwrap_err().code, 125);
    }
}

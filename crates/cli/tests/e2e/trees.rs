//! `--with-proc`: the trees of /proc and /sys as programs walk them, and as a hostile one tries to leave them.
use crate::harness::{Env, Out, Test, test};
use anyhow::{Result, ensure};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

pub fn tests() -> Vec<Test> {
    vec![
        test("trees_as_on_the_host", &["python3"], trees_as_on_the_host),
        test("files_of_the_trees", &["python3", "ip", "nsenter"], files_of_the_trees),
        test("devices_in_files", &["python3", "ip"], devices_in_files),
        test("trees_for_a_shell", &[], trees_for_a_shell),
        test("trees_for_a_static_program", &["go"], trees_for_a_static_program),
        test("trees_below_the_working_directory", &[], trees_below_the_working_directory),
        test("memory_in_files", &["awk", "free"], memory_in_files),
        test("trees_are_no_way_out", &["python3"], trees_are_no_way_out),
    ]
}

/// Names, links, attributes and errors, from every side: the same lines as in a network namespace of the host's.
fn trees_as_on_the_host(env: &Env) -> Result<()> {
    let script = env.program("paths.py");
    let inside = format!(
        "ip link set lo up && ip tuntap add eth0 mode tap && ip link set eth0 up && \
         exec unshare -m sh -c 'mount -t sysfs none /sys && exec python3 {script} eth0'"
    );
    let host = env.finish(env.in_own_network("-c", &[&inside]), 60)?;
    ensure!(host.code == Some(0) && host.stdout.contains("away"), "on the host itself: {host:?}");
    let jar = env.run(&["--with-proc"], &["python3", &script, "eth0"])?.wait(60)?;
    let differ: Vec<_> = host.stdout.lines().zip(jar.stdout.lines()).filter(|(h, j)| h != j).collect();
    ensure!(
        host.stdout.lines().count() == jar.stdout.lines().count() && differ.is_empty(),
        "{differ:?}\n{}",
        jar.stderr
    );
    // Nothing of it stays on disk.
    let left: Vec<_> = fs::read_dir(env.runtime().join("belljar")).into_iter().flatten().flatten().collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// What stands for a file of the trees is one, and namespaces are files too: the same lines as on the host.
fn files_of_the_trees(env: &Env) -> Result<()> {
    as_on_the_host(env, "files.sh")
}

/// Attributes of devices, read and written, and files of `/proc/net`: the same lines as on the host.
fn devices_in_files(env: &Env) -> Result<()> {
    as_on_the_host(env, "sysfs.sh")
}

fn as_on_the_host(env: &Env, script: &str) -> Result<()> {
    let script = env.program(script);
    let inside = format!(
        "exec unshare -m sh -c 'mount -t sysfs none /sys && mount -t tmpfs none /run && mkdir /run/netns && mkdir host && \
         cd host && exec sh {script}'"
    );
    let host = env.finish(env.in_own_network("-c", &[&inside]), 60)?;
    ensure!(host.stdout.ends_with("done\n"), "on the host itself: {host:?}");
    let jar = env.run(&["--net", "none", "--with-proc"], &["sh", &script])?.wait(60)?;
    same_lines(&host.stdout, &jar)?;
    // Writes are calls of their own there; in another directory.
    let inside = format!("mkdir exact && cd exact && exec sh {script}");
    let exact = env.run(&["--net", "none", "--with-proc", "--exact"], &["sh", "-c", &inside])?.wait(60)?;
    same_lines(&host.stdout, &exact)
}

fn same_lines(host: &str, jar: &Out) -> Result<()> {
    let mut asked = "";
    for (there, here) in host.lines().zip(jar.stdout.lines().chain(std::iter::repeat("nothing"))) {
        asked = if there.starts_with(['$', '=']) { there } else { asked };
        ensure!(there == here, "{asked}\nLinux   {there}\nbelljar {here}\n{}{}", jar.stdout, jar.stderr);
    }
    Ok(())
}

fn trees_for_a_shell(env: &Env) -> Result<()> {
    let script = "ls /sys/class/net; ls /proc/sys/net/ipv4/conf; test -e /proc/net/if_inet6 && echo there; \
                  readlink /sys/class/net/eth0; cat /sys/class/net/*/mtu; cd /proc/net && head -n1 if_inet6; \
                  cat if_inet6 /proc/$$/net/if_inet6 /proc/self/net/if_inet6 | sort | uniq -c | grep -vc ' 3 '; \
                  find /proc/sys/net/ipv4/conf/eth0 -name rp_filter; ls -d /proc/net/* | grep -c tcp";
    let out = env.run(&["--with-proc", "--mtu", "1400"], &["sh", "-c", script])?.wait(30)?;
    let want = "eth0\nlo\nall\ndefault\neth0\nlo\nthere\n../../devices/virtual/net/eth0\n1400\n65536\n\
                00000000000000000000000000000001 01 80 10 80       lo\n0\n/proc/sys/net/ipv4/conf/eth0/rp_filter\n2\n";
    ensure!(out.stdout == want && out.code == Some(0), "{out:?}");
    Ok(())
}

/// `cd` to a device that this machine has too leads to the machine's directory; what is read and written there by name is
/// the stack's all the same, also by the path that `pwd -P` shows.
fn trees_below_the_working_directory(env: &Env) -> Result<()> {
    let script = "ip link set lo mtu 1234; cd /sys/class/net/lo && cat mtu; d=$(pwd -P); cat $d/mtu; cd $d/.. && cat lo/mtu; \
                  if cd /sys/class/net/eth0 2>/dev/null; then cat mtu; d=$(pwd -P); cat $d/mtu; else echo 1400; echo 1400; fi";
    let out = env.run(&["--with-proc", "--mtu", "1400"], &["sh", "-c", script])?.wait(30)?;
    ensure!(out.stdout == "1234\n1234\n1234\n1400\n1400\n" && out.code == Some(0), "{out:?}");
    Ok(())
}

/// The machine's memory is that of `--mem`, and its files add up.
fn memory_in_files(env: &Env) -> Result<()> {
    let script = "set -- $(awk '/^(MemTotal|MemFree|Slab):/ { print $2 }' /proc/meminfo); echo $1; \
                  test $(($1 - $2)) -eq $3 && echo adds up; awk '{ print $4, NF }' /proc/buddyinfo; \
                  free -k | awk '/^Mem:/ { print $2 }'; cat /proc/sys/net/ipv4/tcp_rmem";
    let out = env.run(&["--with-proc", "--mem", "64M"], &["sh", "-c", script])?.wait(30)?;
    let want = "64512\nadds up\nDMA 15\nDMA32 15\n64512\n4096\t131072\t504000\n";
    ensure!(out.stdout == want && out.code == Some(0), "{out:?}");
    Ok(())
}

/// No library between it and the calls.
fn trees_for_a_static_program(env: &Env) -> Result<()> {
    let source = env.write(
        "tree.go",
        b"package main\nimport (\"fmt\"; \"os\")\nfunc main() {\n\
          e, err := os.ReadDir(\"/sys/class/net\"); fmt.Println(len(e), err)\n\
          l, err := os.Readlink(\"/sys/class/net/eth0\"); fmt.Println(l, err)\n\
          s, err := os.Stat(\"/proc/sys/net/core/somaxconn\"); fmt.Println(s.Mode(), err)\n\
          b, err := os.ReadFile(\"/sys/class/net/eth0/address\"); fmt.Print(string(b), err, \"\\n\")\n}\n",
    )?;
    let binary = env.file("tree");
    let mut build = env.user("go");
    build.args(["build", "-o", &binary, &source]).env("CGO_ENABLED", "0").env("GOCACHE", &env.shared);
    build.env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off");
    let built = env.finish(build, 110)?;
    ensure!(built.code == Some(0), "{built:?}");
    let out = env.run(&["--with-proc"], &[&binary])?.wait(30)?;
    let want = "2 <nil>\n../../devices/virtual/net/eth0 <nil>\n-rw-r--r-- <nil>\n52:55:0a:00:02:0f\n<nil>\n";
    ensure!(out.stdout == want, "{out:?}");
    Ok(())
}

/// Whatever a program does with paths, it reaches no file of the host's that it could not reach without us.
fn trees_are_no_way_out(env: &Env) -> Result<()> {
    let nothing = "nothing reached (many calls raced)\n";
    let secret = env.write("secret", b"SECRET\n")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o0))?;
    let open = env.file("open");
    let made = env.finish(
        {
            let mut c = env.user("mkdir");
            c.arg(&open);
            c
        },
        10,
    )?;
    ensure!(made.code == Some(0), "{made:?}");
    let uid = fs::metadata(&secret)?.uid().to_string();
    let out = env.run(&["--with-proc"], &["python3", &env.program("hostile.py"), &secret, &open, &uid])?.wait(90)?;
    ensure!(out.stdout == nothing, "{out:?}");
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(());
    }
    // Only a supervisor that is root has programs with less rights than itself.
    let args = [env.belljar_path(), env.program("hostile.py")];
    let root = env.finish(env.in_own_network(&env.program("hostile.sh"), &[&args[0], &args[1]]), 90)?;
    ensure!(root.stdout == format!("{nothing}untouched\n"), "{root:?}");
    Ok(())
}

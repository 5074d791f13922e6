//! Runs one experiment over a range of seeds and prints what failed: `seeds random 0 1000 [K=V]...`; TRACE=1 prints the
//! trace of each run.
use belljar_lab::{RunOptions, run};

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "random".into());
    let mut number = |or: u64| args.next().and_then(|a| a.parse().ok()).unwrap_or(or);
    let (from, to) = (number(0), number(10));
    let set: Vec<(String, String)> =
        args.filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_string(), v.to_string()))).collect();
    let mut failed = 0;
    for seed in from..to {
        let trace: Option<belljar_lab::Sink> =
            std::env::var("TRACE").is_ok().then(|| Box::new(|line: &str| print!("{line}")) as belljar_lab::Sink);
        let quiet = std::env::var("QUIET").is_ok();
        let start = std::time::Instant::now();
        let twice = std::env::var("TWICE").is_ok();
        let r = run(&name, RunOptions { seed, set: set.clone(), twice, trace }).unwrap();
        let took = start.elapsed().as_millis();
        if !quiet || took > 5000 {
            println!(
                "seed {seed}: {took} ms, {} steps, {} s virtual, {}",
                r.steps,
                r.virtual_ns / 1_000_000_000,
                r.fingerprint.digest
            );
            r.text.iter().for_each(|t| println!("  {t}"));
        }
        if let Some(f) = &r.failure {
            failed += 1;
            println!("FAILED seed {seed}: {f}");
        }
    }
    println!("{failed} of {} failed", to - from);
}

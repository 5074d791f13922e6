//! What hard links showed against Linux, each with what Linux does there (docs/goodput.md).
use belljar_lab::{Report, RunOptions, run};

fn go(seed: u64, cell: &str, algorithm: &str) -> Report {
    let set = [("cell", cell), ("algorithm", algorithm), ("check", "0")];
    let set = set.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
    let r = run("goodput", RunOptions { seed, set, ..RunOptions::default() }).unwrap();
    assert_eq!(r.failure, None, "{}", r.replay);
    r
}

fn figure(r: &Report, name: &str) -> f64 {
    r.figures.iter().find(|f| f.0 == name).map(|f| f.1).unwrap()
}

/// Linux sends 18 to 29 segments again, 16 to 21 of them because the queue was full. Here it was six times that:
/// segments whose mark had been taken back were marked again, and slow start did not end while SACKs came.
#[test]
fn reordering_is_no_loss() {
    for seed in 1..4 {
        let r = go(seed, "reorder", "cubic");
        assert!(figure(&r, "goodput") > 18.5e6 && figure(&r, "retransmissions") < 40.0, "{:?}", r.text);
    }
}

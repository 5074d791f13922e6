//! `belljar link`: the conditions of a jar's links, shown and changed while it runs.
use crate::out::{self, Done, Fail};
use belljar_jar::control::{Client, Request};
use belljar_link::Conditions;
use clap::Args;
use serde_json::Value as Json;

#[derive(Args, Debug)]
#[command(after_help = "\
Conditions: delay TIME [JITTER], jitter TIME, loss P, duplicate P, corrupt P, reorder P, rate
            RATE, limit PACKETS, ecn PACKETS, police RATE, burst BYTES; none takes all away. What
            is not named stays as it is.

Examples: belljar link web                          shows them
          belljar link web delay 40ms loss 5%
          belljar link web none
          belljar link office/client:eth0 rate 1mbit   one link of several, by its name or an end")]
pub struct LinkCommand {
    /// The jar; in a network from a file, and which of its links (default: the one, or all to look at)
    #[arg(value_name = "JAR[/LINK]")]
    pub jar: String,
    /// Conditions to change, in the words of tc netem
    #[arg(value_name = "CONDITION VALUE")]
    pub set: Vec<String>,
    /// JSON
    #[arg(short, long)]
    pub json: bool,
}

pub fn run(c: &LinkCommand) -> Done {
    let set = pairs(&c.set)?;
    let (jar, link) = c.jar.split_once('/').map_or((c.jar.as_str(), None), |(j, l)| (j, Some(l.to_owned())));
    let mut client = Client::connect(jar)?;
    let now = client.value(&Request::Link { set, link })?;
    out::print(&if c.json { format!("{now}\n") } else { text(&now) })?;
    Ok(0)
}

/// Checks the words here, so that a typo never reaches the jar, and sends what changes as pairs.
fn pairs(words: &[String]) -> Result<Vec<(String, String)>, Fail> {
    Conditions::default().apply(words.iter().map(String::as_str)).map_err(Fail::usage)?;
    let mut out: Vec<(String, String)> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        if word == "none" {
            out.push(("none".into(), String::new()));
            continue;
        }
        let value = words.next().ok_or_else(|| Fail::usage(format!("{word} wants a value")))?;
        out.push((word.clone(), value.clone()));
        let jitter = words.next_if(|w| word == "delay" && w.starts_with(|c: char| c.is_ascii_digit()));
        out.extend(jitter.map(|j| ("jitter".to_owned(), j.clone())));
    }
    Ok(out)
}

/// The conditions on a line, then what passed each way; of several links one after another.
fn text(now: &Json) -> String {
    if let Some(links) = now["links"].as_array() {
        return links.iter().map(text).collect();
    }
    let name = now["name"].as_str();
    let mut out = name.map_or(String::new(), |n| format!("{n}: "));
    out.push_str(now["conditions"].as_str().unwrap_or("none"));
    if let Some(back) = now["back"].as_str() {
        out.push_str(&format!("; back {back}"));
    }
    out.push('\n');
    let arrows = if name.is_some() { ["->", "<-"] } else { ["host -> gw", "gw -> host"] };
    for (way, arrow) in ["out", "in"].into_iter().zip(arrows) {
        let Some(side) = now.get(way) else { continue };
        let n = |k: &str| side[k].as_u64().unwrap_or(0);
        out.push_str(&format!("{arrow}: {} packets, {} bytes, {} queued", n("sent"), n("bytes"), n("queued")));
        for what in ["lost", "duplicated", "corrupted", "reordered", "overlimit", "policed"] {
            if n(what) > 0 {
                out.push_str(&format!(", {} {what}", n(what)));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(s: &str) -> Vec<String> {
        s.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn words_become_pairs() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let expect = vec![pair("delay", "40ms"), pair("jitter", "5ms"), pair("loss", "5%")];
        assert_eq!(pairs(&words("delay 40ms 5ms loss 5%")).unwrap(), expect);
        assert_eq!(pairs(&words("none rate 1mbit")).unwrap(), [pair("none", ""), pair("rate", "1mbit")]);
        for bad in ["loss", "loss x%", "speed 3", "delay 20"] {
            assert_eq!(pairs(&words(bad)).unwrap_err().code, 2, "{bad}");
        }
    }

    #[test]
    fn conditions_as_text() {
        let side = serde_json::json!({"sent": 3, "bytes": 180, "queued": 0, "lost": 1});
        let now = serde_json::json!({"conditions": "limit 1000 loss 5%", "out": side});
        assert_eq!(text(&now), "limit 1000 loss 5%\nhost -> gw: 3 packets, 180 bytes, 0 queued, 1 lost\n");
    }
}

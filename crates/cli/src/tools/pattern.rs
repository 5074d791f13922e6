//! Extended regular expressions as `sysctl -r` takes them: `.`, `[...]`, `* + ?`, `|`, `( )`, `^`, `$` and `\\`. Left out:
//! repetitions in braces, back references, classes by name.
use std::collections::BTreeSet;

/// Longer ones are refused, and so is what nests more deeply.
const MAX_LEN: usize = 1024;
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug)]
enum Node {
    Any,
    Char(char),
    Class(Vec<(char, char)>, bool),
    Start,
    End,
    /// One of several ways; each is a sequence.
    Either(Vec<Vec<Node>>),
    Repeat(Box<Node>, bool, bool),
}

/// A pattern that is looked for anywhere in a text.
#[derive(Clone, Debug)]
pub struct Pattern(Node);

impl Pattern {
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.len() > MAX_LEN {
            return Err(format!("a pattern has at most {MAX_LEN} characters"));
        }
        let chars: Vec<char> = text.chars().collect();
        let mut p = Parser { chars: &chars, at: 0 };
        let node = p.either(0)?;
        if p.at < chars.len() {
            return Err("a ) without its (".to_owned());
        }
        Ok(Pattern(node))
    }

    pub fn is_in(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        !ends(&self.0, &text, &(0..=text.len()).collect()).is_empty()
    }
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn either(&mut self, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err("the pattern nests too deeply".to_owned());
        }
        let mut ways = vec![Vec::new()];
        while let Some(c) = self.peek().filter(|c| *c != ')') {
            self.at += 1;
            if c == '|' {
                ways.push(Vec::new());
                continue;
            }
            let mut node = self.one(c, depth)?;
            while let Some(how) = self.peek().filter(|c| matches!(c, '*' | '+' | '?')) {
                self.at += 1;
                node = Node::Repeat(Box::new(node), how != '+', how != '?');
            }
            if let Some(way) = ways.last_mut() {
                way.push(node);
            }
        }
        Ok(Node::Either(ways))
    }

    fn one(&mut self, c: char, depth: usize) -> Result<Node, String> {
        Ok(match c {
            '.' => Node::Any,
            '^' => Node::Start,
            '$' => Node::End,
            '\\' => Node::Char(self.take().ok_or("a \\ with nothing behind it")?),
            '*' | '+' | '?' => return Err(format!("{c} repeats nothing")),
            '{' => return Err("repetitions in braces are not understood".to_owned()),
            '[' => self.class()?,
            '(' => {
                let inner = self.either(depth + 1)?;
                self.take().ok_or("a ( without its )")?;
                inner
            }
            c => Node::Char(c),
        })
    }

    fn class(&mut self) -> Result<Node, String> {
        let without = self.peek() == Some('^');
        self.at += usize::from(without);
        let mut ranges = Vec::new();
        loop {
            let from = self.take().ok_or("a [ without its ]")?;
            if from == ']' && !ranges.is_empty() {
                return Ok(Node::Class(ranges, without));
            }
            let is_range = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']');
            self.at += usize::from(is_range);
            let to = if is_range { self.take().unwrap_or(from) } else { from };
            ranges.push((from, to));
        }
    }
}

/// Where a match that began at one of these places can end.
fn ends(node: &Node, text: &[char], from: &BTreeSet<usize>) -> BTreeSet<usize> {
    let step = |fits: &dyn Fn(char) -> bool| {
        from.iter().filter(|at| text.get(**at).is_some_and(|c| fits(*c))).map(|at| at + 1).collect()
    };
    match node {
        Node::Any => step(&|_| true),
        Node::Char(want) => step(&|c| c == *want),
        Node::Class(ranges, without) => step(&|c| ranges.iter().any(|r| r.0 <= c && c <= r.1) != *without),
        Node::Start => from.iter().copied().filter(|at| *at == 0).collect(),
        Node::End => from.iter().copied().filter(|at| *at == text.len()).collect(),
        Node::Either(ways) => {
            let one = |way: &Vec<Node>| way.iter().fold(from.clone(), |at, n| ends(n, text, &at));
            ways.iter().flat_map(one).collect()
        }
        Node::Repeat(inner, none, many) => {
            let once = ends(inner, text, from);
            let mut all = if *none { from.union(&once).copied().collect() } else { once.clone() };
            let mut new = once;
            while *many && !new.is_empty() {
                new = ends(inner, text, &new).difference(&all).copied().collect();
                all.extend(&new);
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_found_as_procps_finds_them() {
        let is = |p: &str, t: &str| Pattern::new(p).unwrap().is_in(t);
        for (pattern, text) in [
            ("tcp_sack$", "net.ipv4.tcp_sack"),
            ("^net\\.core", "net.core.somaxconn"),
            ("tcp_(r|w)mem", "net.ipv4.tcp_wmem"),
            ("conf.*rp_filter", "net.ipv4.conf.all.rp_filter"),
            ("v[46]", "net.ipv6.x"),
            ("[^a-z.0-9_]+", "net.ipv4.conf.br-0"),
            ("x*", ""),
            ("(ab)+$", "cabab"),
            ("(a*)*b", "aaaab"),
        ] {
            assert!(is(pattern, text), "{pattern} in {text}");
        }
        for (pattern, text) in [("tcp_sack$", "net.ipv4.tcp_sacks"), ("^core", "net.core"), ("a+", "b"), ("a.c", "ac")]
        {
            assert!(!is(pattern, text), "{pattern} in {text}");
        }
        for bad in ["(", ")", "[a", "*", "a{2}", "\\"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
        assert!(Pattern::new(&"(".repeat(200)).is_err() && is(&"(a*)*".repeat(50), &"a".repeat(99)));
    }
}

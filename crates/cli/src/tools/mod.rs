//! The commands that look into a running jar or at this machine; the viewing ones print what the program of their name
//! prints.
pub mod cable;
pub mod dmesg;
pub mod doctor;
pub mod exec;
pub mod ip;
mod ip_set;
mod ip_text;
pub mod link;
pub mod netstat;
mod netstat_words;
pub mod nstat;
pub mod path;
pub mod ps;
pub mod run;
pub mod ss;
mod ss_filter;
mod ss_info;
pub mod sysctl;
pub mod tables;
pub mod tc;
mod tc_act;
mod tc_opt;
mod tc_out;
mod tc_text;
pub mod tcpdump;
pub mod trace;
pub mod up;

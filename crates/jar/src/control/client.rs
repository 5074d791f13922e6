//! The client side of the control socket, as the commands use it.
use super::frame::{Reader, write_message};
use super::{Hello, JarInfo, Reply, Request};
use belljar_host::rundir;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;

/// Why a jar could not be asked, or what it said no to.
#[derive(Debug)]
pub enum ClientError {
    /// No such jar; the living ones.
    NoJar(String, Vec<String>),
    Io(io::Error),
    /// Another version of belljar runs the jar.
    Version(String),
    /// The jar's own answer.
    Refused {
        message: String,
        code: u8,
    },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NoJar(name, living) if living.is_empty() => {
                write!(f, "no jar named '{name}' is running, and no other either")
            }
            ClientError::NoJar(name, living) => {
                write!(f, "no jar named '{name}' is running; running: {}", living.join(", "))
            }
            ClientError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => f.write_str("the jar ended"),
            ClientError::Io(e) => write!(f, "cannot speak with the jar: {e}"),
            ClientError::Version(s) => f.write_str(s),
            ClientError::Refused { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(e: io::Error) -> ClientError {
        ClientError::Io(e)
    }
}

/// A connection to a jar.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    reader: Reader,
    /// The supervisor's greeting.
    pub hello: Hello,
}

impl Client {
    /// Connects to the jar `name`.
    pub fn connect(name: &str) -> Result<Client, ClientError> {
        let dir = rundir::dir()?;
        let living = rundir::living(&dir)?;
        let Some(jar) = living.iter().find(|l| l.name == name) else {
            return Err(ClientError::NoJar(name.to_owned(), living.into_iter().map(|l| l.name).collect()));
        };
        let socket = UnixStream::connect(&jar.socket)?;
        let mut reader = Reader::default();
        write_message(&socket, &Hello::ours(), &[])?;
        let hello: Hello = reader.read_message(&socket)?;
        match hello.mismatch() {
            Some(sentence) => Err(ClientError::Version(sentence)),
            None => Ok(Client { socket, reader, hello }),
        }
    }

    /// Sends a request, with descriptors, without waiting for the answer.
    pub fn send(&mut self, request: &Request, fds: &[RawFd]) -> Result<(), ClientError> {
        Ok(write_message(&self.socket, request, fds)?)
    }

    /// Waits for the next answer; a refusal is an error.
    pub fn receive(&mut self) -> Result<Reply, ClientError> {
        match self.reader.read_message(&self.socket)? {
            Reply::Error { message, code } => Err(ClientError::Refused { message, code }),
            reply => Ok(reply),
        }
    }

    /// The next answer if it is here already: it may have come together with the one before, and then the socket never
    /// becomes readable for it.
    pub fn arrived(&mut self) -> Result<Option<Reply>, ClientError> {
        match self.reader.take()? {
            Some(Reply::Error { message, code }) => Err(ClientError::Refused { message, code }),
            reply => Ok(reply),
        }
    }

    pub fn request(&mut self, request: &Request, fds: &[RawFd]) -> Result<Reply, ClientError> {
        self.send(request, fds)?;
        self.receive()
    }

    /// A request whose answer is a value.
    pub fn value(&mut self, request: &Request) -> Result<serde_json::Value, ClientError> {
        match self.request(request, &[])? {
            Reply::Value { value } => Ok(value),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer {other:?}")).into()),
        }
    }

    /// The socket itself, to wait on beside other things.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }
}

/// The jars that run, with what each says about itself.
pub fn jars() -> Result<Vec<JarInfo>, ClientError> {
    let mut out = Vec::new();
    for l in rundir::living(&rundir::dir()?)? {
        // One that ends meanwhile, or speaks another version, is left out rather than failing the list.
        if let Ok(mut c) = Client::connect(&l.name)
            && let Ok(v) = c.value(&Request::Info)
            && let Ok(info) = serde_json::from_value(v)
        {
            out.push(info);
        }
    }
    Ok(out)
}

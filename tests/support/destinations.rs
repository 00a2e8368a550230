//! Stand-ins for the services that alerts go to: HTTP servers, with TLS too, and a mail server.
//! Their answers are as the services document them.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Discord's answer to a message.
pub const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// ntfy's.
pub const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// A request that a stand-in received.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// What a stand-in does with a request.
pub enum Reaction {
    /// Answers so.
    Answer(String),
    /// Says nothing, and keeps the connection.
    Hang,
    /// Answers 200 with a body of 10 GB.
    Endless,
}

/// An HTTP server on 127.0.0.1.
pub struct Destination {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    /// How many bytes it has written.
    pub written: Arc<AtomicU64>,
}

impl Destination {
    /// Answers all requests so.
    pub fn answering(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::reacting(move |_| Reaction::Answer(answer.clone()))
    }

    /// Asks `react` what to do, with the number of earlier requests.
    pub fn reacting(react: impl Fn(usize) -> Reaction + Send + Sync + 'static) -> Self {
        Self::over(|stream| Box::new(stream), react)
    }

    /// The same with TLS, and the certificate of `tests/support/tls`.
    pub fn with_tls(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::over(
            |stream| encrypted(stream, "localhost"),
            move |_| Reaction::Answer(answer.clone()),
        )
    }

    fn over(
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static,
        react: impl Fn(usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (requests, written) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
        let destination = Self {
            port,
            requests: Arc::clone(&requests),
            written: Arc::clone(&written),
        };

        let react = Arc::new(react);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = wrap(stream.expect("a connection"));
                let (requests, written) = (Arc::clone(&requests), Arc::clone(&written));
                let react = Arc::clone(&react);
                std::thread::spawn(move || serve(stream, &requests, &written, &*react));
            }
        });
        destination
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

fn serve(
    mut stream: Box<dyn Stream>,
    requests: &Mutex<Vec<Request>>,
    written: &AtomicU64,
    react: &dyn Fn(usize) -> Reaction,
) {
    let Some(request) = read_request(&mut stream) else {
        return;
    };
    let reaction = {
        let mut requests = requests.lock().expect("no panic");
        requests.push(request);
        react(requests.len() - 1)
    };

    match reaction {
        Reaction::Answer(answer) => {
            stream.write_all(answer.as_bytes()).ok();
            stream.flush().ok();
        }
        Reaction::Hang => std::thread::sleep(Duration::from_secs(60)),
        Reaction::Endless => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n";
            let block = [b'x'; 65_536];
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() {
                written.fetch_add(block.len() as u64, Ordering::Relaxed);
                sent = stream.write_all(&block);
            }
        }
    }
}

fn read_request(stream: &mut Box<dyn Stream>) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" if lines.is_empty() => return None,
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }

    let path = lines[0].split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length?.1.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        path,
        headers,
        body: String::from_utf8(body).ok()?,
    })
}

/// The certificate authority that signed the certificate of the stand-ins, for SSL_CERT_FILE.
pub fn authority() -> PathBuf {
    tls_file("authority.pem")
}

fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/support/tls")
        .join(name)
}

/// The server's side of TLS, with one of the certificates of `tests/support/tls`.
fn encrypted(stream: TcpStream, certificate: &str) -> Box<dyn Stream> {
    let pem = tls_file(&format!("{certificate}.pem"));
    let certificates = CertificateDer::pem_file_iter(pem).expect("a file");
    let certificates = certificates.map(|read| read.expect("PEM")).collect();
    let key = tls_file(&format!("{certificate}.key"));
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .expect("a certificate");
    let connection = ServerConnection::new(Arc::new(config)).expect("TLS");
    Box::new(StreamOwned::new(connection, stream))
}

/// How a mail server encrypts, with the certificate of this name.
#[derive(Clone, Copy)]
pub enum Encryption {
    None,
    /// It offers STARTTLS, and sends a line too much before TLS begins.
    StartTls(&'static str),
    /// It offers STARTTLS and refuses it.
    Broken,
    FromStart(&'static str),
}

/// A mail server that takes every mail.
pub struct MailServer {
    pub address: SocketAddr,
    conversations: Arc<Mutex<Vec<Vec<String>>>>,
}

impl MailServer {
    /// One without encryption on 127.0.0.1. `refusal` is its answer to RCPT.
    pub fn start(refusal: Option<&'static str>) -> Self {
        Self::listen("127.0.0.1", Encryption::None, refusal)
    }

    pub fn encrypting(address: &str, encryption: Encryption) -> Self {
        Self::listen(address, encryption, None)
    }

    fn listen(address: &str, encryption: Encryption, refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            conversations: Arc::default(),
        };
        let conversations = Arc::clone(&server.conversations);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let lines = converse(&stream.expect("a connection"), encryption, refusal);
                conversations.lock().expect("no panic").push(lines);
            }
        });
        server
    }

    /// The lines of the conversations that have ended; `TLS` where encryption began.
    pub fn conversations(&self) -> Vec<Vec<String>> {
        self.conversations.lock().expect("no panic").clone()
    }
}

fn converse(tcp: &TcpStream, encryption: Encryption, refusal: Option<&str>) -> Vec<String> {
    let tcp = || tcp.try_clone().expect("a clone");
    let mut lines = Vec::new();
    let mut stream: BufReader<Box<dyn Stream>> = BufReader::new(Box::new(tcp()));
    let begin_tls = |lines: &mut Vec<String>, certificate: &str| {
        lines.push("TLS".to_owned());
        BufReader::new(encrypted(tcp(), certificate))
    };
    if let Encryption::FromStart(certificate) = encryption {
        stream = begin_tls(&mut lines, certificate);
    }

    let mut is_data = false;
    say(&mut stream, "220 mail.example ESMTP");
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return lines;
        }
        let line = line.trim_end().to_owned();
        let word = line.split(' ').next().unwrap_or_default().to_owned();
        lines.push(line);
        match (word.as_str(), encryption) {
            (".", _) if is_data => {
                is_data = false;
                say(&mut stream, "250 2.0.0 queued as 42");
            }
            _ if is_data => {}
            ("EHLO", Encryption::StartTls(_) | Encryption::Broken) => {
                say(
                    &mut stream,
                    "250-mail.example\r\n250-STARTTLS\r\n250 AUTH PLAIN",
                );
            }
            ("EHLO", _) => {
                say(
                    &mut stream,
                    "250-mail.example\r\n250-SIZE 1000000\r\n250 AUTH PLAIN",
                );
            }
            ("STARTTLS", Encryption::StartTls(certificate)) => {
                say(&mut stream, "220 go ahead\r\n550 injected");
                stream = begin_tls(&mut lines, certificate);
            }
            ("STARTTLS", _) => say(&mut stream, "454 4.7.0 TLS not available"),
            ("AUTH", _) => say(&mut stream, "235 2.7.0 accepted"),
            ("RCPT", _) => say(&mut stream, refusal.unwrap_or("250 2.1.5 ok")),
            ("DATA", _) => {
                is_data = true;
                say(&mut stream, "354 go ahead");
            }
            ("QUIT", _) => say(&mut stream, "221 bye"),
            _ => say(&mut stream, "250 ok"),
        }
    }
}

fn say(stream: &mut BufReader<Box<dyn Stream>>, answer: &str) {
    let stream = stream.get_mut();
    stream.write_all(format!("{answer}\r\n").as_bytes()).ok();
    stream.flush().ok();
}

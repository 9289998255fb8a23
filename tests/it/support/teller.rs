//! A history that answers queries as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request: its head, and its form, decoded.
pub(crate) type Asked = (String, BTreeMap<String, String>);

/// A server that gives each query the answer that `answer` makes of it: status line and body.
pub(crate) struct Teller {
    pub(crate) addr: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Teller {
    /// Starts it; it ends with the test. `answer` may take its time, and others wait then.
    pub(crate) fn start(
        answer: impl Fn(&BTreeMap<String, String>) -> (&'static str, String) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let (head, form) = request(&stream);
                let (status, body) = answer(&form);
                log.lock().expect("no test panics here").push((head, form));
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                // The client may hang up when it has seen enough.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            }
        });
        Self { addr, asked }
    }

    /// `query@time` of all that was answered.
    pub(crate) fn queries(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no test panics here");
        asked
            .iter()
            .map(|(_, form)| format!("{}@{}", form["query"].replace('\n', ""), form["time"]))
            .collect()
    }
}

fn request(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body).expect("the whole form");
    (head, form_urlencoded::parse(&body).into_owned().collect())
}

/// A matrix of series, each with its labels as JSON and its values.
pub(crate) fn matrix(series: &[(&str, &str)]) -> (&'static str, String) {
    let series: Vec<_> = series
        .iter()
        .map(|(labels, values)| format!(r#"{{"metric":{{{labels}}},"values":[{values}]}}"#))
        .collect();
    let result = series.join(",");
    ("200 OK", format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}"#))
}

//! Runs the whole program in process, asks it for its health over HTTP, and stops it.
//!
//! `cargo run --example embed`

use std::io::{Read, Write};

use promantis::app::{App, Origin, Source};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let source =
        Source { origin: Origin::Text("journal: {path: memory}"), listen: Some("127.0.0.1:0".parse()?) };
    let app = App::start(source.load()?, source).await?;
    let addr = app.addr();
    let answer = tokio::task::spawn_blocking(move || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(addr)?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    println!("{}", answer.await??);
    app.stop().await;
    Ok(())
}

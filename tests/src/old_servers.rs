//! Servers that say they are older than what will do, and nothing more: enough of a protocol to be asked for the version.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// The code of a request for TLS in PostgreSQL's first message.
const WANTS_TLS: [u8; 4] = [4, 210, 22, 47];

/// A PostgreSQL of this version; its address and port. It ends with the test's process.
///
/// # Panics
/// When there is no port for it.
#[must_use]
pub fn postgres(version: &'static str) -> String {
    serve(move |stream| {
        let mut stream = stream;
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut message = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
            stream.read_exact(&mut message)?;
            if message != WANTS_TLS {
                break;
            }
            stream.write_all(b"N")?;
        }
        let said = [
            [b"R".as_slice(), &8_u32.to_be_bytes(), &0_u32.to_be_bytes()].concat(),
            message(b'S', &[b"server_version\0", version.as_bytes(), b"\0"].concat()),
            message(b'K', &[0; 8]),
            message(b'Z', b"I"),
        ];
        stream.write_all(&said.concat())?;
        // Whatever is asked then has no answer.
        stream.read_to_end(&mut Vec::new()).map(drop)
    })
}

/// A Redis of this version; its address and port. It ends with the test's process.
///
/// # Panics
/// When there is no port for it.
#[must_use]
pub fn redis(version: &'static str) -> String {
    serve(move |stream| {
        let mut answers = stream.try_clone()?;
        let mut commands = BufReader::new(stream);
        while let Some(command) = read_command(&mut commands)? {
            let answer = match command.first().map(|word| word.to_ascii_uppercase()).as_deref() {
                Some("PING") => "+PONG\r\n".to_owned(),
                Some("INFO") => {
                    let text = format!("# Server\r\nredis_version:{version}\r\n");
                    format!("${}\r\n{text}\r\n", text.len())
                }
                _ => "+OK\r\n".to_owned(),
            };
            answers.write_all(answer.as_bytes())?;
        }
        Ok(())
    })
}

fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 4).unwrap_or(4);
    [[kind].as_slice(), &length.to_be_bytes(), payload].concat()
}

/// The words of one command; none at the end of the connection.
fn read_command(lines: &mut impl BufRead) -> std::io::Result<Option<Vec<String>>> {
    let mut line = || -> std::io::Result<Option<String>> {
        let mut line = String::new();
        Ok((lines.read_line(&mut line)? > 0).then(|| line.trim_end().to_owned()))
    };
    let Some(count) = line()?.and_then(|line| line.strip_prefix('*')?.parse::<usize>().ok()) else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        // The length, and the word itself, which holds no line break in what a client says first.
        line()?;
        words.extend(line()?);
    }
    Ok(Some(words))
}

fn serve(answer: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no port: {error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("no port: {error}"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is none of this server's affairs.
            let _ = answer(stream);
        }
    });
    address.to_string()
}

//! The workspace of a run as a tar archive, written file by file.

use std::collections::VecDeque;

use berth_sdk::{
    http::{Next, Stream},
    prelude::*,
};

use crate::workspace;

/// The media type of an archive.
pub const MEDIA_TYPE: &str = "application/x-tar";
/// The largest archive that is sent whole; larger ones are streamed.
pub const WHOLE_BYTES_MAX: i64 = 16 * 1024 * 1024;

const BLOCK: usize = 512;
/// The longest name of a plain header.
const NAME_BYTES_MAX: usize = 100;

/// The archive, piece by piece.
pub fn stream(execution_id: Id) -> Stream {
    let mut last = String::new();
    let mut ready: VecDeque<Vec<u8>> = VecDeque::new();
    let mut has_ended = false;
    Stream::new(MEDIA_TYPE, move || {
        if let Some(piece) = ready.pop_front() {
            return Next::Item(piece);
        }
        if has_ended {
            return Next::End;
        }
        match workspace::file_after(&execution_id, &last) {
            Ok(Some((path, content, changed_at))) => {
                let piece = entry(&path, &content, changed_at);
                last = path;
                Next::Item(piece)
            }
            Ok(None) => {
                has_ended = true;
                Next::Item(end())
            }
            Err(problem) => {
                // An archive without its end is seen to be broken.
                logging::error!("an archive ends too early", problem = problem);
                Next::End
            }
        }
    })
}

/// The archive whole.
pub fn whole(execution_id: &Id) -> Result<Vec<u8>> {
    let (_, bytes) = workspace::size(execution_id)?;
    if bytes > WHOLE_BYTES_MAX {
        return Err(Problem::too_large(
            "The archive is too large to come whole: use artifacts/archive, which streams.",
        ));
    }
    let mut archive = Vec::new();
    let mut last = String::new();
    while let Some((path, content, changed_at)) = workspace::file_after(execution_id, &last)? {
        archive.extend(entry(&path, &content, changed_at));
        last = path;
    }
    archive.extend(end());
    Ok(archive)
}

/// One file: header, content, and blanks up to a whole block.
fn entry(path: &str, content: &[u8], changed_at: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 4 * BLOCK);
    if path.len() > NAME_BYTES_MAX {
        // A long name goes before, as an extended header of its own.
        let record = pax(path);
        bytes.extend(header("PaxHeaders/path", record.len(), changed_at, b'x'));
        push(&mut bytes, record.as_bytes());
    }
    bytes.extend(header(path, content.len(), changed_at, b'0'));
    push(&mut bytes, content);
    bytes
}

fn push(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend_from_slice(content);
    let over = content.len() % BLOCK;
    if over > 0 {
        bytes.resize(bytes.len() + BLOCK - over, 0);
    }
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

/// `<length> path=<path>\n`, where the length counts itself.
fn pax(path: &str) -> String {
    let rest = format!(" path={path}\n");
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    format!("{length}{rest}")
}

fn header(path: &str, size: usize, changed_at: Timestamp, kind: u8) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut field = |text: &str, width: usize| {
        let mut end = text.len().min(width);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        block.extend_from_slice(text.get(..end).unwrap_or_default().as_bytes());
        block.resize(block.len() + width - end, 0);
    };
    field(path, NAME_BYTES_MAX);
    field("0000644\0", 8);
    field("0000000\0", 8);
    field("0000000\0", 8);
    field(&format!("{size:011o}\0"), 12);
    field(&format!("{:011o}\0", changed_at.millis().max(0) / 1000), 12);
    field("        ", 8);
    field(std::str::from_utf8(&[kind]).unwrap_or("0"), 1);
    field("", 100);
    field("ustar\x0000", 8);
    field("", BLOCK - 265);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    block.splice(148..156, text.bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use berth_sdk::clock::Timestamp;

    use super::{BLOCK, end, entry, pax};

    #[test]
    fn lengths_count_themselves() {
        for length in [1, 90, 91, 92, 93, 988, 989, 990] {
            let record = pax(&"x".repeat(length));
            let (said, _) = record.split_once(' ').unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn entries_are_whole_blocks() {
        for size in [0, 1, 511, 512, 513] {
            assert_eq!(entry("a", &vec![7; size], Timestamp::from_millis(0)).len() % BLOCK, 0);
        }
    }

    #[test]
    fn tar_reads_the_archive() {
        let long = format!("deep/{}/file.txt", "ä".repeat(90));
        let mut archive = entry("src/a.txt", b"one\n", Timestamp::from_millis(1_700_000_000_000));
        archive.extend(entry(&long, b"two", Timestamp::from_millis(0)));
        archive.extend(end());
        let Ok(mut tar) = std::process::Command::new("tar")
            .args(["-tf", "-", "--quoting-style=literal"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
        else {
            return;
        };
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        let names = String::from_utf8(output.stdout).unwrap();
        assert_eq!(names.lines().collect::<Vec<_>>(), ["src/a.txt", long.as_str()]);
    }
}

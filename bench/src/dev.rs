//! `dev`: a small change is saved again and again while `berth dev` watches, and this says how long it takes to be served.
//!
//! Measured from outside: from the moment the file is written to the first answer with the new word. What `berth dev` and
//! the host say of the parts stands beside it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::{Client, Host, Manifest, Slot, Workshop, guests};

use crate::hello::median;

/// Saves where nothing is said.
const SAVES: usize = 10;
/// What is promised of the median.
const WANTED: Duration = Duration::from_secs(2);
/// How long one save may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(5);

const NAME: &str = "notes";
const SCAFFOLD: &str = include_str!("../../xtask/src/scaffold/lib.rs.txt");
const PACKAGE: &str = include_str!("../../xtask/src/scaffold/Cargo.toml.txt");
const MIGRATION: &str = include_str!("../../xtask/src/scaffold/items.sql.txt");
/// The change: what one more route answers.
const ROUTES: &str = "Router::new()";
const ROUTE: &str = "Router::new().get(\"/api/notes/word\", || Json(\"WORD\")).public()";

/// Where the time of one save went, in seconds.
#[derive(Default)]
struct Save {
    whole: f64,
    building: f64,
    preparing: f64,
}

/// `dev [saves]`.
pub(crate) async fn measure(arguments: &[String]) -> Result<()> {
    let saves = arguments.first().map_or(Ok(SAVES), |word| word.parse()).context("dev takes a number of saves")?;
    let mut workshop = Workshop::new(NAME, &workspace()?, &filled(PACKAGE));
    workshop.write(&format!("migrations/{NAME}/0001_items.sql"), &filled(MIGRATION));
    workshop.save(&source(0));
    let began = Instant::now();
    let component = workshop.build();
    println!("first build {:.1} s, {} KiB", began.elapsed().as_secs_f64(), std::fs::metadata(&component)?.len() / 1024);
    let slot = Slot::new(NAME, component, "/api/notes")
        .with("public = [\"/api/notes/word\"]\n[plugin.grant]\ntables = [\"notes_\"]\npublish = [\"notes.#\"]");
    let host = Host::with(Manifest::of([slot])).start().await;
    let client = host.client();
    workshop.develop(host.berth(&["dev", NAME]));
    until_served(&workshop, &client, 0).await?;
    until_said(&workshop, 1).await?;
    let mut measured = Vec::with_capacity(saves);
    for number in 1..=saves {
        let began = Instant::now();
        workshop.save(&source(number));
        until_served(&workshop, &client, number).await?;
        let whole = began.elapsed().as_secs_f64();
        let line = until_said(&workshop, number + 1).await?;
        let part = |word: &str| seconds_before(&line, word).with_context(|| format!("no {word} in: {line}"));
        let save = Save { whole, building: part(" building")?, preparing: part(" compiling and warming")? };
        println!(
            "save {number:>3}  {:.2} s: {:.2} building, {:.2} compiling and warming",
            save.whole, save.building, save.preparing
        );
        measured.push(save);
    }
    workshop.stop();
    let median = middle(&measured, |save| save.whole);
    println!(
        "median    {median:.2} s (wanted: under {:.0}): {:.2} building, {:.2} compiling and warming, {:.2} noticing, sending \
         and switching",
        WANTED.as_secs_f64(),
        middle(&measured, |save| save.building),
        middle(&measured, |save| save.preparing),
        middle(&measured, |save| save.whole - save.building - save.preparing),
    );
    ensure!(median < WANTED.as_secs_f64(), "a small change takes too long");
    Ok(())
}

/// This workspace's manifest with the one plugin in it, and everything else where it is.
fn workspace() -> Result<String> {
    let root = guests::root().canonicalize()?;
    let text = std::fs::read_to_string(root.join("Cargo.toml"))?;
    let lines = text.lines().filter(|line| !line.starts_with("default-members"));
    let lines = lines.map(|line| match line.starts_with("members") {
        true => "members = [\"components/NAME\"]".to_owned(),
        false => line.replace("path = \"", &format!("path = \"{}/", root.display())),
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn filled(template: &str) -> String {
    template.replace("{{kebab}}", NAME).replace("{{snake}}", NAME)
}

fn source(number: usize) -> String {
    filled(SCAFFOLD).replacen(ROUTES, &ROUTE.replace("WORD", &word(number)), 1)
}

fn word(number: usize) -> String {
    format!("word {number}")
}

async fn until_served(workshop: &Workshop, client: &Client, number: usize) -> Result<()> {
    let (wanted, began) = (format!("\"{}\"", word(number)), Instant::now());
    while client.get("/api/notes/word").await.text() != wanted {
        ensure!(began.elapsed() < PATIENCE, "it is not served: {}{}", workshop.log("said"), workshop.log("complained"));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The line that tells of the build with this number, counted from one.
async fn until_said(workshop: &Workshop, number: usize) -> Result<String> {
    let began = Instant::now();
    loop {
        let said = workshop.log("said");
        let mut lines = said.lines().filter(|line| line.contains("revision ") || line.contains("what serves is"));
        if let Some(line) = lines.nth(number - 1) {
            return Ok(line.to_owned());
        }
        ensure!(began.elapsed() < PATIENCE, "nothing is said of it: {said}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The number of seconds that stands before these words.
fn seconds_before(line: &str, words: &str) -> Option<f64> {
    line.split(words).next()?.strip_suffix(" s")?.rsplit([' ', '(']).next()?.parse().ok()
}

fn middle(measured: &[Save], of: impl Fn(&Save) -> f64) -> f64 {
    median(&measured.iter().map(of).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::seconds_before;

    #[test]
    fn the_parts_are_found_in_what_is_said() {
        let line = "notes: revision 2 serves, 1.42 s after the save (0.80 s building, 0.25 s compiling and warming)";
        assert_eq!(seconds_before(line, " building"), Some(0.8));
        assert_eq!(seconds_before(line, " compiling and warming"), Some(0.25));
        assert_eq!(seconds_before(line, " dreaming"), None);
    }
}

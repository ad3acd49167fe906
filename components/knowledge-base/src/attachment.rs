//! Files that hang on entries, small ones: their bytes are in the database.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_sdk::{prelude::*, router::Route};

use crate::entry::{self, Entry};

/// Bytes of one file.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// Files of one entry.
const COUNT_MAX: i64 = 20;

/// A file. Its bytes are apart.
#[entity(table = "kb_attachments", name = "attachment", sort = "createdAt")]
pub struct Attachment {
    /// The entry.
    #[field(parent = Entry)]
    pub entry_id: Id,
    /// The file's name.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// Its media type.
    #[field(min = 3, max = 100, plain)]
    pub media_type: String,
    /// Its bytes.
    pub size: i64,
    /// SHA-256.
    pub hash: String,
}

impl Rules for Attachment {
    fn scope() -> Option<Condition> {
        let Condition { sql, values } = <Entry as Rules>::scope()?;
        Some(Condition {
            sql: format!("\"entry_id\" IN (SELECT id FROM kb_entries WHERE deleted_at IS NULL AND {sql})"),
            values,
        })
    }

    fn check(&self, faults: &mut Faults) {
        if self.name.contains(['/', '\\', '"']) {
            faults.add("name", "must not have / \\ or \" in it");
        }
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '-' | '+' | '.');
        if self.media_type.matches('/').count() != 1 || !self.media_type.chars().all(fits) {
            faults.add("mediaType", "must be a media type, such as image/png");
        }
    }
}

/// A file as it is sent.
#[data]
pub struct Upload {
    #[field(min = 1, max = 200, plain)]
    name: String,
    #[field(default = "application/octet-stream", min = 3, max = 100, plain)]
    media_type: String,
    /// Base64, at most 2 MiB of bytes.
    #[field(min = 1, raw, pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]
    data: String,
}

/// `POST /api/knowledge/{id}/attachments`.
pub fn create(Params(id): Params<Id>, Json(upload): Json<Upload>) -> Result<Created<Stored<Attachment>>> {
    if upload.data.len() > BYTES_MAX.div_ceil(3) * 4 + 4 {
        return Err(Problem::too_large(format!("A file has at most {BYTES_MAX} bytes.")));
    }
    let bytes = STANDARD.decode(upload.data.trim()).map_err(|_| Problem::field("data", "must be base64"))?;
    if bytes.is_empty() || bytes.len() > BYTES_MAX {
        return Err(Problem::too_large(format!("A file has 1 to {BYTES_MAX} bytes.")));
    }
    let row = entry::transact(|transaction| {
        let entry = entity::read::<Entry>(transaction, &id)?;
        // Of two at once the second waits here, so that the limit holds.
        transaction.execute("UPDATE kb_entries SET version = version WHERE id = $1", params![&id])?;
        if Select::<Attachment>::new().equal("entry_id", &entry.id).count(transaction)? >= COUNT_MAX {
            let text = format!("An entry has at most {COUNT_MAX} files.");
            return Err(Problem::unprocessable(text).with_code("TOO_MANY_ATTACHMENTS"));
        }
        let attachment = Attachment {
            entry_id: entry.id.clone(),
            name: upload.name,
            media_type: upload.media_type.to_ascii_lowercase(),
            size: i64::try_from(bytes.len()).unwrap_or(0),
            hash: digest(&bytes),
        };
        let row = entity::create(transaction, attachment)?;
        transaction.execute("UPDATE kb_attachments SET bytes = $2 WHERE id = $1", params![&row.id, bytes])?;
        Ok(row)
    })?;
    Ok(Created(row))
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `GET /api/knowledge/{id}/attachments`.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Attachment>>>> {
    let entry = entity::read::<Entry>(&Pool, &id)?;
    Select::<Attachment>::new().equal("entry_id", &entry.id).page(&Pool, &query)
}

fn of_entry(database: &dyn Executor, id: &Id, attachment_id: &Id) -> Result<Stored<Attachment>> {
    entity::read::<Entry>(database, id)?;
    let row = entity::read::<Attachment>(database, attachment_id)?;
    if row.entry_id == *id { Ok(row) } else { Err(Problem::missing("attachment")) }
}

/// A file's bytes; a browser saves them and shows nothing.
pub struct File(Stored<Attachment>, Vec<u8>);

impl Answer for File {
    fn into_response(self) -> Result<Response> {
        let Self(row, bytes) = self;
        // Letters beyond ASCII have no place in this form of the header.
        let name: String = row.name.chars().map(|letter| if letter.is_ascii() { letter } else { '_' }).collect();
        Ok(Response::bytes(200, &row.media_type, bytes)
            .with_header("content-disposition", format!("attachment; filename=\"{name}\""))
            .with_header("x-content-type-options", "nosniff")
            .with_header("content-security-policy", "sandbox"))
    }

    fn describe(route: &mut Route) {
        route.answer(200, None, Some("application/octet-stream"));
    }
}

/// `GET /api/knowledge/{id}/attachments/{attachmentId}`.
pub fn read(Params((id, attachment_id)): Params<(Id, Id)>) -> Result<File> {
    let row = of_entry(&Pool, &id, &attachment_id)?;
    let found = database::query_one("SELECT bytes FROM kb_attachments WHERE id = $1", params![&row.id])?;
    let bytes: Option<Vec<u8>> = found.map_or(Ok(None), |found| found.get("bytes"))?;
    Ok(File(row, bytes.unwrap_or_default()))
}

/// `DELETE /api/knowledge/{id}/attachments/{attachmentId}`: whoever may change the entry may.
pub fn remove(Params((id, attachment_id)): Params<(Id, Id)>) -> Result<NoContent> {
    entry::transact(|transaction| {
        let row = of_entry(transaction, &id, &attachment_id)?;
        transaction.execute("DELETE FROM kb_attachments WHERE id = $1", params![&row.id])?;
        Ok(NoContent)
    })
}

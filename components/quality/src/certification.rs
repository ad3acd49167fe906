//! Certifications: what the organization holds, from whom, and until when.

pub mod expiry;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

/// The largest evidence, as JSON.
const EVIDENCE_BYTES_MAX: usize = 256 * 1024;

/// How far it has come.
#[choice]
pub enum CertificationStatus {
    /// Not begun.
    NotCertified,
    /// Somebody works on it.
    InProgress,
    /// Held.
    Certified,
    /// No longer held.
    Expired,
}

/// A certification.
#[entity(table = "compliance_certifications", name = "certification", sort = "certificationType")]
pub struct Certification {
    /// Such as `SOC 2 Type II`.
    #[field(filter, min = 1, max = 200, plain)]
    pub certification_type: String,
    /// How far it has come. Past its expiry a certified one becomes `expired` by itself.
    #[field(default = CertificationStatus::NotCertified)]
    pub status: CertificationStatus,
    /// Since when.
    pub issued_date: Option<Timestamp>,
    /// Until when.
    pub expiry_date: Option<Timestamp>,
    /// From whom.
    #[field(max = 200, plain)]
    pub certifying_body: Option<String>,
    /// Under which number.
    #[field(max = 200, plain)]
    pub certificate_number: Option<String>,
    /// What shows it.
    #[field(default)]
    pub evidence: Map<String, Value>,
    /// The last warning: so many days before its expiry.
    #[field(hidden, readonly)]
    pub warned_days: Option<i64>,
}

impl Certification {
    /// What a date means for the status.
    fn settle(&mut self, now: Timestamp) {
        if self.status == CertificationStatus::Certified && self.expiry_date.is_some_and(|expiry| expiry <= now) {
            self.status = CertificationStatus::Expired;
        }
    }
}

impl Rules for Certification {
    fn check(&self, faults: &mut Faults) {
        if let (Some(issued), Some(expiry)) = (self.issued_date, self.expiry_date)
            && expiry <= issued
        {
            faults.add("expiryDate", "must be after issuedDate");
        }
        if json!(self.evidence).to_string().len() > EVIDENCE_BYTES_MAX {
            faults.add("evidence", format!("must have at most {EVIDENCE_BYTES_MAX} bytes"));
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.settle(clock::now());
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        if self.expiry_date != old.expiry_date || self.status != old.status {
            self.warned_days = None;
        }
        self.settle(clock::now());
        Ok(())
    }
}

/// The routes of certifications.
pub fn routes() -> Router {
    const PATH: &str = "/api/compliance/certifications";
    Router::new()
        .entity::<Certification>(PATH)
        .get(PATH, |query: PageQuery| {
            expiry::settle();
            Select::<Certification>::new().page(&Pool, &query)
        })
        .summary("List every certification.")
        .get(&format!("{PATH}/{{id}}"), |Params(id): Params<Id>| {
            expiry::settle();
            entity::read::<Certification>(&Pool, &id)
        })
        .summary("Read a certification.")
}
